"""The default engine: llama.cpp in the process, from the xllamacpp wheel.

Any GGUF file of a decoder-only transformer runs. All requests of a model are decoded in one batch by one
thread; they share every computed prefix by themselves, so `share_prefix` only computes one in advance.
"""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, Final

from langchain_sgd.embedded._batching import Batcher, Job
from langchain_sgd.embedded._context import Context, Model, default_threads
from langchain_sgd.embedded._llama import library
from langchain_sgd.embedded._prefixes import Kept
from langchain_sgd.embedded._sampling import make_sampler
from langchain_sgd.embedded._statistics import Statistics
from langchain_sgd.embedded._streams import Outboxes, TokenStream
from langchain_sgd.embedded._text import Text, check_numbers
from langchain_sgd.embedded.engine import Counters, EngineInfo, GenerateRequest, Token

__all__ = ["Statistics", "XLlamaCppEngine"]

# Prompt tokens per step: more of them delay the running requests' next tokens, fewer cost steps.
_BATCH: Final = 128
_KEPT_SEQUENCES: Final = 8


class XLlamaCppEngine:
    """One GGUF model on the CPU; an `engine.Engine`.

    May be used from several event loops and threads at once. It lives until `aclose` or `close`, at the
    latest until the process ends.

    Args:
        path: The GGUF file.
        slots: Requests decoded together; more wait in a queue without limit.
        context: Most tokens of a request, prompt and answer together; no more than the model was trained
            for. Memory is reserved for `slots * context` tokens.
        threads: Threads that compute. None chooses: 1 for files below 32 MB, else all cores.
        model_id: What the model is called; the name in the file by default.
        kept_tokens: Tokens of finished requests that stay in the cache for later prompts that begin
            alike; half a context by default. Each makes steps a little slower.
        json_separators: How JSON grammars separate items, and keys from values. Grammars allow no other
            whitespace, so the separators should be those of the model's training data.

    Raises:
        EngineError: The file cannot be used, or xllamacpp cannot.
        ValueError: A number is below 1.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        slots: int = 8,
        context: int = 1024,
        threads: int | None = None,
        model_id: str | None = None,
        kept_tokens: int | None = None,
        json_separators: tuple[str, str] = (",", ":"),
    ) -> None:
        check_numbers(slots=slots, context=context, threads=threads)
        self._lib = library()
        model = Model(self._lib, Path(path))
        self._text = text = Text(
            model,
            slots=slots,
            context=context,
            model_id=model_id,
            json_separators=json_separators,
        )
        context = text.info.max_total_tokens
        sequences = slots + _KEPT_SEQUENCES
        kept = Kept(
            budget=context // 2 if kept_tokens is None else kept_tokens, limit=_KEPT_SEQUENCES
        )
        try:
            cache = Context(
                model,
                cells=slots * context,
                sequences=sequences,
                batch=max(_BATCH, 2 * slots),
                threads=threads or default_threads(model.path),
            )
        except BaseException:
            model.free()
            raise
        self._outboxes = Outboxes()

        def free() -> None:
            text.vocabulary.close()
            cache.free()
            model.free()

        self._batcher = Batcher(
            cache,
            text.vocabulary,
            slots=slots,
            kept=kept,
            sequences=sequences,
            on_end=free,
            name=f"engine:{text.info.model_id}",
        )
        # Also runs when the process ends: the library must not be computing while it is unloaded.
        self._close = weakref.finalize(self, self._batcher.close)

    @property
    def info(self) -> EngineInfo:
        """What the model is and what it can hold."""
        return self._text.info

    @property
    def statistics(self) -> Statistics:
        """Steps, tokens and time so far; for benchmarks."""
        return self._batcher.statistics

    async def generate(
        self, request: GenerateRequest, counters: Counters
    ) -> AsyncGenerator[Token, None]:
        """Yield the tokens of a continuation as they are made; see `engine.Engine`.

        Tokens that a grammar forces are not sampled and arrive together with the token before them.

        Raises:
            EngineInputError: The grammar cannot be compiled, or prompt and answer exceed the context.
            EngineError: The engine failed or was closed.
        """
        text = self._text
        prompt = text.prompt(request)
        matcher = None
        if request.grammar is not None:
            matcher = await asyncio.to_thread(text.compile, request.grammar)
        stream = TokenStream(self._outboxes.mine(), may_wait=request.may_wait)
        self._batcher.submit(
            Job(
                prompt=prompt,
                max_new_tokens=request.max_new_tokens,
                stream=stream,
                counters=counters,
                sampler=make_sampler(
                    self._lib,
                    request.sampling,
                    prompt,
                    len(text.vocabulary),
                    text.info.max_total_tokens,
                ),
                matcher=matcher,
                logprobs=request.logprobs,
            )
        )
        async with aclosing(stream.tokens()) as tokens:
            async for token in tokens:
                yield token

    async def render_chat(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] | None
    ) -> str:
        """Apply the model's chat template, generation prompt included.

        Raises:
            EngineInputError: The model has no template, or the template refuses these messages.
            EngineError: The template is broken, or jinja2 is not installed.
        """
        return self._text.render_chat(messages, tools)

    async def tokenize(self, text: str) -> list[Token]:
        """Split text into the model's tokens, the beginning-of-sequence token included."""
        return self._text.tokenize(text)

    async def share_prefix(self, text: str) -> int:
        """Compute a prefix now, so that prompts which begin with it need not.

        Only a head start: prompts find computed prefixes by themselves.

        Returns:
            Tokens of the prefix; fewer are kept where it is longer than `kept_tokens`.

        Raises:
            EngineInputError: It does not fit into the context.
            EngineError: The engine failed or was closed.
        """
        counters = Counters()
        async for _ in self.generate(GenerateRequest(text, 0), counters):
            pass
        return counters.prompt_tokens

    async def aclose(self) -> None:
        """Free the model; requests in flight end with an `EngineError`. May be called again."""
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        """As `aclose`, for code without an event loop; waits for the step in progress."""
        self._close()
