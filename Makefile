# `make demo` and `make test` need git, make, Python 3.11 or newer and a package registry; no more.
# Each Python that runs: a shim of pyenv's stands on the path for Pythons that are not chosen, too.
PYTHONS ?= $(foreach minor,11 12 13 14,$(shell python3.$(minor) -c 'import sys; print(sys.executable)' 2>/dev/null))
PYTHON ?= $(firstword $(PYTHONS) python3)
VENV := .venv
BIN := $(VENV)/bin

.PHONY: setup demo recording docs test servers browser ecosystem workers lint types format lock newest pythons others clean

# What the demo needs. uv, taken from the index, installs at once what pip installs one by one, in a fifth of the
# processor time; where it finds no index (it does not read pip's settings), pip does the same. Bytecode is left to
# the first import: most modules are never imported.
$(VENV)/.demo: pyproject.toml constraints.txt
	$(PYTHON) -m venv --without-pip $(VENV)
	$(PYTHON) -m pip --python $(BIN)/python install --quiet --no-compile --constraint constraints.txt uv 2>$(VENV)/pip.log \
	  || { $(BIN)/python -m ensurepip >$(VENV)/pip.log && $(BIN)/python -m pip install --quiet --constraint constraints.txt uv; }
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable ".[embedded]" pip \
	  || { $(BIN)/python -m ensurepip >$(VENV)/pip.log && $(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable ".[embedded]"; }
	touch $@

# What developing and testing need beside it.
setup: $(VENV)/.ready

$(VENV)/.ready: $(VENV)/.demo
	$(BIN)/python -m pip install --quiet --upgrade --constraint constraints.txt pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[embedded]" --group dev
	touch $@

# A real question, planned and decoded by two real models on this machine, shown live.
# Its processes import the same modules: the first one's bytecode is for all.
demo: export PYTHONDONTWRITEBYTECODE :=
demo: $(VENV)/.demo
	$(BIN)/langchain-sgd demo

# The demo as the picture at the top of the README; on a machine that has nothing else to do.
recording: $(VENV)/.demo
	$(BIN)/langchain-sgd demo --plain --seed 7 --svg docs/race.svg

# The pages of docs/, with the options and the API from the code, in build/site. Broken links are errors.
docs: $(VENV)/.demo
	$(BIN)/python -m pip install --quiet --upgrade --constraint constraints.txt pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group docs
	$(BIN)/python docs/option_table.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet
	rm -f build/site/404.html # its links are right only where the site stands at the root
	$(BIN)/python docs/site_links.py build/site

test: setup
	$(BIN)/python -m pytest

# The same beliefs asked of real servers: llama.cpp's, on GGUF (default: the bundled model), and those at URLS.
# TGI_URL, a real TGI, is asked langchain-tests' standard suite, too.
servers: setup
	SGD_TEST_GGUF="$(GGUF)" SGD_TEST_URLS="$(URLS) $(TGI_URL)" TGI_URL="$(TGI_URL)" $(BIN)/python -m pytest tests/servers

# The live page in a real browser: needs chromium on the path, and npm for the accessibility checks.
browser: setup
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group browser
	cd tests/browser && npm install --no-package-lock --silent
	$(BIN)/python -m pytest tests/browser

# Agents, tracers and clients in their newest versions, in an environment of its own.
ecosystem:
	$(PYTHON) -m venv $(VENV)-ecosystem
	$(VENV)-ecosystem/bin/python -m pip install --quiet --upgrade pip
	$(VENV)-ecosystem/bin/python -m pip install --quiet --upgrade --editable ".[tgi,server]" --group ecosystem
	$(VENV)-ecosystem/bin/python -m pytest tests/ecosystem

# 32 users on two workers of a LangGraph server and the PostgreSQL at SGD_TEST_POSTGRES_URL; one worker is killed.
workers: setup
	$(PYTHON) -m venv $(VENV)-workers
	$(VENV)-workers/bin/python -m pip install --quiet --upgrade --editable ".[tgi]" aegra-api "sqlalchemy[asyncio]"
	$(BIN)/python -m tests.ecosystem.workers --python $(VENV)-workers/bin/python

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Resolve the newest versions that pyproject.toml allows and pin them for everybody; all extras and groups
# but `ecosystem`, which is for the newest versions. `make lock UPGRADE=` adds what is missing and changes no pin.
UPGRADE ?= --upgrade
lock: setup
	$(BIN)/uv pip compile pyproject.toml --all-extras --group dev --group docs --group browser --universal $(UPGRADE) \
	  --no-header --no-annotate --no-emit-index-url --output-file constraints.txt

# The whole suite on the newest versions, in an environment of its own.
newest:
	$(PYTHON) -m venv $(VENV)-newest
	$(VENV)-newest/bin/python -m pip install --quiet --upgrade pip
	$(VENV)-newest/bin/python -m pip install --quiet --upgrade --editable ".[embedded]" --group dev
	$(VENV)-newest/bin/python -m pytest

# The unit tests on each Python that is found, warnings as errors, each in an environment of its own.
pythons:
	@test -n "$(strip $(PYTHONS))" || { echo "No Python 3.11 to 3.14 was found: give PYTHONS=\"PATH ...\"."; exit 1; }
	@failed=; for python in $(PYTHONS); do \
	  here=$(VENV)-$$(basename $$python); \
	  { $$python -m venv $$here \
	    && $$here/bin/python -m pip install --quiet --upgrade pip \
	    && $$here/bin/python -m pip install --quiet $(UPGRADE) --editable ".[embedded]" --group test \
	    && $$here/bin/python -VV && $$here/bin/python -m pytest tests/unit; } || failed="$$failed $$python"; \
	done; test -z "$$failed" || { echo "Failed:$$failed"; exit 1; }

# The same with the pins, on each Python beside that of `make test`; nothing where no other is found.
OTHERS := $(filter-out $(PYTHON),$(PYTHONS))
others:
	$(if $(strip $(OTHERS)),$(MAKE) pythons PYTHONS="$(OTHERS)" UPGRADE="--constraint constraints.txt")

clean:
	rm -rf $(VENV) $(VENV)-newest $(VENV)-ecosystem $(VENV)-workers $(VENV)-python3* build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
