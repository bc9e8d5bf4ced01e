"""The planner's part of a run: asked in the form that its server takes, asked again, and kept line by line.

What is planned is kept as it is planned. A run that is resumed while its plan was being written goes on
from the kept lines: the planner is shown them, and what it says of them again is left out.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, cast

from langchain_core.exceptions import ModelInvalidRequestError
from langchain_core.messages import BaseMessage

from langchain_sgd.decoding.caller import Patience, Reply, call_model
from langchain_sgd.decoding.context import RunContext
from langchain_sgd.decoding.plain import PlainAnswer
from langchain_sgd.errors import PlannerError
from langchain_sgd.events import HeadingPlanned, PlannerCalled
from langchain_sgd.journal import Journal
from langchain_sgd.planning.constrain import constrained
from langchain_sgd.planning.planner import Plan, plan
from langchain_sgd.prompts import PLAIN_WORD
from langchain_sgd.report import Attempt
from langchain_sgd.retry import describe, is_retryable, status_of
from langchain_sgd.skeleton import Node
from langchain_sgd.tiers import Tier

_END = "plan"
"""Key of what planning came to; `plan 1`, `plan 2` and so on are its nodes."""
_REFUSED = "planner's form refused"
"""Key in the model's memory."""


class Asking:
    """One run's planner.

    Args:
        run: The run.
        journal: Where the plan is kept, and found again.
        plain: The undivided answer, which may begin while the planner writes; None where none is wanted.
    """

    def __init__(self, run: RunContext, journal: Journal, plain: PlainAnswer | None) -> None:
        self._run = run
        self._journal = journal
        self._plain = plain
        self._calls = 0
        self._given = 0
        """Nodes handed out."""

    async def plan(self, on_node: Callable[[Node], None], *, show: bool = True) -> Plan:
        """The plan; `on_node` gets its nodes while the planner still writes.

        A planner that fails before it gave a node ends in plain decoding, with a warning.

        Args:
            on_node: Called with each node once it stands.
            show: The first heading may be shown early: nobody is going to change the plan.
        """
        run, options, kept = self._run, self._run.options, self._journal.kept
        if options.mode == "never":
            return Plan(plain='mode="never"')
        begun = self._kept_nodes()
        for node in begun:
            self._given += 1
            on_node(node)
        if (ended := kept.get(_END)) is not None:
            for attempt in ended["attempts"]:
                run.emit(PlannerCalled(Attempt.model_validate(attempt), run.clock.now()))
            return Plan(begun, ended["plain"], list(ended["warnings"]), ended["cut"])
        if not begun and options.mode == "auto" and options.is_busy():
            return Plan(plain="the models are busy")
        attempts: list[Attempt] = []
        result = await self._planned(begun, on_node, attempts, show=show and not begun)
        if not result.failed:
            await self._journal.keep(
                _END,
                {
                    "plain": result.plain,
                    "cut": result.cut,
                    "warnings": result.warnings,
                    "attempts": [attempt.model_dump(mode="json") for attempt in attempts],
                },
            )
        return result

    def _kept_nodes(self) -> list[Node]:
        nodes: list[Node] = []
        while (value := self._journal.kept.get(f"{_END} {len(nodes) + 1}")) is not None:
            nodes.append(Node.model_validate(value))
        return nodes

    async def _planned(
        self,
        begun: Sequence[Node],
        on_node: Callable[[Node], None],
        attempts: list[Attempt],
        *,
        show: bool,
    ) -> Plan:
        run, options = self._run, self._run.options

        def stands(node: Node) -> None:
            if self._plain is not None:
                self._plain.drop()
            self._given += 1
            self._journal.note(f"{_END} {self._given}", node.model_dump(mode="json"))
            on_node(node)

        def heading_stands(heading: str) -> None:
            run.emit(HeadingPlanned(heading, run.clock.now()))

        number = 0
        while True:
            number += 1
            try:
                return await plan(
                    run.question.messages,
                    functools.partial(self._ask, attempts),
                    prompts=options.prompts,
                    max_nodes=options.max_nodes,
                    mode=options.mode,
                    on_node=stands,
                    on_heading=heading_stands if show and options.headings == "early" else None,
                    read_line=options.read_line,
                    begun=begun,
                )
            except PlannerError as error:
                cause = cast("Exception", error.__cause__)
                again = number <= options.retries and is_retryable(cause, number)
                if again and await run.pause(number, cause, run.deadline):
                    continue
                if begun:
                    warning = f"the plan could not be finished after the resume: {error}"
                    return Plan(list(begun), warnings=[warning], cut=True)
                return Plan(plain="the planner failed", failed=True, warnings=[str(error)])

    async def _ask(
        self,
        attempts: list[Attempt],
        messages: Sequence[BaseMessage],
        on_text: Callable[[str], bool | None],
        /,
    ) -> bool:
        run, tier, said, plain = self._run, self._run.options.planning_tier, "", self._plain

        def heard(text: str) -> bool | None:
            nonlocal said
            if plain is not None:
                said = self._weigh(plain, said, text)
            return on_text(text)

        refused = False
        while True:
            model = tier.model if refused else self._model(tier)
            reply = Reply(tier.name)
            self._calls += 1
            try:
                await call_model(
                    Tier(tier.name, model, tier.limit, tier.shared),
                    messages,
                    run.child("planner", tier.name, self._calls, {}),
                    heard,
                    reply,
                    limits=[run.limit],
                    patience=Patience(run.options.stall_timeout_s, run.deadline),
                    options=run.seed("planner"),
                    on_start=self._started,
                )
            except Exception as error:
                if model is not tier.model and reply.first_at is None and is_refusal(error):
                    refused = True
                    run.warn(
                        f"the planner's server refused the constrained call ({describe(error)});"
                        " asked without the grammar"
                    )
                    continue
                msg = f"The planner's model failed: {describe(error)}"
                raise PlannerError(msg) from error
            else:
                if refused:  # and not merely down: remembered for every later question
                    tier.shared.memory[_REFUSED] = True
                return reply.ending == "cut"
            finally:
                attempt = reply.attempt(run.clock.at)
                attempts.append(attempt)
                run.emit(PlannerCalled(attempt, run.clock.now()))

    def _started(self) -> None:
        if self._plain is not None and self._run.options.hedge:
            self._plain.begin()

    def _weigh(self, plain: PlainAnswer, said: str, text: str) -> str:
        """Begin or drop the undivided answer by the planner's first letters."""
        if text.lstrip()[:1].isdigit():  # so begins a line of a plan, the plain word does not
            plain.drop()
        if len(said) < len(PLAIN_WORD):
            said = (said + text).lstrip()
            if PLAIN_WORD.startswith(said[: len(PLAIN_WORD)]):
                if said:
                    plain.begin()
            elif not self._run.options.hedge:
                plain.drop()  # the word was another one
        return said

    def _model(self, tier: Tier) -> Any:
        """The planner's model, bound to the form that its server takes."""
        options = self._run.options
        if options.constrain and not tier.shared.memory.get(_REFUSED):
            bound = constrained(
                tier.model, max_nodes=options.max_nodes, plain=options.mode == "auto"
            )
            if bound is not None:
                return bound
        return tier.model


def is_refusal(error: Exception) -> bool:
    """Whether a server cannot take the request as it is; in TGI's streams the status of that is 200."""
    return isinstance(error, ModelInvalidRequestError) or status_of(error) in {
        400,
        404,
        422,
        500,
        501,
    }
