"""The base install: what runs without any extra, and how a missing one is told."""

from __future__ import annotations

import importlib.metadata
import pickle
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from langchain_sgd._extras import MissingExtraError, require

_EXTRAS = ("aiohttp", "text_generation", "langchain_huggingface", "huggingface_hub", "langchain_openai",
           "openai", "langchain_ollama", "langchain", "xllamacpp", "openvino_genai", "numpy", "jinja2")  # fmt: skip

_BLOCK = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {modules!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocked())
"""
_PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]


def without(modules: Iterable[str], code: str) -> str:
    done = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, "-c", _BLOCK.format(modules=set(modules)) + code],
        check=True, capture_output=True, text=True, input="",
    )  # fmt: skip
    return done.stdout


def without_extras(code: str) -> str:
    return without(_EXTRAS, code)


def brought_by(extra: str) -> set[str]:
    """The packages that an install with this extra brings, those that they need among them."""
    found: set[str] = set()
    wanted = {(each, "") for each in _PROJECT["dependencies"]}
    wanted |= {(each, "") for each in _PROJECT["optional-dependencies"][extra]}
    seen: set[tuple[str, str]] = set()
    while wanted:
        seen.add(one := wanted.pop())
        requirement = Requirement(one[0])
        if requirement.marker and not requirement.marker.evaluate({"extra": one[1]}):
            continue
        name = canonicalize_name(requirement.name)
        for chosen in {"", *requirement.extras}:
            if name == "langchain-sgd":
                needs = _PROJECT["optional-dependencies"].get(chosen, [])
            else:
                try:
                    needs = importlib.metadata.requires(name) or []
                except importlib.metadata.PackageNotFoundError:
                    continue  # of another platform, or not for tests
            found.add(name)
            wanted |= {(each, chosen) for each in needs} - seen
    return found


def hidden_from(extra: str) -> set[str]:
    """Top-level modules that are here, but not where only this extra is installed."""
    brought = brought_by(extra)
    return {
        module
        for module, owners in importlib.metadata.packages_distributions().items()
        if not brought & {canonicalize_name(owner) for owner in owners}
        and module not in {"langchain_sgd", "tests"}
    }


def test_a_run_needs_no_extra() -> None:
    assert "complete 2" in without_extras("""
from langchain_sgd import ChatSGD, Report, SGDRunnable
from langchain_sgd import platform, checking, baselines, judging, drawing, terminal
from langchain_sgd.models import resolve
from tests.support.models import PLANNER, Stage, planning
from tests.support.skeletons import skeleton

resolve("http://gpu:8000")
stage = Stage({PLANNER: planning(skeleton("1", "2"))})
report = Report.from_message(SGDRunnable(**stage.pair()).invoke("Why?"))
ChatSGD(SGDRunnable(**stage.pair()))
print(report.status, len(report.nodes))
""")


_COMMAND = """
from langchain_sgd import cli
from langchain_sgd.proxy import serve
serve.serve = lambda app, host, port, tell: tell("http://here")
for command in {commands!r}:
    print("ended", cli.main([*command.split(), "--large", "http://127.0.0.1:9"]))
"""
_CLIENT = """
from langchain_sgd.models import ChatEndpoint, Server
for kind in {kinds!r}:
    model = ChatEndpoint(url="http://gpu:1")
    model._endpoints._servers[model.url] = Server(model.url, kind, model.url + "/v1", ("m",))
    print("ended", type(model.client()).__name__)
"""


@pytest.mark.parametrize(
    ("extra", "code", "said"),
    [
        ("server", _COMMAND.format(commands=["proxy"]), ["0"]),
        ("mcp", _COMMAND.format(commands=["mcp", "mcp --http", "proxy"]), ["0"] * 3),
        ("tgi", _CLIENT.format(kinds=["tgi"]), ["ChatTGI"]),
        ("openai", _CLIENT.format(kinds=["vllm", "tgi"]), ["ChatOpenAI"] * 2),
        ("ollama", _CLIENT.format(kinds=["ollama"]), ["ChatOllama"]),
    ],
)
def test_an_extra_brings_all_that_its_commands_need(extra: str, code: str, said: list[str]) -> None:
    lines = without(hidden_from(extra), code).splitlines()
    assert [line.split()[1] for line in lines if line.startswith("ended ")] == said


@pytest.mark.parametrize(
    ("code", "extra"),
    [
        ("from langchain_sgd.tgi import ChatTGI", "tgi"),
        ("from langchain_sgd.embedded.server import EmbeddedServer", "embedded"),
        ("from langchain_sgd.models import resolve; resolve('openai:gpt-5-nano')", "providers"),
    ],
)
def test_a_missing_extra_is_named(code: str, extra: str) -> None:
    said = without_extras(f"""
try:
    {code}
except ImportError as error:
    print(error)
""")
    assert f'pip install "langchain-sgd[{extra}]"' in said


def test_the_command_line_names_it_too() -> None:
    said = without_extras("""
from langchain_sgd.cli import main
sys.stderr = sys.stdout
print(main(["ask", "x"]))
""")
    assert said.endswith('pip install "langchain-sgd[embedded]"\n2\n')


def test_the_error_travels() -> None:
    error = MissingExtraError("This", "tgi", "aiohttp")
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert (str(again), again.extra, again.name) == (str(error), "tgi", "aiohttp")
    require("tgi", "json")
    with pytest.raises(MissingExtraError, match="no_such_module"):
        require("tgi", "no_such_module")
