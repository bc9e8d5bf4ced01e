"""The planner's part of a run: asked in the form that its server takes, asked again, and kept line by line.

What is planned is kept as it is planned. A run that is resumed while its plan was being written goes on
from the kept lines: the planner is shown them, and what it says of them again is left out.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import cast

from langchain_core.messages import BaseMessage

from langchain_sgd.decoding.caller import call_model
from langchain_sgd.decoding.context import RunContext
from langchain_sgd.decoding.patience import Patience
from langchain_sgd.decoding.plain import PlainAnswer
from langchain_sgd.decoding.plan_cache import PlanCache
from langchain_sgd.decoding.prefixes import with_hints
from langchain_sgd.decoding.reply import Reply
from langchain_sgd.errors import PlannerError
from langchain_sgd.events import PlannerCalled
from langchain_sgd.journal import Journal
from langchain_sgd.planning.forms import (
    EXAMPLES,
    Form,
    Grammar,
    bound,
    form_of,
    is_refusal,
    logprob_options,
)
from langchain_sgd.planning.forms import refused as forget_form
from langchain_sgd.planning.planner import Heard, OnText, Plan, plan
from langchain_sgd.redaction import describe
from langchain_sgd.report import Attempt
from langchain_sgd.retry import is_retryable
from langchain_sgd.skeleton import Node
from langchain_sgd.tiers import Tier
from langchain_sgd.wire import (
    PLAIN_WORD,
    planner_max_tokens,
    skeleton_gbnf,
    skeleton_regex,
    skeleton_schema,
)

_END = "plan"
"""Key of what planning came to; `plan 1`, `plan 2` and so on are its nodes."""
_NEEDLESS = "stopped: the undivided answer was whole first"


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
        self._voids = 0
        """How often all that had been handed out was part of a thought."""

    async def plan(
        self,
        on_node: Callable[[Node], None],
        on_void: Callable[[], None] | None = None,
    ) -> Plan:
        """The plan; `on_node` gets its nodes while the planner still writes.

        A planner that fails before it gave a node ends in plain decoding, with a warning.

        Args:
            on_node: Called with each node once it stands.
            on_void: Called when all nodes given so far turn out to be part of a thought.
        """
        run, options, kept = self._run, self._run.options, self._journal.kept
        if options.mode == "never":
            return Plan(plain='mode="never"')
        begun = self._kept_nodes()
        if begun and self._plain is not None:
            self._plain.forgo_opening()
        for node in begun:
            self._given += 1
            on_node(node)
        if (ended := kept.get(_END)) is not None:
            paid = [Attempt.model_validate(attempt) for attempt in ended["attempts"]]
            run.spending.restore((attempt.tier, attempt) for attempt in paid)
            for attempt in paid:
                run.emit(PlannerCalled(attempt, run.clock.now()))
            return Plan(begun, ended["plain"], list(ended["warnings"]), ended["cut"])
        if not begun and options.mode == "auto" and options.is_busy():
            return Plan(plain="the models are busy")
        attempts: list[Attempt] = []
        cache = None if begun else PlanCache.of(run.question.messages, options)
        known = None
        if cache is not None:
            try:
                known = await cache.look()
            except Exception as error:  # noqa: BLE001 - it costs a plan, whatever it is
                run.warn(f"the plan cache could not be asked ({describe(error)}); planned anew")
                cache = None
        if known is not None:
            for node in known.nodes:
                self._given += 1
                self._journal.note(self._key(self._given), node)
                on_node(node)
            result = known
        else:
            result = await self._planned(begun, on_node, on_void, attempts)
            if cache is not None:
                try:
                    await cache.keep(result)
                except Exception as error:  # noqa: BLE001 - the plan itself is there
                    run.warn(f"the plan cache did not keep the plan ({describe(error)})")
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

    def _key(self, number: int) -> str:
        """Of a node; what was planned in a thought has keys of its own."""
        return f"{_END} {number}" if not self._voids else f"{_END} {self._voids}/{number}"

    def _kept_nodes(self) -> list[Node]:
        nodes: list[Node] = []
        while f"{_END} void {self._voids + 1}" in self._journal.kept:
            self._voids += 1
        while (value := self._journal.kept.get(self._key(len(nodes) + 1))) is not None:
            nodes.append(Node.model_validate(value))
        return nodes

    async def _planned(
        self,
        begun: Sequence[Node],
        on_node: Callable[[Node], None],
        on_void: Callable[[], None] | None,
        attempts: list[Attempt],
    ) -> Plan:
        run, options = self._run, self._run.options
        form = await self._form()

        def stands(node: Node) -> None:
            if self._plain is not None:
                self._plain.drop()
            self._given += 1
            self._journal.note(self._key(self._given), node)
            on_node(node)

        def void() -> None:
            self._voids += 1
            self._given = 0
            self._journal.note(f"{_END} void {self._voids}", value=True)
            if on_void is not None:
                on_void()

        async def may_go_on(error: PlannerError) -> bool:
            cause = cast("Exception", error.__cause__)
            again = number <= options.retries and is_retryable(cause, number)
            return again and await run.pause(number, cause, run.deadline)

        number = 0
        warnings: list[str] = []
        while True:
            number += 1
            try:
                result = await plan(
                    run.question.messages,
                    functools.partial(self._ask, attempts, form),
                    prompts=options.prompts,
                    max_nodes=options.max_nodes,
                    mode=options.mode,
                    on_node=stands,
                    # What was begun before is no part of what this call thinks.
                    on_void=void if on_void is not None and not begun else None,
                    form=form.writes,
                    read_line=options.read_line,
                    begun=begun,
                    plain_above=options.plain_above,
                )
            except PlannerError as error:
                if await may_go_on(error):
                    continue
                if not begun:
                    return Plan(plain="the planner failed", failed=True, warnings=[str(error)])
                result = Plan(list(begun), cut=True, error=error)
            result.warnings[:0] = warnings
            if result.error is None:
                return result
            failed = cast("PlannerError", result.error)
            if len(result.nodes) > len(begun) and await may_go_on(failed):
                begun, warnings = result.nodes, result.warnings  # it is shown what it has written
                continue
            result.warnings.append(
                f"the planner broke off after {len(result.nodes)} nodes; the answer may lack parts:"
                f" {failed}"
            )
            return result

    async def _ask(
        self,
        attempts: list[Attempt],
        form: Form,
        messages: Sequence[BaseMessage],
        on_text: OnText,
        /,
        *,
        plain: bool,
    ) -> Heard:
        run, tier, said, needless = self._run, self._run.options.planning_tier, "", False

        def hear(text: str) -> bool | None:
            nonlocal said, needless
            if self._plain is not None:
                if self._plain.opened and not self._given and self._plain.is_whole:
                    needless = True
                    return True
                said = self._weigh(self._plain, said, text)
            return on_text(text, reply.first_logprobs)

        prompts = run.options.prompts
        bound_tokens = planner_max_tokens(run.options.max_nodes, form.writes)
        grammar = _grammar(prompts.grammar, plain=plain)
        looks = {} if run.options.plain_above is None else logprob_options(tier.model)
        if run.options.cache_hints:
            messages, hints = with_hints(tier.model, run.question.messages, messages)
            looks = {**looks, **hints}
        refused: BaseException | None = None
        while True:
            constrained = form.constrains and refused is None
            model = bound(
                tier.model,
                form,
                grammar if constrained else None,
                max_tokens=None if prompts.grammar else bound_tokens,
                temperature=self._temperature,
                **run.seed("planner"),
            )
            reply = Reply(tier.name)
            run.spending.note(reply, messages)
            self._calls += 1
            try:
                await call_model(
                    Tier(tier.name, model, tier.limit, tier.shared),
                    messages,
                    run.child("planner", tier.name, self._calls, {}),
                    hear,
                    reply,
                    limits=run.limits,
                    patience=Patience(run.options.stall_timeout_s, run.deadline),
                    options=looks,
                    on_start=self._started,
                )
            except Exception as error:
                if constrained and reply.first_at is None and is_refusal(error):
                    refused = error
                    run.warn(
                        f"the planner's server refused the constrained call ({describe(error)});"
                        " asked without the grammar"
                    )
                    continue
                msg = f"The planner's model failed: {describe(error)}"
                raise PlannerError(msg) from error
            else:
                if refused is not None:  # it was the form: remembered for every later question
                    forget_form(form, describe(refused))
                if needless:
                    return "needless"
                return "cut" if reply.ending == "cut" else "all"
            finally:
                attempt = reply.attempt(run.clock.at, _NEEDLESS if needless else None)
                attempts.append(attempt)
                run.emit(PlannerCalled(attempt, run.clock.now()))

    @property
    def _temperature(self) -> float | None:
        """Of the call, if it is 0: whoever wants no chance in the texts wants none in the plan.

        A higher one is meant for the texts. A planner that does not write may refuse any.
        """
        options = self._run.options
        writes = any(options.planning_tier.shared is tier.shared for tier in options.tiers_by_size)
        is_greedy = writes and self._run.question.options.get("temperature") == 0
        return 0.0 if is_greedy else None

    async def _started(self) -> None:
        if self._plain is not None and self._plain.opens:
            self._plain.begin()
            await self._plain.go_first()

    def _weigh(self, plain: PlainAnswer, said: str, text: str) -> str:
        """Begin or drop the undivided answer by the planner's first letters."""
        if plain.opened:  # it goes on until its first sentence is whole
            return said
        if text.lstrip()[:1].isdigit():  # so begins a line of a plan, the plain word does not
            plain.drop()
        if len(said) < len(PLAIN_WORD):
            said = (said + text).lstrip()
            if PLAIN_WORD.startswith(said[: len(PLAIN_WORD)]):
                if said:
                    plain.begin()
            else:
                plain.drop()  # the word was another one
        return said

    async def _form(self) -> Form:
        """The form that the planner's server takes."""
        options = self._run.options
        if not options.constrain:
            return EXAMPLES
        form = await form_of(options.planning_tier.model)
        if form.why:
            self._run.warn(f"the planner writes without a grammar: {form.why}")
        # An expression of the user's own is no JSON.
        return EXAMPLES if options.prompts.grammar and form.writes == "json" else form


def _grammar(own: str | None, *, plain: bool) -> Grammar:
    """The language of plans; with an expression of one's own, for servers that take one."""
    if own is not None:
        return Grammar(own, "", skeleton_schema())
    return Grammar(skeleton_regex(plain=plain), skeleton_gbnf(plain=plain), skeleton_schema())
