"""The runs that the page shows again: in memory, bounded, gone when the server ends."""

from __future__ import annotations

import json
import re
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any
from uuid import uuid4

from langchain_sgd.drawing.graph import path_data
from langchain_sgd.drawing.layout import layout
from langchain_sgd.events import Event, Planned, Voided
from langchain_sgd.proxy.engine import Finished, Piece, Text, ToolCalls
from langchain_sgd.proxy.limits import Limits
from langchain_sgd.proxy.wire import dumps, usage_json
from langchain_sgd.report import Report
from langchain_sgd.skeleton import Node, Skeleton

_SHOWN = 300
"""Characters of a question in the list."""
_TEXT, _PLANNED, _VOIDED = '{"type":"text",', '{"type":"planned",', '{"type":"voided",'
_SHORT = {"at_s": "at", "node_id": "node"}
_CAPITAL = re.compile(r"(?<!^)(?=[A-Z])")


@dataclass(slots=True)
class Record:
    """One run: what was asked, what happened, what it came to."""

    model: str
    question: str
    source: str
    """`page` or `api`."""
    race: str | None = None
    """The same for the runs that were asked together, to be shown side by side."""
    id: str = field(default_factory=lambda: uuid4().hex[:16])
    created: float = field(default_factory=time.time)
    status: str = "running"
    """Then a report's status, `undivided`, `stopped`, `failed` or `cancelled`."""
    wall_s: float | None = None
    report: Report | None = None
    events: list[str] = field(default_factory=list)
    """As JSON, in order."""
    size: int = 0
    _text: str | None = None
    """The whole answer, once it is there."""
    _parts: int = 0
    _began: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.size += _bytes_of(self.question)

    def note(self, piece: Piece) -> str:
        """Keep a piece, and give it as JSON."""
        return self._keep(self._json(piece))

    def failed(self, error: Mapping[str, Any]) -> str:
        """Keep how the run failed, and give it as JSON."""
        self.end("failed")
        return self._keep({"type": "error", "at": self.wall_s, **error})

    def end(self, status: str) -> None:
        """The run is over."""
        self.status = status
        self.wall_s = time.monotonic() - self._began

    @property
    def text(self) -> str:
        """The answer, as far as it has come."""
        if self._text is not None:
            return self._text
        return "".join(json.loads(each)["text"] for each in self.events if each.startswith(_TEXT))

    def summary(self) -> dict[str, Any]:
        """For the list of runs."""
        return {
            "id": self.id,
            "model": self.model,
            "question": " ".join(self.question.split())[:_SHOWN],
            "source": self.source,
            "race": self.race,
            "created": self.created,
            "status": self.status,
            "wall_s": self.wall_s if self.report is None else self.report.wall_s,
            "nodes": self._parts,
        }

    def _keep(self, event: Mapping[str, Any]) -> str:
        text = dumps(event)
        self.events.append(text)
        self.size += _bytes_of(text)
        return text

    def _json(self, piece: Piece) -> dict[str, Any]:
        match piece:
            case Text(text):
                return {"type": "text", "text": text, "at": time.monotonic() - self._began}
            case ToolCalls():
                return {"type": "tools"}
            case Finished(text, _, usage, report, stopped=stopped):
                self._text, self.report = text, report
                without = "stopped" if stopped else "undivided"
                self.end(without if report is None else report.status)
                told = None if report is None else report.to_json()
                return {"type": "done", "text": text, "usage": usage_json(usage), "report": told}
            case Planned(node, at_s):
                self._parts += 1
                return {"type": "planned", "node": node.model_dump(mode="json"), "at": at_s}
            case Voided():
                self._parts = 0
                return _event_json(piece)
            case _:
                return _event_json(piece)


def _bytes_of(text: str) -> int:
    return len(text.encode(errors="replace"))


def _event_json(event: Event) -> dict[str, Any]:
    """An event's name and plain values; what else it carries stands in the report too."""
    found: dict[str, Any] = {"type": _CAPITAL.sub("_", type(event).__name__).lower()}
    for each in fields(event):
        value = getattr(event, each.name)
        if value is None or isinstance(value, str | int | float):
            found[_SHORT.get(each.name, each.name)] = value
    return found


def with_graphs(events: Iterable[str]) -> Iterator[str]:
    """The events, with the graph after each one that changes it: only who looks at it pays for it."""
    drawing = Drawing()
    for event in events:
        yield event
        yield from drawing.after(event)


class Drawing:
    """The growing graph of a run, from its events."""

    def __init__(self) -> None:
        self._nodes: list[Node] = []

    def after(self, event: str) -> Iterator[str]:
        """The graph as an event, if this one changes it."""
        if event.startswith(_VOIDED):
            self._nodes.clear()
        if event.startswith(_PLANNED):
            self._nodes.append(Node.model_validate(json.loads(event)["node"]))
            yield dumps({"type": "graph", "graph": graph(self._nodes)})


def graph(nodes: Iterable[Node]) -> dict[str, Any]:
    """Where boxes and lines stand, as in a report's picture."""
    skeleton = Skeleton(nodes=tuple(nodes))
    places = layout(skeleton)
    return {
        "width": places.width,
        "height": places.height,
        "boxes": {node_id: [round(v, 1) for v in box] for node_id, box in places.boxes.items()},
        "lines": [
            {"from": before, "to": node.id, "d": path_data(places.line(before, node.id))}
            for node in skeleton.nodes
            for before in node.dependencies
        ],
    }


class History:
    """The last runs, newest first."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._records: OrderedDict[str, Record] = OrderedDict()

    def add(self, record: Record) -> None:
        """Keep a run, and forget the oldest that are too many."""
        self._records[record.id] = record
        self.trim()

    def trim(self) -> None:
        """Forget the oldest runs until the rest is small enough."""
        records, limits = self._records, self._limits
        while len(records) > limits.history or (
            len(records) > 1 and sum(r.size for r in records.values()) > limits.history_bytes
        ):
            records.popitem(last=False)

    def get(self, run_id: str) -> Record | None:
        """A run that is still known."""
        return self._records.get(run_id)

    def clear(self) -> None:
        """Forget all."""
        self._records.clear()

    def __iter__(self) -> Any:
        return iter(reversed(self._records.values()))
