"""The run as data: what was planned, which model wrote which part, when, at what cost in tokens.

It travels as plain JSON in `response_metadata["sgd"]` of the answer; `Report.from_message` gives it back
typed. Times are seconds since the run began. A part that came from a checkpoint takes no time in the run
that restored it; its attempts keep the times of the run that made them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, Self

from langchain_core.messages import AIMessage
from pydantic import BaseModel, ConfigDict, ValidationError, computed_field, field_validator

from langchain_sgd.costs import PLANNER, Costs, Pricing, costs_of
from langchain_sgd.errors import InvalidInputError
from langchain_sgd.repetition import Overlap, overlap
from langchain_sgd.skeleton import NodeId, Skeleton

REPORT_KEY = "sgd"

AWAITING_APPROVAL = "awaiting_approval"
"""In the place of a status: the run stands still until a human has seen its skeleton."""


def awaits_approval(metadata: Mapping[str, Any]) -> bool:
    """Whether an answer's metadata tell of a run that waits for a human: there is no answer yet."""
    said = metadata.get(REPORT_KEY)
    return isinstance(said, Mapping) and said.get("status") == AWAITING_APPROVAL


NodeStatus = Literal["complete", "partial", "truncated", "unaccepted", "failed", "skipped"]
"""`partial`: one of its own parts is not complete; `truncated`: the answer breaks off; `unaccepted`: the
user's own check took none of the texts, and the last one is given; `skipped`: a dependency has no answer,
or `max_cost` left it out."""

RunStatus = Literal["complete", "partial", "plain"]
"""`partial`: a part is missing or cut; `plain`: one model answered undivided."""

Source = Literal["planner", "given", "approved", "cached"]
"""Where a skeleton came from."""


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Usage(_Value):
    """Tokens as the servers counted them; calls that reported none are not in it."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    """Input tokens that the server took from its prefix cache."""
    cache_write_tokens: int = 0
    """Input tokens that the server put into its prefix cache, where it counts them apart."""
    reasoning_tokens: int = 0
    """Output tokens of thoughts."""
    estimated: bool = False
    """Some of it was not counted by a server: a part that was ended at its length tells no tokens. Pieces of
    text stand for its output tokens, a quarter of its prompt's characters for its input tokens."""

    def __add__(self, other: Usage) -> Usage:
        counts = (name for name in Usage.model_fields if name != "estimated")
        summed = {name: getattr(self, name) + getattr(other, name) for name in counts}
        return Usage(**summed, estimated=self.estimated or other.estimated)


class Attempt(_Value):
    """One model call."""

    tier: str
    model: str | None = None
    """The model's own name, as its server gave it."""
    started_s: float
    """When its slot was free and the call went out."""
    first_token_s: float | None = None
    ended_s: float
    usage: Usage | None = None
    error: str | None = None
    """Why this attempt's text was not taken; None for the one that was."""


