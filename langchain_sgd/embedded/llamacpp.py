"""The engine for everything that OpenVINO cannot read or run: llama.cpp's own server, in a child process.

It comes from the xllamacpp wheel, listens on loopback with a key of its own, and is driven over HTTP. Any
GGUF file of a decoder-only transformer runs. It gains little from several streams on a CPU (1.4 to 1.9 times
at four, where OpenVINO gains 2.4 to 2.8), and parts over a shared prefix wait for each other, so SGD gains
little on it.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import re
import secrets
import urllib.request
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Unpack

import aiohttp

from langchain_sgd.embedded._child import Keeper
from langchain_sgd.embedded._gguf import read_gguf
from langchain_sgd.embedded._grammar import grammar_regex
from langchain_sgd.embedded._text import INSTALL_HINT, Options, TextEngine, source_of
from langchain_sgd.embedded._tokenizer import controls_of
from langchain_sgd.embedded.engine import (
    Counters,
    EngineError,
    EngineInputError,
    GenerateRequest,
    Sampling,
    Statistics,
    Token,
    shown,
)

__all__ = ["LlamaCppEngine"]

_DATA: Final = b"data: "
_HIGHEST_SEED: Final = 2**32 - 1
"""llama.cpp takes it to mean any."""
_ASK_TIMEOUT_S: Final = 2.0


class LlamaCppEngine(TextEngine["_Server"]):
    """One GGUF model in llama.cpp's server; an `engine.Engine`.

    May be used from several event loops and threads at once. If its process dies, so do the requests in it;
    the next one starts another. A step is counted where the server says so; `busy_s` is not known.

    Args:
        path: The GGUF file.
        options: As of `load.load`. Memory is reserved for `slots * context` tokens.

    Raises:
        EngineError: The file cannot be used, or xllamacpp cannot.
    """

    name: Final = "llamacpp"

    def __init__(self, path: str | os.PathLike[str], **options: Unpack[Options]) -> None:
        model = read_gguf(Path(path))
        if importlib.util.find_spec("xllamacpp") is None:
            msg = f"The llama.cpp engine needs the package xllamacpp, which is not installed: {INSTALL_HINT}"
            raise EngineError(msg)
        self._controls = controls_of(model)
        self._counts = Statistics()
        super().__init__(source_of(model, self._controls), _Server, "llama.cpp", **options)

    @property
    def statistics(self) -> Statistics:
        """Steps of the running server and tokens so far; asks the server, which takes some milliseconds."""
        return replace(self._counts, steps=self._keeper.steps())

    async def generate(
        self, request: GenerateRequest, counters: Counters
    ) -> AsyncGenerator[Token, None]:
        """Yield the tokens of a continuation as they are made; see `engine.Engine`.

        Raises:
            EngineInputError: The request cannot be done.
            EngineError: The engine failed or was closed.
        """
        regex = None
        if request.grammar is not None:
            regex = await asyncio.to_thread(grammar_regex, request.grammar)
        found = await self._found(request.prompt)
        ids = self._kept([number for number, _, _ in found], request)
        counters.prompt_tokens = len(ids)
        if not request.max_new_tokens:
            return
        made = 0
        text = ""
        async with self._keeper.post("/completion", _body(request, ids, regex)) as lines:
            async for said in lines:
                if said["stop"]:
                    break
                # A token inside a character is not sent: the one that completes it stands for both.
                for _ in range(said["tokens_predicted"] - made - len(said["tokens"])):
                    made += 1
                    yield _unsaid(request)
                made += len(said["tokens"])
                text += said["content"]
                yield _token(said)
            else:
                raise EngineError(await asyncio.to_thread(self._keeper.why_early))
        self._count(said, counters)
        for number in range(made, said["tokens_predicted"]):
            # The text ends inside a character.
            yield _unsaid(request, "\ufffd" if number + 1 == said["tokens_predicted"] else "")
        if said["stop_type"] != "limit":
            if regex is not None and re.fullmatch(regex, text) is None:
                # It drops what it cannot compile, without a word.
                msg = f"llama.cpp did not follow the grammar {request.grammar and request.grammar.kind}"
                raise EngineInputError(msg)
            end = self._controls.eos
            text = self._controls.text_of(end)
            yield replace(_unsaid(request, text), id=end or 0, special=True)

    def _count(self, said: Mapping[str, Any], counters: Counters) -> None:
        timings = said.get("timings", {})
        counters.cached_tokens = max(0, timings.get("cache_n", 0))
        self._counts += Statistics(
            cached_prompt_tokens=counters.cached_tokens,
            computed_prompt_tokens=timings.get("prompt_n", 0),
            generated_tokens=said["tokens_predicted"],
        )

    async def tokenize(self, text: str) -> list[Token]:
        """Split text into the model's tokens, the beginning-of-sequence token included."""
        tokens: list[Token] = []
        found = await self._found(text)
        raw, text = b"", shown(text)
        for number, piece, special in found:
            before = len(raw.decode(errors="ignore"))
            raw += piece
            stop = max(len(raw.decode(errors="ignore")), min(before + bool(piece), len(text)))
            covered = text[before:stop]
            tokens.append(Token(number, covered, special=special, start=before, stop=stop))
        return tokens

    async def _found(self, text: str) -> list[tuple[int, bytes, bool]]:
        """The tokens of a text, the bytes of each and whether it controls; guards keep text from doing so."""
        found = [(number, b"", True) for number in self._controls.begins]
        for part, control in self._controls.parts(text):
            if control is not None:
                found.append((control, part.encode(), True))
            elif part:
                body = {"content": part, "parse_special": False, "with_pieces": True}
                async with self._keeper.post("/tokenize", body) as lines:
                    async for said in lines:
                        found += [
                            (each["id"], _bytes(each["piece"]), False) for each in said["tokens"]
                        ]
        return found

    async def forget(self) -> None:
        """Start the server anew, whose cache is then empty; for measuring."""
        await asyncio.to_thread(self._keeper.child.close)
        await self._keeper.ready()


