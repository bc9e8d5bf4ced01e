"""The pages of `docs/`: links lead somewhere, tables and names are the code's, Python blocks run."""

from __future__ import annotations

import argparse
import ast
import doctest
import importlib
import re
import runpy
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from langchain_sgd import ChatSGD, SGDRunnable
from langchain_sgd.arguments import BENCHES
from langchain_sgd.cli import parsed
from langchain_sgd.embedded.server import EmbeddedServer
from tests.scripted_engine import Pace, ScriptedEngine
from tests.support.travel import REPLIES

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
LINKED = [*PAGES, ROOT / "README.md", ROOT / "examples" / "README.md"]


def text_of(page: Path) -> str:
    """Without code, in which brackets are no links."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`\n]*`", "", text)


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(
        rf"^```{language}\n(.*?)^```$", page.read_text(), flags=re.DOTALL | re.MULTILINE
    )


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {
        re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings
    }


@pytest.mark.parametrize("page", LINKED, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        found = (page.parent / name).resolve() if name else page
        assert found.exists(), target
        # The site has the pages only.
        assert page.parent != DOCS or found.parent == DOCS, target
        assert not anchor or anchor in anchors(found), target


def test_every_page_is_in_the_site_and_every_entry_is_a_page() -> None:
    listed = re.findall(r"^  - [^:]+: (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert sorted(listed) == [page.name for page in PAGES]


def test_links_of_the_built_pages_are_checked(tmp_path: Path) -> None:
    """By `make docs`, which has what builds them."""
    links = {
        "b.html": None,
        "b.html#there": None,
        "#here": None,
        "sub/": None,
        "https://example.org/x": None,
        "data:image/png;base64,AAAA": None,
        "c.html": "is not there",
        "../a.html": "is not there",
        "b.html#elsewhere": "has no such place",
        "#nowhere": "has no such place",
        "/b.html": "is right only where the site stands at the root",
    }
    made = "".join(f'<a href="{link}">x</a>' for link in links)
    (tmp_path / "a.html").write_text(
        f'<p id="here">{made}<script src="https://example.org/x.js"></script>'
        '<link rel="next" href="https://example.org/">'
    )
    (tmp_path / "b.html").write_text('<p id="there"><img src="data:image/png;base64,AAAA">')
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "index.html").write_text('<a href="../a.html#here">x</a>')
    faults = runpy.run_path(str(DOCS / "site_links.py"))["faults"]
    wanted = [f"a.html: {link}: {fault}" for link, fault in links.items() if fault]
    assert list(faults(tmp_path)) == [
        *wanted,
        "a.html: https://example.org/x.js: is fetched from elsewhere",
    ]


def test_the_table_of_options_is_that_of_the_code() -> None:
    made = runpy.run_path(str(DOCS / "option_table.py"))
    text = (DOCS / "options.md").read_text()
    assert made["page"](text) == text, "run: make docs"
    assert "| `threshold` | `3` |" in text


@pytest.mark.parametrize(
    "name", re.findall(r"^::: (\S+)$", (DOCS / "api.md").read_text(), re.MULTILINE)
)
def test_every_name_of_the_reference_exists_and_says_what_it_is(name: str) -> None:
    module, _, member = name.rpartition(".")
    try:
        found: Any = importlib.import_module(name)
    except ModuleNotFoundError:
        found = getattr(importlib.import_module(module), member)
    assert found.__doc__


def messages(tree: ast.AST) -> Iterator[str]:
    """Every text of the code, `…` for what is put in."""
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(
                str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_every_warning_that_is_explained_is_given_somewhere() -> None:
    given = {
        text
        for path in (ROOT / "langchain_sgd").rglob("*.py")
        for text in messages(ast.parse(path.read_text()))
    }
    explained = re.findall(r"^### (.*)$", (DOCS / "troubleshooting.md").read_text(), re.MULTILINE)
    assert len(explained) >= 12
    for warning in explained:
        assert any(text.startswith(warning) for text in given), warning


PRINTED = {"options.md": "planner\ncached\n"}
"""What the blocks of a page print, beside an answer."""


@pytest.fixture
def urls() -> Iterator[Mapping[str, str]]:
    engines = {
        name: ScriptedEngine(REPLIES, model_id=f"lab/{name}", pace=Pace(plans_first=True))
        for name in ("small", "large")
    }
    with EmbeddedServer(engines) as server:
        yield server.urls


@pytest.mark.parametrize(
    "page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: page.name
)
def test_every_python_block_runs(
    page: Path, urls: Mapping[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    names: dict[str, Any] = {}
    for block in blocks(page, "python"):
        code = block.replace("http://gpu-1:8000", urls["small"])
        code = code.replace("http://gpu-2:8000", urls["large"])
        assert "gpu-" not in code
        exec(compile(code, page.name, "exec"), names)  # noqa: S102 - our own pages
    said = capsys.readouterr().out
    assert "Stay at home." in said
    assert PRINTED.get(page.name, "") in said


@pytest.mark.parametrize("value", [SGDRunnable, ChatSGD])
def test_the_example_of_help_runs(
    value: type, urls: Mapping[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    examples = doctest.DocTestParser().get_examples(value.__doc__ or "")
    code = "".join(example.source for example in examples)
    code = code.replace("http://gpu-1:8000", urls["small"])
    code = code.replace("http://gpu-2:8000", urls["large"])
    exec(compile(code, value.__name__, "exec"), {})  # noqa: S102 - our own docstring
    assert "Stay at home." in capsys.readouterr().out


COMMANDS = sorted(
    {
        (page.name, " ".join(command.split()))
        for page in LINKED
        for command in re.findall(r"(?:`|^)(langchain-sgd [^`\n]+)", page.read_text(), re.MULTILINE)
    }
)


@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_every_command_is_one(page: str, command: str, tmp_path: Path) -> None:
    """Its options exist; those that must name a file get one."""
    del page
    words = shlex.split(command, comments=True)[1:]
    if words[0] == "bench":
        assert all(name.rstrip(",") in BENCHES for name in words[1:2] if name != "NAME")
        return
    file = tmp_path / "x.gguf"
    file.touch()
    words = [
        w.replace("/models/x.gguf", str(file)).replace("answers.jsonl", str(file)) for w in words
    ]
    if "--help" not in words:
        assert isinstance(parsed(words), argparse.Namespace)
