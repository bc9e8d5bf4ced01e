"""One question's run: its clock, its events, its model calls. Knows nothing of LangGraph.

`Run.plan`, `Run.decode` and `Run.answer_plainly` are what both graphs call: the barrier-free host graph
and the literal one. Everything that must not differ between them is here.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from langchain_core.exceptions import ModelInvalidRequestError
from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda

from langchain_sgd.assembly import Assembler, assemble, assemble_plain
from langchain_sgd.costs import Pricing
from langchain_sgd.decoding.call import TIME_USED_UP, Outcome, Patience, call_model
from langchain_sgd.decoding.hedge import HeadStart
from langchain_sgd.decoding.limits import Limit, slots
from langchain_sgd.decoding.retry import describe, is_retryable, status_of
from langchain_sgd.decoding.routing import Tier, path_up
from langchain_sgd.errors import (
    DependencyFailedError,
    NodeDecodeError,
    PlannerError,
    RunDeadlineError,
    SkeletonGraphError,
)
from langchain_sgd.events import (
    PLAIN_ID,
    Discarded,
    Ended,
    Event,
    HeadingPlanned,
    NodeStatus,
    PlainChosen,
    PlanEnded,
    Planned,
    Started,
    Token,
)
from langchain_sgd.planning.constrain import constrained
from langchain_sgd.planning.planner import OnText, Plan, plan
from langchain_sgd.planning.wire import PLAIN_WORD
from langchain_sgd.report import (
    Attempt,
    NodeReport,
    PlannerReport,
    Report,
    Source,
)
from langchain_sgd.report import status_of as run_status
from langchain_sgd.settings import Settings
from langchain_sgd.skeleton import Node, NodeId, Skeleton
from langchain_sgd.text import AnswerFilter

NOSTREAM = "nostream"
"""LangGraph's tag for model calls whose tokens do not belong into the chat: ours would be interleaved."""


@dataclass(slots=True)
class _Call:
    """One thing to be decoded: a node, or the whole question."""

    id: NodeId
    messages: Sequence[BaseMessage]
    path: Sequence[Tier]
    heading: str
    metadata: Mapping[str, Any]
    node: Node | None = None
    """None for the planner and for a plain run."""


@dataclass(slots=True)
class _Hedge:
    """The plain answer, begun beside the planner."""

    start: HeadStart
    began: float
    """Loop time."""
    until: float | None
    outcome: Outcome
    attempts: list[Attempt]
    dropped: bool = False
    """The question is split, so nobody wants it."""


@dataclass(frozen=True, slots=True)
class _Tried:
    """What one attempt came to."""

    text: str
    kept: str
    """The text, if it is worth keeping although it is not whole."""
    problem: str | None
    error: Exception | None
    retryable: bool


_RUNTIME_KEY = "__pregel_runtime"
"""Where LangGraph keeps its store and stream writer, which a tier's tools may use."""
_PLACE_KEYS = frozenset({"thread_id", "checkpoint_id", "checkpoint_map"})


def _for_models(config: RunnableConfig) -> RunnableConfig:
    """The caller's config without the caller's place in a graph.

    A tier may be a graph itself. With these keys it would take itself for a part of the caller's graph and
    save under a name made from the order of calls: after a resume it would be given another node's answer.
    And a tier that is an `SGDRunnable` would wait for a slot of the batch that it holds itself.
    """
    configurable = {
        key: value
        for key, value in config.get("configurable", {}).items()
        if key == _RUNTIME_KEY or not (key.startswith("__") or key in _PLACE_KEYS)
    }
    return {**config, "configurable": configurable}


