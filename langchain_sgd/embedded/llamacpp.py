"""The engine for everything that OpenVINO cannot read or run: llama.cpp's own server, in a child process.

It comes from the xllamacpp wheel, listens on loopback with a key of its own, and is driven over HTTP. Any
GGUF file of a decoder-only transformer runs. It gains little from several streams on a CPU (1.4 to 1.9 times
at four, where OpenVINO gains 2.4 to 2.8), and parts over a shared prefix wait for each other, so SGD gains
little on it.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import importlib.util
import json
import os
import re
import secrets
import urllib.error
import urllib.request
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import aiohttp

from langchain_sgd.embedded._child import Keeper
from langchain_sgd.embedded._gguf import read_gguf
from langchain_sgd.embedded._grammar import grammar_regex
from langchain_sgd.embedded._statistics import Statistics
from langchain_sgd.embedded._text import DEFAULT_CONTEXT, Chats, TextEngine
from langchain_sgd.embedded._tokenizer import controls_pattern
from langchain_sgd.embedded.engine import (
    Counters,
    EngineError,
    EngineInfo,
    EngineInputError,
    GenerateRequest,
    Sampling,
    Token,
    shown,
)
from langchain_sgd.embedded.openvino import default_threads

__all__ = ["INSTALL_HINT", "TESTED_VERSION", "LlamaCppEngine", "installed_version"]

TESTED_VERSION: Final = "2026.10.11549"
INSTALL_HINT: Final = f"pip install xllamacpp=={TESTED_VERSION}"

_CONTROL: Final = 3
_DATA: Final = b"data: "
_HIGHEST_SEED: Final = 2**32 - 1
"""llama.cpp takes it to mean any."""
_ASK_TIMEOUT_S: Final = 2.0


def installed_version() -> str | None:
    """The wheel's version, None where it is not installed."""
    try:
        return importlib.metadata.version("xllamacpp")
    except importlib.metadata.PackageNotFoundError:
        return None


