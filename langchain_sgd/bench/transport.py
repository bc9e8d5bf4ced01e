"""What a call costs on its way: ChatTGI beside the stock text-generation client and ChatHuggingFace.

All of them ask one TGI-protocol server on loopback, in a process of its own, whose model answers at
once; the clients alternate, since one after the other on a busy machine gave reversed orders. Chat
models carry LangChain's own cost per call, the two plain clients do not.
"""

from __future__ import annotations

import asyncio
import statistics
import time
import warnings
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from text_generation import AsyncClient

from langchain_sgd.argument_types import count
from langchain_sgd.bench._output import parser, save, show
from langchain_sgd.embedded.engine import Counters, EngineInfo, GenerateRequest, Token
from langchain_sgd.embedded.process import served
from langchain_sgd.tgi import ChatTGI, TGIClient

_TOKENS: Final = 8
_QUESTION: Final = "Name a prime number."

Call = Callable[[], Awaitable[object]]


class InstantEngine:
    """Answers every request with the same few tokens and does no work."""

    info = EngineInfo("instant", max_total_tokens=100_000, slots=1024)

    async def generate(
        self, _request: GenerateRequest, counters: Counters
    ) -> AsyncGenerator[Token, None]:
        """Yield the tokens."""
        counters.prompt_tokens = 8
        for index in range(_TOKENS - 1):
            yield Token(index, " seven")
        yield Token(2, "</s>", special=True)

    async def render_chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None,
    ) -> str:
        """Join the messages' texts."""
        return "\n".join(str(message.get("content")) for message in messages)

    async def tokenize(self, text: str) -> list[Token]:
        """Split at spaces."""
        return [Token(index, word) for index, word in enumerate(text.split())]

    async def aclose(self) -> None:
        """Free nothing."""


@asynccontextmanager
async def server() -> AsyncIterator[str]:
    """Run the server in a process of its own; yields its URL.

    Raises:
        BrokenProcessPool: It did not start.
    """
    engines = {"instant": InstantEngine()}
    async with served(engines, max_concurrent_requests=1024) as running:
        yield running.urls["instant"]


def clients(url: str) -> dict[str, Call]:
    """One call of each client, with the same question and number of tokens."""
    # Loads Hugging Face's hub client, which only this row needs.
    from langchain_huggingface import ChatHuggingFace, HuggingFaceEndpoint  # noqa: PLC0415

    chat_tgi = ChatTGI(base_url=url, max_tokens=_TOKENS)
    plain = TGIClient(url)
    stock = AsyncClient(url)
    endpoint: Any = HuggingFaceEndpoint
    hugging_face = ChatHuggingFace(llm=endpoint(endpoint_url=url, max_new_tokens=_TOKENS))
    return {
        "ChatTGI": lambda: chat_tgi.ainvoke(_QUESTION),
        "ChatHuggingFace": lambda: hugging_face.ainvoke(_QUESTION),
        "text_generation.AsyncClient": lambda: stock.generate(_QUESTION, max_new_tokens=_TOKENS),
        "TGIClient (no chat model)": lambda: plain.generate(_QUESTION, max_new_tokens=_TOKENS),
    }


async def transport(
    *, rounds: int = 12, calls: int = 32, in_flight: int = 16
) -> dict[str, dict[str, float]]:
    """Measure each client's calls, alone and together.

    Args:
        rounds: How often the clients take turns; one more warms up.
        calls: Calls of each client in a round, first alone, the clients alternating call by call,
            then four times as many together.
        in_flight: Calls at a time in the second part.

    Returns:
        By client `p50_ms` of a call alone, and `calls_per_s` with `in_flight` at a time, the median
        of the rounds.
    """
    async with server() as url:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # the stock client's, each call
            asked = clients(url)
            alone: dict[str, list[float]] = {name: [] for name in asked}
            together: dict[str, list[float]] = {name: [] for name in asked}
            for round_ in range(rounds + 1):
                for _ in range(calls):
                    for name, call in asked.items():
                        began = time.perf_counter()
                        await call()
                        alone[name].append(time.perf_counter() - began)
                for name, call in asked.items():
                    together[name].append(await _at_once(call, calls * 4, in_flight))
                if not round_:
                    for figures in (*alone.values(), *together.values()):
                        figures.clear()
    return {
        name: {
            "p50_ms": statistics.median(alone[name]) * 1000,
            "calls_per_s": statistics.median(together[name]),
        }
        for name in asked
    }


async def _at_once(call: Call, calls: int, in_flight: int) -> float:
    """Calls per second while so many are in flight."""
    left = iter(range(calls))

    async def work() -> None:
        for _ in left:
            await call()

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(in_flight):
            group.create_task(work())
    return calls / (time.perf_counter() - began)


def main(argv: Sequence[str] | None = None) -> None:
    """Print and save the figures."""
    options = parser("transport", __doc__ or "")
    options.add_argument("--rounds", type=count(1), default=12)
    options.add_argument("--calls", type=count(1), default=32, help="calls of a client in a round")
    options.add_argument("--in-flight", type=count(1), default=16)
    args = options.parse_args(argv)
    figures = asyncio.run(transport(rounds=args.rounds, calls=args.calls, in_flight=args.in_flight))
    show(
        "One call on loopback, a model that answers at once",
        ("", "p50 ms", f"calls/s, {args.in_flight} in flight"),
        [
            (name, f"{found['p50_ms']:.2f}", f"{found['calls_per_s']:.0f}")
            for name, found in figures.items()
        ],
        "Chat models carry LangChain's own cost per call; the two plain clients do not.",
    )
    save(args.json, "transport", argv, figures)


if __name__ == "__main__":
    main()