class Run:
    """One question on its way.

    Args:
        settings: How to decode.
        config: For the model calls: callbacks, tags, metadata.
        conversation: System prompt, history and question; may be set later.
        limit: Most model calls in flight in this run, or in the batch it belongs to.
        on_text: Called with every piece of the answer, in document order. Without it nobody sees the
            answer grow, so a part that is started again leaves no mark.
        on_event: Called with every event, in order.
    """

    def __init__(
        self,
        settings: Settings,
        config: RunnableConfig,
        *,
        conversation: Sequence[BaseMessage] = (),
        limit: Limit | None = None,
        on_text: Callable[[str], None] | None = None,
        on_event: Callable[[Event], None] | None = None,
    ) -> None:
        self.settings = settings
        self.conversation = conversation
        self.config = _for_models(config)
        self.warnings: list[str] = [*settings.warnings]
        self.records: dict[NodeId, NodeReport] = {}
        """Every node that has ended, in the order of their ends."""
        self.planner_attempts: list[Attempt] = []
        self._limit = limit or Limit(None)
        self._on_text = on_text
        self._on_event = on_event
        self._assembler = Assembler(headings=bool(settings.headings))
        self._text: list[str] = []
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._deadline = None if settings.deadline_s is None else self._began + settings.deadline_s
        self._ttft: float | None = None
        self._hopeless = False
        """The run will raise once its nodes have ended; nothing more is shown."""
        self._answered = False
        self._held = ""
        self._unconstrained = not settings.constrain
        self._hedge: _Hedge | None = None
        self._planned: dict[NodeId, float] = {}
        self._lines: list[str] = []
        """The planned nodes as prompts show them, rendered once."""
        self._question_tokens: int | None = None

    # -- clock and events

    def at(self, moment: float | None = None) -> float:
        """Seconds since the run began."""
        return (self._loop.time() if moment is None else moment) - self._began

    def emit(self, event: Event) -> None:
        """Take note of an event and pass it on."""
        text = "" if self._hopeless else self._assembler.feed(event)
        # Until there is an answer, marks of missing parts wait: nothing else may come, and then the run
        # raises, which a fallback can only mend while nothing was shown.
        self._answered |= (isinstance(event, Ended) and bool(event.text)) or (
            isinstance(event, Token) and bool(text)
        )
        is_early = isinstance(event, HeadingPlanned)
        if not self._answered and not is_early:
            self._held += text
        elif text or self._held:
            text, self._held = self._held + text, ""
            # An early heading that nobody sees is no first text: the answer may come to stand without it.
            if self._ttft is None and not (is_early and self._on_text is None):
                self._ttft = self.at()
            if self._on_text is not None:
                self._text.append(text)
                self._on_text(text)
        if self._on_event is not None:
            self._on_event(event)

    def planned(self, node: Node) -> None:
        """A node stands; those of a given skeleton are planned at once."""
        now = self.at()
        self._planned[node.id] = now
        self._lines.append(self.settings.prompts.line_of(node))
        self.emit(Planned(node, now))

    def plan_ended(self, *, cut: bool = False) -> None:
        """No more nodes will come."""
        self.emit(PlanEnded(self.at(), cut=cut))

    def restored(self, record: NodeReport) -> None:
        """A node's answer came from a checkpoint, unless this run has decoded it."""
        if record.id not in self.records:
            self.records[record.id] = record.model_copy(update={"restored": True})
            self.emit(Ended(record.id, record.status, record.answer, self.at()))

    def absorb(
        self, skeleton: Skeleton | None, records: Sequence[NodeReport], *, cut: bool
    ) -> None:
        """Take over what was decoded before a resume and did not pass by this run."""
        if all(record.id in self.records for record in records):
            return
        if skeleton is None:
            self.emit(PlainChosen("restored", self.at()))
        for node in skeleton.nodes if skeleton else ():
            if node.id not in self._planned:
                self.planned(node)
        self.plan_ended(cut=cut)
        for record in records:
            self.restored(record)

    # -- planning

    async def plan(
        self, on_node: Callable[[Node], None], *, show: bool = True, answer: bool = True
    ) -> Plan:
        """Ask the planner; `on_node` gets the nodes while it still writes.

        A planner that fails before it gave a node ends in plain decoding, with a warning.

        Args:
            on_node: Called with each node once it stands.
            show: The first heading may be shown early: nobody is going to change the plan.
            answer: The plain answer may begin meanwhile: the question is to be answered.
        """
        if self.settings.mode == "never":
            return Plan(plain='mode="never"')
        if self.settings.mode == "auto" and self.settings.is_busy():
            return Plan(plain="the models are busy")

        def stands(node: Node) -> None:
            self._drop_hedge()
            on_node(node)

        def heading_stands(heading: str) -> None:
            self.emit(HeadingPlanned(heading, self.at()))

        early = show and self.settings.headings == "early"
        number = 0
        while True:
            number += 1
            try:
                result = await plan(
                    self.conversation,
                    functools.partial(self._ask_planner, answer=answer),
                    prompts=self.settings.prompts,
                    max_nodes=self.settings.max_nodes,
                    mode=self.settings.mode,
                    on_node=stands,
                    on_heading=heading_stands if early else None,
                    read_line=self.settings.read_line,
                )
            except PlannerError as error:
                cause = cast("Exception", error.__cause__)
                again = number <= self.settings.retries and is_retryable(cause)
                if again and not self._late(self._deadline):
                    await self._pause(number, cause, self._deadline)
                    continue
                result = Plan(plain="the planner failed", failed=True, warnings=[str(error)])
            self.warnings += result.warnings
            return result

    async def _ask_planner(
        self,
        messages: Sequence[BaseMessage],
        on_text: OnText,
        /,
        *,
        answer: bool,
        plain: bool,
    ) -> bool:
        tier = self.settings.planner
        said = ""

        def heard(text: str) -> bool | None:
            nonlocal said
            if text.lstrip()[:1].isdigit():  # so begins a line of a plan, the plain word does not
                self._drop_hedge()
            if len(said) < len(PLAIN_WORD):
                said = (said + text).lstrip()
                if PLAIN_WORD.startswith(said[: len(PLAIN_WORD)]):
                    if said and answer:
                        self._begin_hedge()
                elif not self.settings.hedge:
                    self._drop_hedge()  # the word was another one
            return on_text(text)

        while True:
            model, grammar = self._planner_model(plain=plain)
            outcome = Outcome()
            try:
                async with asyncio.timeout_at(self._deadline), slots([self._limit, tier.limit]):
                    if self.settings.hedge and answer:
                        self._begin_hedge()
                    await self._attempt(
                        _Call(NodeId("planner"), messages, [tier], "planner", {}),
                        Tier("planner", model),
                        len(self.planner_attempts) + 1,
                        heard,
                        outcome,
                        self.planner_attempts,
                        until=self._deadline,
                    )
            except Exception as error:
                if grammar and outcome.first_at is None and _is_refusal(error):
                    self._unconstrained = True
                    self.warnings.append(
                        f"the planner's server refused the constrained call ({describe(error)});"
                        " asked without the grammar"
                    )
                    continue
                msg = f"The planner's model failed: {describe(error)}"
                raise PlannerError(msg) from error
            else:
                return outcome.truncated

    def _planner_model(self, *, plain: bool) -> tuple[Runnable[Any, Any], bool]:
        model = self.settings.planner.model
        if self._unconstrained:
            return model, False
        bound = constrained(
            model,
            max_nodes=self.settings.max_nodes,
            plain=plain,
            grammar=self.settings.prompts.grammar,
        )
        return (model, False) if bound is None else (bound, True)

    # -- decoding

    async def decode(
        self, node: Node, planned: Sequence[Node], answers: Mapping[NodeId, str | None]
    ) -> NodeReport:
        """One node's answer; every dependency has answered or failed.

        Args:
            node: The node.
            planned: The skeleton up to and including it.
            answers: Its dependencies' texts; None for one that has none, which skips the node.

        Raises:
            NodeDecodeError, DependencyFailedError, RunDeadlineError: It has no answer, and
                `on_node_error` is "raise".
        """
        ready = self.at()
        missing = [d for d in node.dependencies if answers.get(d) is None]
        if missing:
            problem = f"not decoded: its dependency {', '.join(missing)} has no answer"
            call = _Call(node.id, [], [], node.heading, {}, node)
            record = self._ended(call, "skipped", "", ready, None, (), problem)
            if self.settings.on_node_error == "raise":
                raise DependencyFailedError(node, missing[0])
            return record
        tier = self.settings.router(node)
        call = _Call(
            node.id,
            self.settings.prompts.for_node(
                self.conversation,
                node,
                planned=planned,
                answers={d: text for d, text in answers.items() if text is not None},
                lines=self._lines[: None if self.settings.whole_outline else len(planned)],
            ),
            path_up(self.settings.tiers, tier, node),
            node.heading,
            {
                "sgd_node_id": node.id,
                "sgd_difficulty": node.difficulty,
                "sgd_dependencies": list(node.dependencies),
            },
            node,
        )
        return await self._decode(call, ready)

    async def answer_plainly(self, reason: str) -> NodeReport:
        """The whole question, undivided, by the largest tier.

        Raises:
            NodeDecodeError: There is no answer, and in a plain run nothing else.
        """
        now = self.at()
        self.emit(PlainChosen(reason, now))
        return await self._decode(self._plain_call(reason), now)

    def _plain_call(self, reason: str) -> _Call:
        tier = self.settings.largest
        return _Call(PLAIN_ID, self.conversation, [tier], "", {"sgd_plain": reason})

    def _begin_hedge(self) -> None:
        """Begin the plain answer while the planner writes, unless that would take a slot from somebody."""
        tier = self.settings.largest
        if self.settings.mode != "auto" or self._hedge is not None:
            return
        if not all(limit.has_room() for limit in (self._limit, tier.limit)):
            return
        began = self._loop.time()
        until = self._node_ends(began, self._deadline)
        call = self._plain_call("begun beside the planner")
        outcome, attempts = Outcome(), list[Attempt]()

        async def run(on_text: Callable[[str], bool | None]) -> None:
            async with asyncio.timeout_at(until), slots([self._limit, tier.limit]):
                await self._attempt(call, tier, 1, on_text, outcome, attempts, until=until)

        self._hedge = _Hedge(HeadStart(run), began, until, outcome, attempts)

    def _drop_hedge(self) -> None:
        if self._hedge is not None:
            self._hedge.dropped = True
            self._hedge.start.drop()

    async def close(self) -> None:
        """Stop what was begun and is not wanted; to be awaited when the run has ended."""
        if self._hedge is not None:
            await self._hedge.start.close()

    async def _decode(self, call: _Call, ready: float) -> NodeReport:
        """Try the call on its tiers, each with retries, until a text is good."""
        attempts: list[Attempt] = []
        best = ""
        until = self._deadline
        tier = call.path[0]
        tried: _Tried | None = None
        for tier in call.path:
            for round_ in range(1, self.settings.retries + 2):
                if tried is not None:
                    self.emit(Discarded(call.id, tried.problem or "", self.at()))
                    if round_ > 1:
                        await self._pause(round_ - 1, tried.error, until)
                if self._late(until):
                    break
                tried, until = await self._try(call, tier, attempts, until)
                if tried.problem is None:
                    return self._ended(call, "complete", tried.text, ready, tier, attempts, None)
                best = max(best, tried.kept, key=len)
                if not tried.retryable or self._late(until):
                    break
            if self._late(until):
                break
        late = tried is None or self._late(until)
        problem = TIME_USED_UP if tried is None or late else tried.problem or ""
        status: NodeStatus = "truncated" if best else "failed"
        fatal = not best and (self.settings.on_node_error == "raise" or call.node is None)
        self._hopeless |= fatal
        record = self._ended(call, status, best, ready, tier, attempts, problem)
        if fatal:
            raise self.failure(call.node, tier.name, problem) from (tried.error if tried else None)
        return record

    def failure(self, node: Node | None, tier: str, problem: str) -> SkeletonGraphError:
        """What is raised when nothing else can be given."""
        if self._late(self._deadline):
            what = f"node {node.id} ({node.heading!r})" if node else "the question"
            msg = (
                f"The deadline of {self.settings.deadline_s:g} s passed before {what} had an answer"
            )
            return RunDeadlineError(msg)
        return NodeDecodeError(node, tier, problem)

    async def _try(
        self, call: _Call, tier: Tier, attempts: list[Attempt], until: float | None
    ) -> tuple[_Tried, float | None]:
        """One attempt, whatever becomes of it; and when the node's time ends."""
        parts: list[str] = []
        written = AnswerFilter(call.heading)
        number = len(attempts) + 1
        hedge = self._hedge if call.id == PLAIN_ID and number == 1 else None
        if hedge is not None and hedge.dropped:
            hedge = None
        outcome = hedge.outcome if hedge else Outcome()

        def show(visible: str) -> None:
            if visible:
                parts.append(visible)
                self.emit(Token(call.id, visible, self.at()))

        def on_text(text: str) -> None:
            show(written.feed(text))

        error: Exception | None = None
        try:
            if hedge is not None:
                until = hedge.until
                self.emit(Started(call.id, tier.name, number, self.at(hedge.began)))
                try:
                    await hedge.start.follow(on_text)
                finally:
                    attempts += hedge.attempts
            else:
                async with asyncio.timeout_at(until), slots([self._limit, tier.limit]):
                    if number == 1:
                        until = self._node_ends(self._loop.time(), until)
                    self.emit(Started(call.id, tier.name, number, self.at()))
                    await self._attempt(call, tier, number, on_text, outcome, attempts, until=until)
        except Exception as raised:  # noqa: BLE001 - kept in the report, and raised if nothing else helps
            error = raised
        show(written.close())
        text = "".join(parts)
        problem = self._fault(call, text, outcome) if error is None else describe(error)
        if problem is not None and attempts and attempts[-1].error is None:
            attempts[-1] = attempts[-1].model_copy(update={"error": problem})
        kept = text if outcome.truncated or self._late(until) else ""
        return _Tried(text, kept, problem, error, error is not None and is_retryable(error)), until

    def _node_ends(self, began: float, until: float | None) -> float | None:
        """When a node that began now has used up its time, and no later than `until`."""
        if (bound := self.settings.node_timeout_s) is None:
            return until
        return began + bound if until is None else min(began + bound, until)

    async def _attempt(
        self,
        call: _Call,
        tier: Tier,
        number: int,
        on_text: Callable[[str], bool | None],
        outcome: Outcome,
        attempts: list[Attempt],
        *,
        until: float | None,
    ) -> None:
        """One model call, noted in `attempts` whatever becomes of it."""
        started = self.at()
        error: str | None = None
        try:
            await call_model(
                tier.model,
                call.messages,
                self._child(call, tier, number),
                on_text,
                outcome,
                patience=Patience(self.settings.stall_timeout_s, until),
                options=self._options(call),
            )
        except BaseException as raised:
            error = describe(raised)
            raise
        finally:
            attempts.append(
                Attempt(
                    tier=tier.name,
                    model=outcome.model,
                    started_s=started,
                    first_token_s=None if outcome.first_at is None else self.at(outcome.first_at),
                    ended_s=self.at(),
                    usage=outcome.usage,
                    error=error,
                )
            )
            if outcome.usage is not None and self._question_tokens is None:
                share = _characters(self.conversation) / max(1, _characters(call.messages))
                self._question_tokens = round(share * outcome.usage.input_tokens)

    def _child(self, call: _Call, tier: Tier, number: int) -> RunnableConfig:
        """The config of one model call: its name, its tags, its place in the trace."""
        name = call.id if call.id in {"planner", PLAIN_ID} else f"node:{call.id}"
        return {
            **self.config,
            "run_name": name,
            "tags": [*self.config.get("tags", []), f"sgd:{tier.name}", NOSTREAM],
            "metadata": {
                **self.config.get("metadata", {}),
                **call.metadata,
                "sgd_tier": tier.name,
                "sgd_attempt": number,
            },
        }

    def _options(self, call: _Call) -> dict[str, Any]:
        """A seed of its own for each node, so that nodes do not all make the same choices."""
        if self.settings.seed is None:
            return {}
        digest = hashlib.sha256(f"{self.settings.seed}:{call.id}".encode()).digest()
        return {"seed": int.from_bytes(digest[:4], "big") >> 1}

    def _fault(self, call: _Call, text: str, outcome: Outcome) -> str | None:
        if not text:
            return "the answer was empty"
        if outcome.truncated:
            return "a token limit cut the answer"
        accept = self.settings.accept
        if accept is not None and call.node is not None and not accept(call.node, text):
            return "the answer was not accepted"
        return None

    def _late(self, until: float | None) -> bool:
        return until is not None and self._loop.time() >= until

    async def _pause(self, number: int, error: Exception | None, until: float | None) -> None:
        if error is None:
            return
        try:
            async with asyncio.timeout_at(until):
                await self.settings.backoff.wait(number, error)
        except TimeoutError:
            return

    def _ended(
        self,
        call: _Call,
        status: NodeStatus,
        text: str,
        ready: float,
        tier: Tier | None,
        attempts: Sequence[Attempt],
        error: str | None,
    ) -> NodeReport:
        now = self.at()
        record = NodeReport(
            id=call.id,
            status=status,
            tier=tier.name if tier else "",
            answer=text,
            planned_s=self._planned.get(call.id, 0.0),
            ready_s=ready,
            ended_s=now,
            attempts=tuple(attempts),
            error=error,
        )
        self.records[call.id] = record
        self.emit(Ended(call.id, status, text, now))
        return record

    # -- the end

    async def assemble(self, skeleton: Skeleton | None, *, cut: bool) -> str:
        """The answer; a step of its own in the trace."""

        async def join(_: dict[NodeId, str]) -> str:  # a function would run in a thread
            if self._on_text is not None:
                return "".join(self._text)
            if skeleton is None:
                record = self.records[PLAIN_ID]
                return assemble_plain(record.status, record.answer)
            ended = {i: (record.status, record.answer) for i, record in self.records.items()}
            return assemble(skeleton.nodes, ended, headings=bool(self.settings.headings), cut=cut)

        answers = {node_id: record.answer for node_id, record in self.records.items()}
        config: RunnableConfig = {**self.config, "run_name": "assemble"}
        return await RunnableLambda(join).ainvoke(answers, config)

    def report(
        self,
        skeleton: Skeleton | None,
        *,
        source: Source,
        reason: str | None = None,
        cut: bool = False,
        thread_id: str | None = None,
    ) -> Report:
        """The run as data.

        Args:
            skeleton: None for a plain run.
            source: Where the skeleton came from.
            reason: Why the run is plain.
            cut: The planner failed half-way.
            thread_id: Where a checkpointer has saved the run.
        """
        ids = [node.id for node in skeleton.nodes] if skeleton else [PLAIN_ID]
        nodes = tuple(self.records[node_id] for node_id in ids)
        warnings = list(self.warnings)
        warnings += [
            f"the shown text of node {node_id} broke off and was started again"
            for node_id in self._assembler.interrupted
        ]
        is_shown = self._on_text is not None
        stray = self._assembler.stray
        if is_shown and stray is not None:
            warnings.append(f"the heading {stray!r} was shown early, and something else follows it")
        warnings += [f"node {n.id}: {n.error}" for n in nodes if n.error]
        planner = PlannerReport(
            source=source,
            attempts=tuple(self.planner_attempts),
            ended_s=max((a.ended_s for a in self.planner_attempts), default=0.0),
            hedge=next(iter(self._hedge.attempts), None)
            if self._hedge is not None and self._hedge.dropped
            else None,
        )
        return Report(
            status=run_status(nodes, plain=skeleton is None, cut=cut),
            reason=reason,
            skeleton=skeleton,
            planner=planner if self.settings.mode != "never" or skeleton else None,
            nodes=nodes,
            warnings=tuple(warnings),
            ttft_s=self._ttft,
            wall_s=self.at(),
            restarted=is_shown and bool(self._assembler.interrupted or stray),
            thread_id=thread_id,
            pricing=self._pricing(),
        )

    def _pricing(self) -> Pricing | None:
        if self.settings.prices is None:
            return None
        return Pricing(
            prices=self.settings.prices,
            plain_tier=self.settings.largest.name,
            question_tokens=self._question_tokens,
        )


def _characters(messages: Sequence[BaseMessage]) -> int:
    return sum(len(str(message.text)) for message in messages)


def _is_refusal(error: Exception) -> bool:
    """Whether a server found the request itself wrong; in TGI's streams the status of that is 200."""
    return isinstance(error, ModelInvalidRequestError) or status_of(error) in {400, 404, 422}
