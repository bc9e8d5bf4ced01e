"""Scripted chat models: they answer what a test says, when it says, and note every call.

A `Stage` is shared by the models of one test. It knows from the prompt which part is asked for, so the
same script serves every graph and every way in.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessageChunk, BaseMessage, message_chunk_to_message
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from pydantic import Field

from langchain_sgd.skeleton import Skeleton

PLANNER, PLAIN = "planner", "plain"
"""The planner's call and an undivided answer's, beside the ids of nodes."""
_BEGUN = re.compile(r"^(?:ai: )?(\S+)\. \*\*.*\*\*.*:\Z", re.MULTILINE)
_NODE = re.compile(r'Write (?:only )?part (\S+), "')


@dataclass(frozen=True)
class Say:
    """What one call gives."""

    text: str | Sequence[str] | None = None
    """The pieces; None is a text made from the whole prompt, so that a wrong prompt shows, or nothing
    where an error is raised."""
    each_s: float = 0.0
    """Wait before each piece."""
    then_s: float = 0.0
    """Wait after the last piece."""
    error: BaseException | None = None
    """Raised after the pieces."""
    finish: str = "stop"
    hang: bool = False
    """Say nothing more after the pieces, for ever."""
    stubborn_s: float = 0.0
    """When cancelled, take this long to clean up."""
    deaf: bool = False
    """Ignore the first cancellation and go on."""
    usage: tuple[int, int] | None = None


@dataclass
class Call:
    """One call of a scripted model."""

    model: str
    part: str
    """`planner`, `plain`, or the id of a node."""
    prompt: str
    messages: Sequence[BaseMessage]
    options: Mapping[str, Any]
    began: float
    ended: float | None = None
    outcome: str = "open"
    """`done`, `closed` by the caller, `cancelled`, or `failed`."""


@dataclass
class Stage:
    """Who says what, and what was asked."""

    lines: dict[str, Say | Sequence[Say]] = field(default_factory=dict)
    """By part, or by `model/part`: what is said, or what is said call by call (the last for ever)."""
    default: Say = field(default_factory=Say)
    gated: bool = False
    """Each call waits for its part's gate."""
    calls: list[Call] = field(default_factory=list)
    peak: int = 0
    """Most calls in flight at once."""
    in_flight: int = 0
    gates: dict[str, asyncio.Event] = field(default_factory=lambda: defaultdict(asyncio.Event))

    def model(self, name: str, **options: Any) -> ScriptedChat:
        """A model on this stage."""
        return ScriptedChat(name=name, stage=self, **options)

    def pair(self) -> dict[str, Any]:
        """`SGDRunnable`'s `small=` and `large=`, without what most scripts do not write for: openings, and
        texts of some length."""
        models = {"small": self.model("small"), "large": self.model("large")}
        return {**models, "opening": False, "least_share": 0}

    def release(self, *parts: str) -> None:
        """Open the gates of these parts."""
        for part in parts:
            self.gates[part].set()

    def parts(self, model: str | None = None) -> list[str]:
        """The parts asked for, in order."""
        return [call.part for call in self.calls if model in {None, call.model}]

    def of(self, part: str) -> list[Call]:
        """The calls for a part, in order."""
        return [call for call in self.calls if call.part == part]

    def _next(self, model: str, part: str) -> Say:
        said = self.lines.get(f"{model}/{part}", self.lines.get(part, self.default))
        if isinstance(said, Say):
            return said
        key = f"{model}/" if f"{model}/{part}" in self.lines else ""
        before = sum(1 for c in self.of(part) if not key or c.model == model) - 1
        return said[min(before, len(said) - 1)]

    async def perform(
        self, model: str, messages: Sequence[BaseMessage], options: Mapping[str, Any]
    ) -> AsyncIterator[tuple[str, Say | None]]:
        """One call: its pieces, and with the last, empty one what ends it."""
        prompt = "\n".join(f"{m.type}: {m.text}" for m in messages)
        clock = asyncio.get_running_loop().time
        part = part_of(prompt)
        call = Call(model, part, prompt, messages, dict(options), clock())
        self.calls.append(call)
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        say = self._next(model, part)
        try:
            if self.gated:
                await self.gates[part].wait()
            unsaid = text_for(part, prompt) if say.error is None else ()
            text = unsaid if say.text is None else say.text
            for piece in (text,) if isinstance(text, str) else text:
                if say.each_s:
                    await _wait(say.each_s, deaf=say.deaf)
                yield piece, None
            if say.then_s:
                await asyncio.sleep(say.then_s)
            if say.hang:
                await asyncio.Event().wait()
            if say.error is not None:
                raise say.error  # noqa: TRY301 - noted below like any other end
            call.outcome = "done"
            yield "", say
        except GeneratorExit:
            if call.outcome == "open":
                call.outcome = "closed"
            raise
        except asyncio.CancelledError:
            if say.stubborn_s:
                await asyncio.sleep(say.stubborn_s)
            call.outcome = "cancelled"
            raise
        except Exception:
            call.outcome = "failed"
            raise
        finally:
            self.in_flight -= 1
            call.ended = clock()


