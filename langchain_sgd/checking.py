"""Whether SGD is worth it on given models: a handful of questions, a verdict, and what to change.

    print(await check(large="http://gpu-1:8000", small="http://gpu-2:8000"))

Everything is found out by public calls: one answer, the constrained form, some plans, the speed of a part
alone and beside three others, and whether the second call with the same beginning is faster.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from langchain_core.callbacks import UsageMetadataCallbackHandler
from langchain_core.messages import HumanMessage
from langchain_core.runnables import Runnable

from langchain_sgd.bundled import BRIEFS_PROMPTS, BUNDLED_QUESTIONS, fitted
from langchain_sgd.decoding.length import Length
from langchain_sgd.decoding.sentences import count_words
from langchain_sgd.errors import SkeletonGraphError
from langchain_sgd.findings import (
    STREAMS,
    Estimate,
    Finding,
    Planned,
    Speed,
    State,
    Verdict,
    parallelism,
)
from langchain_sgd.models import resolve
from langchain_sgd.planning.forms import form_of, is_refusal, refused
from langchain_sgd.probing import follows, say, together
from langchain_sgd.prompts import Prompts
from langchain_sgd.redaction import describe
from langchain_sgd.runnable import SGDRunnable
from langchain_sgd.skeleton import Skeleton
from langchain_sgd.speeds import explained, prefix_cache, speed_of

QUESTIONS: Final = (
    ("Compare trains, planes and cars for a family trip from Hamburg to Rome.", True),
    ("What is the capital of Portugal?", False),
    ("Explain how a small town can prepare for floods: warning, buildings, people, money.", True),
    ("Tell me a joke about cats.", False),
    ("What should a company look at before it moves its servers to the cloud?", True),
)
"""What is planned, and whether it should be split."""
_LEAST_CONTEXT: Final = 2048
_GOOD_CONTEXT: Final = 4096
_THIN: Final = 0.5
"""Of the words asked for: a part with fewer is nearly empty."""
_CHAINS: Final = 1.5
"""Parts for each step of the longest chain, below which little is decoded at once."""


async def check(
    *,
    large: Any,
    small: Any = None,
    planner: Any = None,
    questions: Sequence[tuple[str, bool]] | None = None,
    most: int | None = None,
    timeout_s: float = 300.0,
    on_finding: Callable[[Finding], None] = lambda _: None,
    **options: Any,
) -> Verdict:
    """Ask a handful of questions and say whether SGD works and pays; costs about 20 short calls.

    Args:
        large: The large model, or its name, as `SGDRunnable` takes it; so `small` and `planner`.
        small: If there is one.
        planner: The large model if not given.
        questions: What is planned, each with whether it should be split; else what the models should know.
        most: How many of them.
        timeout_s: Of the whole check; what is found by then counts.
        on_finding: Gets each finding.
        **options: Further options of `SGDRunnable`, such as `prompts`.

    Raises:
        InvalidInputError: A name names no model.
    """
    given = {"large": large, "small": small, "planner": planner}
    models = {tier: resolve(m, what=tier) for tier, m in given.items() if m is not None}
    checking = _Checking(models, options, on_finding)
    try:
        async with asyncio.timeout(timeout_s):
            await checking.run(questions, most)
    except TimeoutError:
        checking.add("time", "failed", f"not done within {timeout_s:g} s", "Give it more time.")
    return checking.verdict()


class _Checking:
    """The findings on their way."""

    def __init__(
        self,
        models: Mapping[str, Runnable[Any, Any]],
        options: Mapping[str, Any],
        on_finding: Callable[[Finding], None],
    ) -> None:
        self._models = models
        self._options = options
        self._on_finding = on_finding
        self._findings: list[Finding] = []
        self._planned: list[Planned] = []
        self._speeds: dict[str, Speed] = {}
        self._suggested: dict[str, Any] = {}
        self._contexts: dict[str, int] = {}

    def add(self, name: str, state: State, detail: str, remedy: str = "") -> None:
        """Note a finding and tell it."""
        self._tell(Finding(name, state, detail, remedy))

    def _tell(self, finding: Finding) -> None:
        self._findings.append(finding)
        self._on_finding(finding)

    async def run(self, questions: Sequence[tuple[str, bool]] | None, most: int | None) -> None:
        """Look at everything, unless a model does not answer at all."""
        answered = [await self._answers(tier, model) for tier, model in self._models.items()]
        if not all(answered):
            return
        await self._form("planner" if "planner" in self._models else "large")
        sgd = await fitted(SGDRunnable(**self._models, **self._options))
        is_bundled = sgd.prompts == BRIEFS_PROMPTS
        known = BUNDLED_QUESTIONS if is_bundled else QUESTIONS
        await self._plans(sgd, (known if questions is None else questions)[:most])
        if (
            not is_bundled
        ):  # whose context suits what they can be asked, and nobody can give them more
            self._context()
        if "small" in self._models:
            await self._parts("small", sgd.prompts)
        for tier in ("large", "small"):
            if tier in self._models:
                await self._speed(tier)
        self._tell(await prefix_cache(self._models["large"]))

    # -- one model

    async def _answers(self, tier: str, model: Runnable[Any, Any]) -> bool:
        try:
            who = await self._identity(tier, model)
            said = await say(model, "Name three colors.", 64)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what was found
            self.add(tier, "failed", explained(error))
            return False
        self.add(tier, "ok", f"{who}{said.model}, first text after {said.first - said.began:.2g} s")
        if not said.text.strip():
            self.add(
                f"{tier}: text",
                "note",
                "64 tokens held no text",
                "If it is a reasoning model, switch its thinking off or down: each part would think.",
            )
        if not said.counted:
            self.add(
                f"{tier}: usage",
                "note",
                "its streams count no tokens",
                "Set stream_usage=True where the class has it; reports lack tokens and costs else.",
            )
        return True

    async def _identity(self, tier: str, model: Any) -> str:
        aserver = getattr(model, "aserver", None)
        if aserver is None:
            return f"{type(model).__name__} "
        server = await aserver()
        await model.aclient()
        name = server.model(model.address.model)
        if name in server.contexts:
            self._contexts[tier] = server.contexts[name]
        version = f" {server.version}" if server.version else ""
        return f"{server.kind}{version} at {server.url}: "

    async def _form(self, tier: str) -> None:
        model = self._models[tier]
        form = await form_of(model)
        if not form.constrains:
            why = f" ({form.why})" if form.why else ""
            self.add(f"{tier}: form", "note", f"plans by examples alone{why}")
            return
        try:
            said = await say(model, "Say hello.", 24, form)
        except Exception as error:  # noqa: BLE001 - as above
            if is_refusal(error):
                refused(form, describe(error))
            self.add(
                f"{tier}: form",
                "note",
                f"{form.kind}: refused ({describe(error)})",
                "Plans follow the prompt's examples instead. constrain=False saves the first try.",
            )
            self._suggested["constrain"] = False
            return
        if follows(form, said.text):
            self.add(f"{tier}: form", "ok", f"{form.kind}, followed")
            return
        self.add(
            f"{tier}: form",
            "note",
            f"{form.kind}: ignored, asked for three digits, got {said.text[:40]!r}",
            "Plans follow the prompt's examples instead.",
        )

    # -- planning

    async def _plans(self, sgd: SGDRunnable, questions: Sequence[tuple[str, bool]]) -> None:
        failures: list[str] = []
        for question, should_split in questions:
            usage = UsageMetadataCallbackHandler()
            began = time.perf_counter()
            try:
                plan = await sgd.aplan(question, {"callbacks": [usage]})
            except SkeletonGraphError as error:
                self.add("plan", "failed", explained(error))
                return
            if plan.failed:
                failures.append("; ".join(plan.warnings) or plan.plain or "")
                continue
            seconds = time.perf_counter() - began
            prompt = max((u["input_tokens"] for u in usage.usage_metadata.values()), default=0)
            self._planned.append(
                Planned(question, should_split, seconds, plan.skeleton, plan.plain or "", prompt)
            )
        if failures:
            told = f"{len(failures)} of {len(questions)} questions were not planned. {failures[0]}"
            self.add("plan", "failed", told)
        splits = [p for p in self._planned if p.should_split]
        made = [p.skeleton for p in splits if p.skeleton is not None]
        if splits:
            self._splits(splits, made)
        plains = [p for p in self._planned if not p.should_split]
        whole = sum(p.skeleton is None for p in plains)
        if plains:
            self.add(
                "plain when due",
                "ok" if whole == len(plains) else "note",
                f"{whole} of {len(plains)} questions for one piece are answered undivided",
                ""
                if whole == len(plains)
                else "Such questions cost a plan; a larger planner helps.",
            )

    def _splits(self, splits: Sequence[Planned], made: Sequence[Skeleton]) -> None:
        seconds = statistics.median(p.seconds for p in splits)
        self.add(
            "splits when due",
            "ok" if len(made) == len(splits) else "note" if made else "failed",
            f"{len(made)} of {len(splits)} questions with several sides, planned in {seconds:.2g} s",
            ""
            if len(made) == len(splits)
            else f"{next(p.plain for p in splits if p.skeleton is None)}. A larger planner helps"
            ' (planner=...), or mode="always".',
        )
        if made:
            mean = statistics.mean(map(parallelism, made))
            self.add(
                "parallel enough",
                "ok" if mean >= _CHAINS else "note",
                f"{statistics.mean(map(len, made)):.1f} parts, {mean:.1f} for each step of the chain",
                "" if mean >= _CHAINS else "Plans are chains: a larger planner sees fewer needs.",
            )

    async def _parts(self, tier: str, prompts: Prompts) -> None:
        """Whether the model fills the parts of a plan; nearly empty ones spoil an answer."""
        made = next(iter(self._made()), None)
        if made is None or made.skeleton is None or not prompts.tells_length:
            return
        nodes = made.skeleton.nodes
        share = Length.of(made.question).share(planned=len(nodes), complete=True)
        asked = [HumanMessage(made.question)]
        prompted = [
            prompts.for_node(asked, node, planned=nodes, answers={}, length=str(share))
            for node in nodes
            if not node.dependencies
        ]
        try:
            said = await together(self._models[tier], prompted[:STREAMS], share.max_tokens)
        except Exception as error:  # noqa: BLE001 - as above
            self.add(f"{tier}: parts", "failed", explained(error))
            return
        words = [count_words(each.text) for each in said]
        thin = sum(count < _THIN * share.words for count in words)
        self.add(
            f"{tier}: parts",
            "note" if thin else "ok",
            f"{', '.join(map(str, words))} words, asked for about {share.words}",
            "The large model has to write nearly empty parts again: leave the small model out, or use a"
            " larger one. Read what it writes with langchain-sgd ask before you trust it."
            if thin
            else "",
        )

    def _context(self) -> None:
        prompt = max((p.prompt_tokens for p in self._planned), default=0)
        for tier, context in self._contexts.items():
            if context < max(_LEAST_CONTEXT, prompt + 512):
                state: State = "failed" if prompt and context < prompt + 512 else "note"
                remedy = f"Start the server with a context of {_GOOD_CONTEXT} tokens or more."
            elif context < _GOOD_CONTEXT:
                state, remedy = "note", f"Conversations want {_GOOD_CONTEXT} tokens or more."
            else:
                state, remedy = "ok", ""
            shown = f", the planner's prompt takes {prompt}" if prompt else ""
            self.add(f"{tier}: context", state, f"{context} tokens{shown}", remedy)

    # -- speed

    async def _speed(self, tier: str) -> None:
        finding, speed = await speed_of(self._models[tier], tier)
        self._tell(finding)
        if speed is not None:
            self._speeds[tier] = speed

    # -- what it comes to

    def _made(self) -> list[Planned]:
        return [p for p in self._planned if p.skeleton is not None]

    def verdict(self) -> Verdict:
        """What to think of the findings."""
        failed = [f for f in self._findings if f.state == "failed"]
        estimate = Estimate(self._speeds, self._made())
        speedup = estimate.speedup
        if failed:
            first = failed[0]
            summary = (
                f"SGD does not work here yet: {first.name}: {first.detail} {first.remedy}".strip()
            )
        elif speedup is None:
            summary = "SGD works here; what it gains could not be estimated."
        else:
            summary = estimate.in_words(speedup)
        if "small" in self._speeds and "planner" not in self._models and estimate.plans_slowly:
            self._suggested["planner"] = "small"
        return Verdict(
            tuple(self._findings),
            summary,
            ok=not failed,
            speedup=speedup,
            options=dict(self._suggested),
            speeds=dict(self._speeds),
        )
