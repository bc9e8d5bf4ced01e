"""Imports go one way, and importing the package loads nothing heavy."""

from __future__ import annotations

import ast
import functools
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

import langchain_sgd

ROOT = Path(langchain_sgd.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))

LAYERS = (
    {"_version", "portal", "threaded", "errors", "expression_syntax"},
    {"stops", "surrogates", "prose"},
    {"expressions", "conversation", "message_dicts", "repetition", "files"},
    {"failures", "redaction", "discreet", "thoughts", "schema_argument"},
    {"_extras", "skeleton", "limits", "owner", "retry", "text", "wire", "server_urls", "keys"},
    {"prompt_texts", "prompt_pieces"},
    {"costs", "models", "prompts"},
    {"planning"},
    {"report"},
    {"events"},
    {"answer", "caching", "question", "journal"},
    {"tiers", "streams"},
    {"routing"},
    {"option_fields"},
    {"options"},
    {"bundled"},
    {"decoding"},
    {"recorder", "engine"},
    {"graph", "langgraph"},
    {"telling"},
    {"tool", "batches", "message_streams", "option_help"},
    {"faces"},
    {"runnable"},
    {"deciding", "undivided"},
    {"baselines", "chat"},
    {"probing", "findings", "drawing", "nodes"},
    {"speeds"},
    {"checking"},
    {"terminal", "server"},
    {"tgi", "embedded"},
    {"proxy"},
    {"argument_types"},
    {"argument_groups"},
    {"arguments"},
    {"cli", "judging", "mcp", "platform"},
    {"commands"},
    {"demo", "bench"},
    {"__main__"},
)
"""Rooms from the ground up; each may import the layers below it and itself. Others stand above all."""

LEAVES = {
    *("tgi", "embedded", "bench", "server", "platform", "judging", "cli", "commands", "demo"),
    *("terminal", "drawing", "proxy", "mcp"),
}
"""What the core never imports; it must run without them."""

CORE = set().union(*LAYERS[: LAYERS.index({"baselines", "chat"}) + 1])

ALLOWED = {
    "langgraph": {"graph", "langgraph", "runnable", "nodes", "platform", "bench"},
    "aiohttp": {"tgi", "embedded", "bench"},
    "text_generation": {"tgi", "bench"},
    "langchain_huggingface": {"tgi", "bench"},
    "starlette": {"proxy", "mcp"},
    "uvicorn": {"proxy"},
    "prometheus_client": {"proxy"},
    "mcp": {"mcp"},
    "numpy": {"embedded", "bench"},
    "torch": {"embedded"},
    "xllamacpp": {"embedded"},
    "openvino_genai": {"embedded"},
    "rich": {"terminal", "commands", "demo", "bench", "cli"},
}
"""Rooms that may import a library."""

WITHOUT_LANGCHAIN = {
    "errors",
    "stops",
    "surrogates",
    "thoughts",
    "text",
    "failures",
    "redaction",
    "skeleton",
    "events",
    "answer",
    "costs",
    "drawing",
}
WITHOUT_ASYNCIO = WITHOUT_LANGCHAIN | {"prompts", "report", "planning"}


def imported(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """Modules imported when the module is: not inside functions, not for type checkers only."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            assert node.module is not None
            yield node.module
            if node.module == "langchain_sgd":
                yield from (f"langchain_sgd.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            yield from imported(node.orelse)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from imported(ast.iter_child_nodes(node))


@functools.cache
def imports_of(path: Path) -> set[str]:
    return set(imported(ast.parse(path.read_text(encoding="utf-8")).body))


def room_of(module: str) -> str:
    return module.split(".")[1]


def room(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def layer(name: str) -> int:
    return next((place for place, rooms in enumerate(LAYERS) if name in rooms), len(LAYERS))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_arrows_go_one_way(path: Path) -> None:
    here = room(path)
    if here == "__init__":
        assert {m for m in imports_of(path) if m.startswith("langchain_sgd")} == {
            "langchain_sgd._version"
        }
        return
    for module in imports_of(path):
        library = module.split(".")[0]
        if library in ALLOWED:
            assert here in ALLOWED[library], f"{here} imports {module}"
        if here in WITHOUT_LANGCHAIN:
            assert library not in {"langchain_core", "langgraph"}
        if here in WITHOUT_ASYNCIO:
            assert library != "asyncio"
        if module.startswith("langchain_sgd."):
            there = room_of(module)
            assert there == here or layer(there) < layer(here), f"{here} imports {module}"
            assert not (here in CORE and there in LEAVES), f"the core imports {module}"
            # TGI's client and the engines stand alone; what is made *with* SGD for the bundled
            # models (their prompts, their training, their evaluation) may know all of it.
            alone = here == "tgi" or (
                here == "embedded" and path.relative_to(ROOT).parts[1] not in {"briefs", "train"}
            )
            known = {here, "errors", "expression_syntax", "expressions", "limits"}
            known |= {"_extras", "keys", "server_urls", "discreet", "schema_argument"}
            assert not alone or there in known, f"{path} imports {module}"


def test_torch_is_for_training_only() -> None:
    users = {path for path in MODULES if "torch" in {m.split(".")[0] for m in imports_of(path)}}
    assert {path.parent for path in users} <= {ROOT / "embedded" / "train"}


_PROBE = """
import json, sys
import langchain_sgd
alone = sorted(sys.modules)
import langchain_core.language_models, langchain_core.output_parsers, langchain_core.tools
import langgraph.graph, langgraph.func, langgraph.types
theirs = sorted(sys.modules)
for name in langchain_sgd.__all__:
    getattr(langchain_sgd, name)
print(json.dumps([alone, theirs, sorted(sys.modules)]))
"""


def test_importing_the_package_loads_nothing_heavy() -> None:
    done = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", _PROBE], capture_output=True, check=True, text=True
    )
    alone, theirs, ours = (
        {name.split(".")[0] for name in names} for names in json.loads(done.stdout)
    )
    heavy = {"langchain_core", "langgraph", "pydantic", "aiohttp", "httpx", "requests", "rich"}
    assert not alone & heavy
    never = {
        *("aiohttp", "text_generation", "langchain_huggingface", "huggingface_hub", "transformers"),
        *("torch", "numpy", "xllamacpp", "openvino_genai", "openvino", "rich"),
    }
    # What LangChain and LangGraph load themselves is theirs (LangSmith brings an HTTP client).
    assert not ours & (never - theirs)
    assert not {"httpx", "requests", "aiohttp"} & (ours - theirs)
    assert "langgraph" in ours