async def _wait(seconds: float, *, deaf: bool) -> None:
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        if not deaf:
            raise


class ScriptedChat(BaseChatModel):
    """A chat model that says what its stage tells it to."""

    name: str
    stage: Any = Field(exclude=True, repr=False)

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
        params = super()._get_ls_params(stop, **kwargs)
        return {**params, "ls_provider": "scripted", "ls_model_name": self.name}

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        del stop
        performance = self.stage.perform(self.name, messages, kwargs)
        try:
            async for text, end in performance:
                chunk = ChatGenerationChunk(message=self._chunk(text, end))
                if run_manager and text:
                    await run_manager.on_llm_new_token(text, chunk=chunk)
                yield chunk
        finally:
            await performance.aclose()

    def _chunk(self, text: str, end: Say | None) -> AIMessageChunk:
        if end is None:
            return AIMessageChunk(content=text)
        said: dict[str, Any] = {"finish_reason": end.finish, "model_name": f"{self.name}-model"}
        chunk = AIMessageChunk(content=text, response_metadata=said)
        if end.usage is not None:
            spent, written = end.usage
            chunk.usage_metadata = {
                "input_tokens": spent,
                "output_tokens": written,
                "total_tokens": spent + written,
            }
        return chunk

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        total: AIMessageChunk | None = None
        async for chunk in self._astream(messages, stop, run_manager, **kwargs):
            piece = chunk.message
            assert isinstance(piece, AIMessageChunk)
            total = piece if total is None else total + piece
        assert total is not None
        return ChatResult(generations=[ChatGeneration(message=message_chunk_to_message(total))])

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        raise NotImplementedError


def part_of(prompt: str) -> str:
    """Which part a prompt asks for."""
    if "Plan long answers for several writers" in prompt:
        return PLANNER
    if begun := _BEGUN.search(prompt):
        return begun[1]
    if found := _NODE.findall(prompt):  # the last one; those before it are examples
        return str(found[-1])
    return PLAIN


def text_for(part: str, prompt: str) -> str:
    """An answer that differs if anything in the prompt does."""
    return f"text of {part} {hashlib.sha256(prompt.encode()).hexdigest()[:12]}"


def plan_text(skeleton: Skeleton) -> str:
    """The skeleton as a planner writes it."""
    return "".join(plan_lines(skeleton))


def plan_lines(skeleton: Skeleton) -> list[str]:
    """The skeleton as a planner writes it, line by line."""
    return [
        f"{n.id}|{n.heading}|{n.scope}|{','.join(n.dependencies) or '-'}|{n.difficulty}\n"
        for n in skeleton.nodes
    ]


def cut(text: str, size: int) -> list[str]:
    """The text in pieces of `size` characters."""
    return ["".join(piece) for piece in _batched(text, size)]


def _batched(text: str, size: int) -> Iterator[tuple[str, ...]]:
    rest = iter(text)
    while piece := tuple(itertools.islice(rest, size)):
        yield piece


def planning(skeleton: Skeleton, **how: Any) -> Say:
    """A planner that writes this skeleton, a line a piece."""
    return replace(Say(plan_lines(skeleton)), **how)


async def settle(until: Callable[[], bool] | None = None, rounds: int = 500) -> None:
    """Let every task run as far as it can; with `until`, at least until that holds, ten seconds at most."""
    for _ in range(rounds):
        await asyncio.sleep(0)
        if until is not None and until():
            return
    for _ in range(1000 if until is not None else 0):
        await asyncio.sleep(0.01)
        if until is not None and until():
            return
    assert until is None, "it never came to that"


def others() -> set[asyncio.Task[Any]]:
    """The tasks beside the current one."""
    return asyncio.all_tasks() - {asyncio.current_task()}
