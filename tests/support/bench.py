"""Rows as the benches keep them, made by hand."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from html.parser import HTMLParser
from typing import Any, cast

import pytest

from langchain_sgd.bench._measure import Journal
from langchain_sgd.report import Attempt, NodeReport, PlannerReport, Report, Usage
from langchain_sgd.skeleton import NodeId, Skeleton
from tests.support.reports import plain


def report(
    made: Skeleton | None,
    written: Mapping[str, int],
    *,
    plan: int | None = None,
    wall_s: float = 1.0,
    status: str | None = None,
    tier: str = "large",
    prompt: int = 100,
    cached: int = 0,
) -> dict[str, Any]:
    """A report as JSON.

    Args:
        made: The skeleton; None for a plain run, whose only node is `plain`.
        written: Output tokens of every node.
        plan: Output tokens of the planner; None if there was none.
        wall_s: Seconds of the run, and of each of its nodes.
        status: As the skeleton says if not given.
        tier: Who wrote the nodes.
        prompt: Prompt tokens of every node.
        cached: How many of them were cached.
    """

    def usage(tokens: int) -> Usage:
        return Usage(input_tokens=prompt, output_tokens=tokens, cached_tokens=cached)

    def attempt(tier: str, tokens: int) -> Attempt:
        return Attempt(tier=tier, started_s=0.0, ended_s=wall_s, usage=usage(tokens))

    planner = plan is not None and PlannerReport(
        source="planner", attempts=(attempt("planner", plan),), ended_s=0.1
    )
    return Report(
        status=cast("Any", status or ("plain" if made is None else "complete")),
        skeleton=made,
        planner=planner or None,
        nodes=tuple(
            NodeReport(
                id=NodeId(name),
                status="complete",
                tier=tier,
                answer=f"answer {name}",
                planned_s=0.0,
                ready_s=0.0,
                ended_s=wall_s,
                attempts=(attempt(tier, tokens),),
            )
            for name, tokens in written.items()
        ),
        ttft_s=wall_s / 10,
        wall_s=wall_s,
    ).to_json()


def row(
    method: str,
    question: str | int,
    wall_s: float = 1.0,
    /,
    *,
    error: str | None = None,
    **more: Any,
) -> dict[str, Any]:
    """A row of any bench; a failed one has no report, no answer and no first text."""
    made = plain().to_json()
    return {
        "method": method,
        "question_id": str(question),
        "category": "all",
        "question": f"Question {question}?",
        "wall_s": wall_s,
        "ttft_s": None if error else wall_s / 10,
        "answer": "" if error else f"answer {question}",
        "error": error,
        "report": None if error else {**made, "wall_s": wall_s},
        **more,
    }


# -- pages


_VOID = frozenset({"meta"})
_LOADING = ("src", "srcset", "href", "xlink:href", "data", "action", "poster", "background")


class Page(HTMLParser):
    """A page as a browser's parser sees it.

    Raises:
        AssertionError: The tags do not balance, or anything would be loaded.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.ids: list[str] = []
        self.texts: list[str] = []
        """What is shown, and what pictures say of themselves."""
        self.inside: list[tuple[str, str]] = []
        """Every text with the tag that it stands in."""
        self.classes: Counter[str] = Counter()
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == [], f"not closed: {self._open}"
        assert text.startswith("<!doctype html>")
        assert not self.tags.keys() & {"script", "link", "iframe", "img", "object", "embed"}

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        for name, value in attrs:
            assert not name.startswith("on"), f"<{tag} {name}> runs code"
            assert name not in _LOADING, f"<{tag} {name}> loads {value}"
            if name == "id":
                self.ids.append(str(value))
            if name == "class":
                self.classes[str(value)] += 1
            if name == "style":
                _assert_loads_nothing(str(value))
        if tag not in _VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        raise AssertionError(f"<{tag}/> is no HTML: {attrs}")

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> closes nothing"
        opened = self._open.pop()
        assert opened == tag, f"</{tag}> closes <{opened}>"

    def handle_data(self, data: str) -> None:
        where = self._open[-1] if self._open else ""
        if where == "style":
            _assert_loads_nothing(data)
        elif data.strip():
            self.texts.append(data)
            self.inside.append((where, data))

    def all(self, tag: str) -> list[str]:
        """The texts that stand right inside these tags."""
        return [text for where, text in self.inside if where == tag]


def _assert_loads_nothing(style: str) -> None:
    assert "url(" not in style
    assert "@import" not in style
    assert "&" not in style, "a style sheet is not unescaped"


def has_nan(text: str) -> bool:
    """Whether a figure that was not found is shown as such; `nan` inside of words does not count."""
    return re.search(r"(?<![a-z])nan(?![a-z])", text, re.IGNORECASE) is not None


def lines(path: Any) -> list[dict[str, Any]]:
    """The rows of a JSONL file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def full_disk(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Writing fails when there are so many rows."""
    add: Callable[..., None] = Journal.add

    def failing(self: Journal, row: Any, *key: str) -> None:
        if len(self) == after:
            raise OSError(28, "No space left on device")
        add(self, row, *key)

    monkeypatch.setattr(Journal, "add", failing)