class LlamaCppEngine(TextEngine):
    """One GGUF model in llama.cpp's server; an `engine.Engine`.

    May be used from several event loops and threads at once. If its process dies, so do the requests in it;
    the next one starts another. A step is counted where the server says so; `busy_s` is not known.

    Args:
        path: The GGUF file.
        slots: These and the others as of `load.load`. Memory is reserved for `slots * context` tokens.

    Raises:
        EngineError: The file cannot be used, or xllamacpp cannot.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        slots: int = 8,
        context: int | None = None,
        threads: int | None = None,
        model_id: str | None = None,
        progress: Callable[[str], object] | None = None,
    ) -> None:
        path = Path(path)
        model = read_gguf(path)
        if importlib.util.find_spec("xllamacpp") is None:
            msg = f"The llama.cpp engine needs the package xllamacpp, which is not installed: {INSTALL_HINT}"
            raise EngineError(msg)
        fields = model.fields
        tokens = fields.get("tokenizer.ggml.tokens") or []
        kinds = fields.get("tokenizer.ggml.token_type") or []
        self._controls = {
            text: n
            for n, (text, kind) in enumerate(zip(tokens, kinds, strict=False))
            if kind == _CONTROL
        }
        pattern = self._pattern = controls_pattern(list(self._controls))

        def special(name: str) -> tuple[int | None, str]:
            number = fields.get(f"tokenizer.ggml.{name}_token_id")
            if isinstance(number, int) and number < len(tokens):
                return number, tokens[number]
            return None, ""

        self._bos, bos = special("bos")
        self._adds_bos = bool(
            fields.get(
                "tokenizer.ggml.add_bos_token", fields.get("tokenizer.ggml.model") == "llama"
            )
        )
        self._end = special("eos")
        self._chats = Chats(
            fields.get("tokenizer.chat_template"),
            bos=bos,
            eos=self._end[1],
            strip_bos=self._adds_bos,
            controls=pattern,
        )
        trained = model.of_model("context_length") or DEFAULT_CONTEXT
        self._info = EngineInfo(
            model_id or fields.get("general.name") or path.stem,
            max_total_tokens=min(context or DEFAULT_CONTEXT, trained),
            slots=slots,
            dtype="+".join(sorted(model.tensor_types - {"F32"}) or ["F32"]).lower(),
            eos_token=self._end[1],
            template_uses_tools=self._chats.uses_tools,
        )
        if progress is not None:
            size = path.stat().st_size
            progress(f"loading {self._info.model_id} ({size / 1e6:.0f} MB) with llama.cpp")
        self._server = _Server(
            {
                "path": str(path),
                "slots": slots,
                "context": self._info.max_total_tokens,
                "threads": threads or default_threads(path.stat().st_size),
                "key": secrets.token_urlsafe(16),
            },
            self._info.model_id,
        )
        self._counts = Statistics()
        self._steps_before = 0
        # Also runs when the process ends.
        self._close = weakref.finalize(self, self._server.close)

    @property
    def statistics(self) -> Statistics:
        """Steps and tokens so far; asks the server, which takes some milliseconds."""
        steps = self._steps_before + self._server.steps()
        return replace(self._counts, steps=steps)

    async def generate(
        self, request: GenerateRequest, counters: Counters
    ) -> AsyncGenerator[Token, None]:
        """Yield the tokens of a continuation as they are made; see `engine.Engine`.

        Raises:
            EngineInputError: The request cannot be done.
            EngineError: The engine failed or was closed.
        """
        regex = None if request.grammar is None else grammar_regex(request.grammar)
        ids = [token["id"] for token in await self._ids(request.prompt)]
        ids = ids if request.truncate is None else ids[-request.truncate :]
        self._check_length(len(ids), request.max_new_tokens)
        counters.prompt_tokens = len(ids)
        if not request.max_new_tokens:
            return
        made = 0
        text = ""
        async with self._server.post("/completion", _body(request, ids, regex)) as lines:
            async for said in lines:
                if said["stop"]:
                    break
                # A token inside a character is not sent: the one that completes it stands for both.
                for _ in range(said["tokens_predicted"] - made - len(said["tokens"])):
                    made += 1
                    yield Token(0, "", logprob=0.0 if request.logprobs else None)
                made += len(said["tokens"])
                text += said["content"]
                yield _token(said)
            else:
                raise EngineError(await asyncio.to_thread(self._server.last_words))
        self._count(said, counters)
        for number in range(made, said["tokens_predicted"]):
            # The text ends inside a character.
            part = "" if number + 1 < said["tokens_predicted"] else "\ufffd"
            yield Token(0, part, logprob=0.0 if request.logprobs else None)
        if said["stop_type"] != "limit":
            if regex is not None and re.fullmatch(regex, text) is None:
                # It drops what it cannot compile, without a word.
                msg = f"llama.cpp did not follow the grammar {request.grammar and request.grammar.kind}"
                raise EngineInputError(msg)
            end, text = self._end
            yield Token(end or 0, text, logprob=0.0 if request.logprobs else None, special=True)

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
        found: list[Token] = []
        ids = await self._ids(text)
        raw, text = b"", shown(text)
        for token in ids:
            if token.get("begins"):
                found.append(Token(token["id"], "", special=True, start=0, stop=0))
                continue
            piece = token["piece"]
            before = len(raw.decode(errors="ignore"))
            raw += piece.encode() if isinstance(piece, str) else bytes(piece)
            stop = max(len(raw.decode(errors="ignore")), min(before + 1, len(text)))
            special = token.get("special", False)
            found.append(
                Token(token["id"], text[before:stop], special=special, start=before, stop=stop)
            )
        return found

    async def _ids(self, text: str) -> list[dict[str, Any]]:
        """The tokens of a text, control tokens read where they are not guarded."""
        begins = self._adds_bos and self._bos is not None
        found: list[dict[str, Any]] = [{"id": self._bos, "begins": True}] if begins else []
        for part in self._parts(text):
            if part in self._controls:
                found.append({"id": self._controls[part], "piece": part, "special": True})
            elif part:
                plain = shown(part).encode(errors="replace").decode()
                body = {"content": plain, "add_special": False, "parse_special": False}
                async with self._server.post("/tokenize", {**body, "with_pieces": True}) as lines:
                    async for said in lines:
                        found += said["tokens"]
        return found

    def _parts(self, text: str) -> Iterator[str]:
        at = 0
        for each in self._pattern.finditer(text) if self._pattern else ():
            yield from (text[at : each.start()], each[0])
            at = each.end()
        yield text[at:]

    async def forget(self) -> None:
        """Start the server anew, whose cache is then empty; for measuring."""
        self._steps_before += self._server.steps()
        await self._server.restart()


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
        pattern = regex.replace("/", r"\/").replace("\n", r"\n").replace("\r", r"\r")
        body["grammar"] = f"%llguidance {{}}\nstart: /{pattern}/"
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


class _Server:
    """The child process, started anew when it has died, and the requests to it."""

    def __init__(self, options: Mapping[str, Any], name: str) -> None:
        self._keeper = Keeper("_llamacpp_worker.py", options, name)
        self._headers = {"Authorization": f"Bearer {options['key']}"}
        self.restart = self._keeper.restart
        self.close = self._keeper.close

    def steps(self) -> int:
        """Batches computed; 0 where it does not answer."""
        request = urllib.request.Request(  # noqa: S310 - our own server
            f"{self._keeper.child.said['url']}/metrics", headers=self._headers
        )
        try:
            with urllib.request.urlopen(request, timeout=_ASK_TIMEOUT_S) as answer:  # noqa: S310
                text = answer.read().decode()
        except (OSError, urllib.error.URLError):
            return 0
        found = re.search(r"^llamacpp:n_decode_total (\d+)", text, re.MULTILINE)
        return int(found[1]) if found else 0

    def last_words(self) -> str:
        """Why it stopped in the middle."""
        if self._keeper.closed or self._keeper.child.ends_soon():
            return self._keeper.last_words()
        return "llama.cpp's server ended an answer early"

    @asynccontextmanager
    async def post(self, path: str, body: Mapping[str, Any]) -> AsyncIterator[AsyncIterator[Any]]:
        """Post a request; gives its events, or its only body.

        Raises:
            EngineInputError: It was refused.
            EngineError: The server failed.
        """
        url = (await self._keeper.ready()).said["url"]
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
            raise EngineError(await asyncio.to_thread(self.last_words)) from error


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