class NodeReport(_Value):
    """What became of one node."""

    id: NodeId
    heading: str = ""
    dependencies: tuple[NodeId, ...] = ()
    status: NodeStatus
    tier: str
    """The tier that gave the answer, or was tried last."""
    answer: str = ""
    answered_by: int | None = None
    """Index of the attempt whose text is the answer."""
    reasoning: str = ""
    """What its model gave as a thought, beside the answer."""
    annotations: tuple[Mapping[str, Any], ...] = ()
    """Citations and the like, as LangChain's text blocks have them; places are those in `answer`."""
    planned_s: float
    ready_s: float
    """When its dependencies had answers."""
    ended_s: float
    attempts: tuple[Attempt, ...] = ()
    error: str | None = None
    left_out: tuple[str, ...] = ()
    """Sentences that an earlier part had said already, with `cut_repeats`; they are not in `answer`."""
    restored: bool = False
    """Taken from a checkpoint; no model was called for it in this run."""
    parts: Report | None = None
    """Of a part that was planned and written in parts itself, the report of that: in place of the attempt
    that answered, whose tokens are their total. Its times are seconds since the whole run began."""

    @property
    def answering(self) -> Attempt | None:
        """The attempt whose text is the answer; the last one if there is none; None if none was made."""
        if not self.attempts:
            return None
        return self.attempts[-1 if self.answered_by is None else self.answered_by]

    @property
    def model(self) -> str | None:
        """Name of the model that gave the answer, or was asked last."""
        return self.answering.model if self.answering else None

    @property
    def started_s(self) -> float:
        """When the first call went out; `ended_s` if none did in this run."""
        return self.attempts[0].started_s if self.attempts and not self.restored else self.ended_s

    @property
    def first_token_s(self) -> float | None:
        """When the answering attempt's first token came, in the run that made it."""
        return self.answering.first_token_s if self.answering else None

    @property
    def queued_s(self) -> float:
        """Seconds between being ready and the first call: waiting for a slot."""
        return max(0.0, self.started_s - self.ready_s)

    @property
    def usage(self) -> Usage:
        """Tokens of all attempts, those that were discarded included."""
        return sum((a.usage for a in self.attempts if a.usage), Usage())

    @property
    def calls(self) -> Iterator[tuple[str, Attempt]]:
        """Every model call, by the name of its tier."""
        yield from ((attempt.tier, attempt) for attempt in self.own_attempts)
        if self.parts is not None:
            yield from ((f"{self.parts.prefix}{name}", call) for name, call in self.parts.calls)

    @property
    def own_attempts(self) -> tuple[Attempt, ...]:
        """Those that called a model, and not an `SGDRunnable` whose report is `parts`."""
        answered = None if self.parts is None else self.answered_by
        return tuple(a for index, a in enumerate(self.attempts) if index != answered)


class PlannerReport(_Value):
    """How the skeleton came to be."""

    source: Source
    attempts: tuple[Attempt, ...] = ()
    ended_s: float = 0.0
    hedge: Attempt | None = None
    """The plain answer that was begun beside the planner and stopped, as the question is split: with
    `opening=True`, or when a plan began like a refusal. Its tokens are estimated; servers do not tell them
    of a call that is stopped."""


