"""Every file of `examples/` runs as its first lines say, and shows what it says that it shows."""

from __future__ import annotations

import ast
import asyncio
import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from langchain_sgd.embedded.server import EmbeddedServer
from tests.scripted_engine import Pace, ScriptedEngine
from tests.support.asked import asks_for
from tests.support.travel import REPLIES as TRAVEL
from tests.tgi_server import TGITestServer

EXAMPLES = Path(__file__).parents[2] / "examples"
POSTGRES = "SGD_TEST_POSTGRES_URL"


async def run(name: str, **environment: str) -> str:
    """What an example prints; a slow machine may take its time."""
    inherited = {
        k: v for k, v in os.environ.items() if not k.startswith(("LANGSMITH", "LANGCHAIN"))
    }
    example = await asyncio.create_subprocess_exec(
        sys.executable,
        EXAMPLES / name,
        env={**inherited, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, complained = (each.decode() for each in await example.communicate())
    assert example.returncode == 0, complained
    assert "Traceback" not in complained
    return said


def headings(text: str) -> int:
    return sum(line.startswith("## ") for line in text.splitlines())


def quickstart(said: str) -> bool:
    return headings(said) >= 2 and "complete in" in said and "tokens" in said


def approval(said: str) -> bool:
    planned, written = (line.split(": ")[1].split(", ") for line in said.splitlines())
    return len(planned) >= 2 and [part.strip() for part in written] == [
        part.strip() for part in planned[:-1]
    ]


def checkpoint(said: str) -> bool:
    return said.count("from the checkpoint") >= 2 and "failed" not in said


def research(said: str) -> bool:
    planned = said.splitlines()[0].removeprefix("planned: ").split(", ")
    restored = re.search(r"^from the checkpoint: (\d+)$", said, re.MULTILINE)
    repeated = re.search(r"^repeated: (\d+)%", said, re.MULTILINE)
    return bool(
        len(planned) >= 2
        and headings(said) == len(planned)
        and restored
        and int(restored[1]) >= 1
        and "[delivery]" in said
        and "Delivery: complete, cites delivery" in said
        and "unaccepted" not in said
        and repeated
        and int(repeated[1]) <= 5
    )


def tracing(said: str) -> bool:
    root, *below = said.splitlines()
    names = [line.split()[0] for line in below]
    return (
        root.startswith("SGDRunnable (chain)")
        and names[0] == "planner"
        and all(name.startswith("node:") for name in names[1:])
    )


def chain(said: str) -> bool:
    return headings(said) >= 2 and said.splitlines()[-1] == "['asked', 'brief']"


def agent_tool(said: str) -> bool:
    return "[write_brief:" in said and said.rstrip().endswith("Here is your brief.")


def agent_nodes(said: str) -> bool:
    return headings(said) >= 2 and ": clerk" in said


RUN_ALONE: dict[str, Callable[[str], bool]] = {
    "quickstart.py": quickstart,
    "approval.py": approval,
    "checkpoint.py": checkpoint,
    "research.py": research,
    "tracing.py": tracing,
    "chain.py": chain,
    "agent_tool.py": agent_tool,
    "agent_nodes.py": agent_nodes,
}
RUN_BELOW = {"endpoints.py", "postgres_checkpoint.py", "notebook.ipynb"}
ELSEWHERE = {
    "README.md",
    "langgraph_server",  # see test_langgraph_server
    "research",  # the notes of research.py
}


def test_every_example_is_run_and_listed() -> None:
    found = {path.name for path in EXAMPLES.iterdir() if not path.name.startswith((".", "__"))}
    assert found == {*RUN_ALONE, *RUN_BELOW, *ELSEWHERE}
    listed = (EXAMPLES / "README.md").read_text()
    assert all(f"`{name.rstrip('/')}" in listed for name in found - {"README.md"})


PACKAGES = {
    "langchain.": "`langchain`",
    "langgraph.checkpoint.sqlite": "`langgraph-checkpoint-sqlite`",
    "langgraph.checkpoint.postgres": "`langgraph-checkpoint-postgres`",
}
"""What is not in `langchain-sgd[embedded]`, and how it is named in the list."""


def test_what_an_example_needs_is_listed() -> None:
    rows = (EXAMPLES / "README.md").read_text().splitlines()
    for path in EXAMPLES.glob("*.py"):
        row = next(row for row in rows if row.startswith(f"| `{path.name}` |"))
        tree = ast.parse(path.read_text())
        imported = [n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module]
        for module, package in PACKAGES.items():
            needed = any(f"{name}.".startswith(module) for name in imported)
            assert needed == (package in row), (path.name, package)


@pytest.mark.parametrize("name", RUN_ALONE)
async def test_an_example(name: str) -> None:
    said = await run(name)
    assert RUN_ALONE[name](said), said


async def test_endpoints_says_what_is_to_be_set() -> None:
    example = await asyncio.create_subprocess_exec(
        sys.executable,
        EXAMPLES / "endpoints.py",
        env={name: value for name, value in os.environ.items() if name not in {"SMALL", "LARGE"}},
        stderr=asyncio.subprocess.PIPE,
    )
    complained = (await example.communicate())[1].decode()
    assert example.returncode == 1
    assert complained.startswith("Set LARGE to ")
    assert complained.count("\n") == 1


async def test_endpoints_by_their_urls() -> None:
    pace = Pace(plans_first=True)
    engines = {
        name: ScriptedEngine(TRAVEL, model_id=f"lab/{name}", pace=pace)
        for name in ("small", "large")
    }
    async with TGITestServer(engines) as server:
        urls = {name.upper(): server.url_of(name) for name in engines}
        assert "## Planes\n\nPlanes are loud." in await run("endpoints.py", **urls)
        assert [entry.path for entry in server.log].count("/small/v1/chat/completions") == 1


FOUND = {
    "Plan long answers": "1 Delivery\n2 Price\n3 Advice <1,2",
    "Write only part 1,": "Every parcel leaves Oakham on the same day [delivery].",
    "Write only part 2,": "It costs 49 dollars [price].",
    "Write only part 3,": "Every parcel leaves Oakham on the same day. So order before noon [delivery].",
    "": "An undivided answer.",
}


async def researched(says: dict[str, str]) -> tuple[str, dict[str, str]]:
    """What the example prints, and what the writer of each part was asked."""
    researcher = ScriptedEngine(says, model_id="lab/large", pace=Pace(plans_first=True))
    async with TGITestServer({"large": researcher}) as server:
        said = await run("research.py", MODEL=server.url_of("large"))
        prompts = [prompt for entry in server.log for prompt in entry.prompts]
    asked = {part: prompt for part in "123" for prompt in prompts if asks_for(prompt, part)}
    return said, asked


async def test_researched_parts_neither_repeat_nor_contradict_each_other() -> None:
    said, asked = await researched(FOUND)
    assert research(said), said
    assert "Wards that order twelve pay for ten" in asked["2"]
    # Each knows the others' subjects, and one that rests on others has their texts.
    assert all(
        heading in asked[part] for part in "123" for heading in ("Delivery", "Price", "Advice")
    )
    assert "It costs 49 dollars" in asked["3"]
    # What was said already is left out.
    assert said.count("Every parcel leaves Oakham on the same day") == 1
    assert "So order before noon [delivery]." in said
    assert "Advice: complete, cites delivery\n" in said


@pytest.mark.parametrize(
    "planted",
    [
        "At 45 dollars it is cheap [price].",  # no note says so
        "Send it back within 49 days [delivery].",  # another note's figure
        "It costs 30 dollars [price].",
    ],
)
async def test_a_researched_part_that_contradicts_its_notes_in_a_figure_is_told(
    planted: str,
) -> None:
    # The planted part contradicts another one, which says what the notes say.
    said, _ = await researched(
        {
            **FOUND,
            "Write only part 1,": "Send it back within 30 days [delivery].",
            "Write only part 3,": planted,
        }
    )
    assert "Delivery: complete, cites delivery\n" in said
    assert "Price: complete, cites price\n" in said
    assert "Advice: unaccepted, cites" in said


@pytest.mark.parametrize(
    "uncited",
    ["It costs 49 dollars.", "It costs 49 dollars [receipt].", "Sent at once [delivery]."],
)
async def test_a_researched_part_without_a_note_on_its_subject_is_refused(uncited: str) -> None:
    said, _ = await researched({**FOUND, "Write only part 2,": uncited})
    assert "Price: unaccepted, cites" in said
    assert "Delivery: complete, cites delivery\n" in said


async def test_a_researched_part_without_notes_invents_nothing() -> None:
    said, asked = await researched(
        {
            **FOUND,
            "Plan long answers": "1 Delivery\n2 Battery\n3 Guarantee",
            "Write only part 2,": "Its battery lasts for years.",
            "Write only part 3,": "The guarantee is like the return: 30 days [delivery].",
        }
    )
    # There is no note on it, so it was given those on the question, and named none.
    assert "2700 kelvin" in asked["2"]
    assert "## Battery\n\nThe notes say nothing about this." in said
    assert "lasts for years" not in said
    # What they say of another subject may be used.
    assert "30 days [delivery]" in said
    assert "Guarantee: complete, cites delivery\n" in said


async def test_postgres() -> None:
    if not (url := os.environ.get(POSTGRES)):
        pytest.skip(f"needs a PostgreSQL server: set {POSTGRES}")
    said = await run("postgres_checkpoint.py", POSTGRES_URL=url)
    assert said.count("from the database") >= 2
    assert "failed" not in said


# -- the notebook


def shown(source: str, names: dict[str, Any]) -> Any:
    """Run a cell as Jupyter does; the value of its last line, if that is an expression."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "<cell>", "exec"), names)  # noqa: S102 - our own notebook
    if last is None:
        return None
    assert isinstance(last, ast.Expr)
    return eval(compile(ast.Expression(last.value), "<cell>", "eval"), names)  # noqa: S307


async def test_the_notebook(capsys: pytest.CaptureFixture[str]) -> None:
    # In a coroutine, since a loop is running in every notebook.
    notebook = json.loads((EXAMPLES / "notebook.ipynb").read_text())
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    engine = ScriptedEngine(TRAVEL, model_id="lab/large", pace=Pace(plans_first=True))
    names: dict[str, Any] = {}
    with EmbeddedServer({"large": engine}) as server:  # in a thread: the cells are synchronous
        for number, cell in enumerate(cells, 1):
            source = "".join(cell["source"]).replace("http://localhost:8000", server.urls["large"])
            value = shown(source, names)
            gives = set(capsys.readouterr().out and ["stream"])
            if value is not None:
                gives.add("text/html" if hasattr(value, "_repr_html_") else "text/plain")
            # It is kept with what it gives, for those who only read it: all but the first cell give something.
            assert bool(gives) == (number > 1), number
            assert gives <= kept_of(cell) <= {"stream", "text/html", "text/plain"}, number
            assert cell["execution_count"] == number
    assert names["report"].status == "complete"
    assert "## " in "".join(cells[2]["outputs"][0]["text"])
    whole = json.dumps(notebook).replace("http://www.w3.org/2000/svg", "")
    assert ".gguf" not in whole
    assert not re.search(r"(?<![<\w])/\w+/\w", whole)  # no place on somebody's machine


def kept_of(cell: dict[str, Any]) -> set[str]:
    """Kinds of what is kept of a cell."""
    kept = cell["outputs"]
    streams = {
        output["output_type"] for output in kept if output["output_type"] != "execute_result"
    }
    return streams | {kind for output in kept for kind in output.get("data", ())}