def _body(request: GenerateRequest, ids: Sequence[int], regex: str | None) -> dict[str, Any]:
    """The request in llama.cpp's names."""
    sampling = request.sampling
    body: dict[str, Any] = {
        "prompt": list(ids),
        "n_predict": request.max_new_tokens,
        "stream": True,
        "return_tokens": True,
        "cache_prompt": True,
        "n_probs": int(request.logprobs),
        "repeat_penalty": sampling.repetition_penalty or 1.0,
        "frequency_penalty": sampling.frequency_penalty or 0.0,
        "samplers": ["penalties", *_samplers(sampling)],
        "temperature": 0.0 if sampling.temperature is None else sampling.temperature,
        "top_k": 1 if sampling.temperature is None else sampling.top_k or 0,
        "top_p": sampling.top_p or 1.0,
        "typical_p": sampling.typical_p or 1.0,
    }
    if sampling.seed is not None:
        body["seed"] = sampling.seed % _HIGHEST_SEED
    if regex is not None:
        body["grammar"] = f"%llguidance {{}}\nstart: /{regex}/"
    return body


def _samplers(sampling: Sampling) -> Sequence[str]:
    """As in TGI: the temperature before what cuts."""
    if sampling.temperature is None:
        return ("top_k",)
    cuts = {"top_k": sampling.top_k, "top_p": sampling.top_p, "typ_p": sampling.typical_p}
    return ("temperature", *(name for name, value in cuts.items() if value is not None))


def _token(said: Mapping[str, Any]) -> Token:
    probabilities = said.get("completion_probabilities") or [{}]
    return Token(said["tokens"][-1], said["content"], logprob=probabilities[-1].get("logprob"))


def _unsaid(request: GenerateRequest, text: str = "") -> Token:
    """One that the server tells nothing of but that there was one."""
    return Token(0, text, logprob=0.0 if request.logprobs else None)


def _bytes(piece: str | Sequence[int]) -> bytes:
    return piece.encode() if isinstance(piece, str) else bytes(piece)


class _Server(Keeper):
    """The child process, started anew when it has died, and the requests to it."""

    def __init__(self, options: Mapping[str, Any], name: str) -> None:
        key = secrets.token_urlsafe(16)
        self._headers = {"Authorization": f"Bearer {key}"}
        super().__init__({**options, "engine": "llamacpp", "key": key}, name)

    def steps(self) -> int:
        """Batches computed; 0 where it does not answer."""
        request = urllib.request.Request(  # noqa: S310 - our own server
            f"{self.child.said['url']}/metrics", headers=self._headers
        )
        try:
            with urllib.request.urlopen(request, timeout=_ASK_TIMEOUT_S) as answer:  # noqa: S310
                text = answer.read().decode()
        except OSError:
            return 0
        found = re.search(r"^llamacpp:n_decode_total (\d+)", text, re.MULTILINE)
        return int(found[1]) if found else 0

    def why_early(self) -> str:
        """Why it stopped in the middle."""
        if self.closed or self.child.ends_soon():
            return self.last_words(self.child)
        return "llama.cpp's server ended an answer early"

    @asynccontextmanager
    async def post(self, path: str, body: Mapping[str, Any]) -> AsyncIterator[AsyncIterator[Any]]:
        """Post a request; gives its events, or its only body.

        Raises:
            EngineInputError: It was refused.
            EngineError: The server failed.
        """
        url = (await self.ready()).said["url"]
        try:
            # A session for each request: the engine may be used from several event loops.
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as session,
                session.post(url + path, json=body, headers=self._headers) as response,
            ):
                if response.status != 200:
                    raise _refusal(response.status, await response.text())
                yield _events(response)
        except (aiohttp.ClientError, ConnectionError) as error:
            raise EngineError(await asyncio.to_thread(self.why_early)) from error


async def _events(response: aiohttp.ClientResponse) -> AsyncIterator[Any]:
    if response.content_type == "application/json":
        yield await response.json()
        return
    async for line in response.content:
        if line.startswith(b"error: "):
            raise _refusal(500, line.removeprefix(b"error: ").decode())
        if line.startswith(_DATA):
            said = json.loads(line.removeprefix(_DATA))
            if "error" in said:
                raise _refusal(said["error"].get("code", 500), json.dumps(said))
            yield said


def _refusal(status: int, text: str) -> EngineError:
    try:
        reason = json.loads(text)["error"]["message"]
    except (ValueError, KeyError, TypeError):
        reason = text[:300]
    kind = EngineInputError if status < 500 else EngineError
    return kind(f"llama.cpp's server refuses the request: {reason}")