class Report(_Value):
    """One run."""

    status: RunStatus
    reason: str | None = None
    """Why the run was plain."""
    opening: str = ""
    """The text before all parts, of a run with `opening=True`; empty for an undivided answer."""
    skeleton: Skeleton = Skeleton(nodes=())
    """Without nodes, and so false, for an undivided answer."""
    planner: PlannerReport | None = None
    nodes: tuple[NodeReport, ...] = ()
    """In skeleton order; of a plain run, the one call under the id `plain`."""
    warnings: tuple[str, ...] = ()
    ttft_s: float | None = None
    """When the first text of the answer could be shown."""
    wall_s: float
    restarted: bool = False
    """The streamed text holds something that was begun and then written again; an invoked one never."""
    thread_id: str | None = None
    """The checkpointer's thread, if the run was saved."""
    pricing: Pricing | None = None
    """From `prices=`; `costs` follows from it."""
    tier: str | None = None
    """Of a part's own run, by a tier that is an `SGDRunnable`: its name. It stands before those of its
    tiers, as in `deep/large`."""

    @field_validator("skeleton", mode="before")
    @classmethod
    def _of_older_reports(cls, value: Any) -> Any:
        return {"nodes": ()} if value is None else value

    @classmethod
    def from_message(cls, message: AIMessage) -> Self:
        """The report that an answer carries.

        Raises:
            InvalidInputError: The message carries none, or its run still awaits an approval.
        """
        data = message.response_metadata.get(REPORT_KEY)
        if not isinstance(data, dict):
            msg = (
                f"This message carries no report: response_metadata has no {REPORT_KEY!r}."
                " Only answers of SGDRunnable and ChatSGD do."
            )
            raise InvalidInputError(msg)
        if awaits_approval(message.response_metadata):
            msg = (
                "This run awaits the approval of its skeleton, so there is no report yet: look at"
                f" response_metadata[{REPORT_KEY!r}]['skeleton'] and resume with a Command"
            )
            raise InvalidInputError(msg)
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            places = ", ".join(".".join(map(str, fault["loc"])) for fault in error.errors())
            msg = f"What stands in response_metadata[{REPORT_KEY!r}] is no report: see {places}"
            raise InvalidInputError(msg) from error

    @property
    def prefix(self) -> str:
        """What stands before the names of its tiers in the report that it is a part of."""
        return f"{self.tier}/" if self.tier else ""

    @property
    def leaves(self) -> dict[str, NodeReport]:
        """What was written by one model each, in order: parts of parts under ids such as `3.1`."""
        found: dict[str, NodeReport] = {}
        for node in self.nodes:
            if node.parts is None or not node.parts.skeleton:
                found[node.id] = node
            else:
                found |= {f"{node.id}.{name}": leaf for name, leaf in node.parts.leaves.items()}
        return found

    @property
    def overlap(self) -> Overlap:
        """How much the parts repeat each other, and which: by runs of four words, linear in the text."""
        return overlap({name: leaf.answer for name, leaf in self.leaves.items()})

    @property
    def calls(self) -> Iterator[tuple[str, Attempt]]:
        """Every model call, by the name of its tier; the planner's under `planner`."""
        for attempt in self.planner.attempts if self.planner else ():
            yield PLANNER, attempt
        if self.planner is not None and (hedge := self.planner.hedge) is not None:
            yield hedge.tier, hedge
        for node in self.nodes:
            yield from node.calls

    @property
    def total_usage(self) -> Usage:
        """Tokens of all calls of the run."""
        return sum(self.usage.values(), Usage())

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types; the computed totals included."""
        return self.model_dump(mode="json")

    def __getitem__(self, node_id: str) -> NodeReport:
        for node in self.nodes:
            if node.id == node_id:
                return node
        raise KeyError(node_id)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def usage(self) -> dict[str, Usage]:
        """Tokens by tier, the planner's under `planner`; attempts that were discarded included."""
        totals: dict[str, Usage] = {}
        for name, attempt in self.calls:
            if attempt.usage is not None:
                totals[name] = totals.get(name, Usage()) + attempt.usage
        return totals

    @computed_field  # type: ignore[prop-decorator]
    @property
    def critical_path(self) -> tuple[NodeId, ...]:
        """The chain of nodes, first to last, that the run's end waited for."""
        ended = {node.id: node.ended_s for node in self.nodes}
        needs = {node.id: node.dependencies for node in self.skeleton.nodes if node.id in ended}
        path: list[NodeId] = []
        candidates = list(needs)
        while candidates:
            path.append(max(candidates, key=ended.__getitem__))
            candidates = [d for d in needs[path[-1]] if d in needs]
        return tuple(reversed(path))

    @computed_field  # type: ignore[prop-decorator]
    @property
    def decode_s(self) -> float:
        """Seconds of decoding, one node after the other; over `wall_s` it is the parallelism won."""
        fresh = [node for node in self.nodes if not node.restored]
        parts = sum(node.parts.decode_s for node in fresh if node.parts is not None)
        return parts + sum(a.ended_s - a.started_s for node in fresh for a in node.own_attempts)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def costs(self) -> Costs | None:
        """What the run cost, beside an estimate for plain decoding; None without `prices=`."""
        return costs_of(self)

    @property
    def models(self) -> dict[str, str]:
        """By tier, and the planner's under `planner`, the models' own names; the last one counts."""
        return {name: attempt.model for name, attempt in self.calls if attempt.model}

    @property
    def answers(self) -> dict[NodeId, str]:
        """The nodes' texts."""
        return {node.id: node.answer for node in self.nodes if node.answer}

    def _repr_html_(self) -> str:
        from langchain_sgd.drawing import report_html  # noqa: PLC0415 - only notebooks draw

        return report_html(self)


def status_of(nodes: Iterable[NodeReport], *, plain: bool, cut: bool) -> RunStatus:
    """What the run as a whole came to."""
    if cut or any(node.status != "complete" for node in nodes):
        return "partial"
    return "plain" if plain else "complete"


NodeReport.model_rebuild()
