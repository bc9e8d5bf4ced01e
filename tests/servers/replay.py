"""Recorded answers at a GPU's pace: SGD's wall time on a card, without the weights of a model.

    python -m tests.servers.replay --rows rows.jsonl --sizes 0.5B 1.5B --json out.json

Needs PyTorch and a GPU. Speed depends on a model's shape and on how many tokens are written, not on what
its weights hold: so the engine computes with random weights of a real shape (Qwen2.5's), prefill and
decoding in full, in one batch for all requests as servers do, beginnings of prompts cached, and each request's text is what the real
model wrote to the same prompt in a run of `bench endpoints` on a CPU. Its rows say which text, and how many
tokens it had. Around it all is real: TGI's protocol over HTTP, and SGD as users run it.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import itertools
import json
import os
import queue
import re
import subprocess
import sys
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langchain_sgd.embedded.app import make_app, serving
from langchain_sgd.embedded.engine import Counters, EngineInfo, GenerateRequest, Token

SLOTS, CONTEXT, VOCABULARY = 96, 1536, 151_936
BATCHES = (1, 2, 4, 8, 16, 32, 64, 96)
PREFILLS = (32, 64, 128, 256, 512, 1024, CONTEXT)
_BLOCK = 16
"""Tokens of a block, as servers cache prompts."""
_KNOWN_PROMPTS = 256
"""Prompts whose beginnings are still in the cache."""
_PART = re.compile(r'Write only part (\d+), "')
_CHARACTERS_A_TOKEN = 4


@dataclass(frozen=True)
class Shape:
    """What of a model decides its speed; Qwen2.5's own numbers."""

    layers: int
    hidden: int
    heads: int
    key_heads: int
    inner: int


SHAPES = {
    "0.5B": Shape(24, 896, 14, 2, 4864),
    "1.5B": Shape(28, 1536, 12, 2, 8960),
    "7B": Shape(28, 3584, 28, 4, 18944),
    "32B": Shape(64, 5120, 40, 8, 27648),
    "tiny": Shape(2, 64, 4, 2, 128),
}


class Computer:
    """A decoder of random weights: prefill of one request, and steps of all slots."""

    def __init__(self, shape: Shape) -> None:
        import torch  # noqa: PLC0415 - on the GPU

        self.torch, self.shape = torch, shape
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        kind = {"dtype": torch.bfloat16, "device": self.device}
        self.size = shape.hidden // shape.heads

        def weight(rows: int, columns: int) -> Any:
            return torch.randn(rows, columns, **kind) * 0.02

        keys = shape.key_heads * self.size
        self.embedding = weight(VOCABULARY if shape.layers > 2 else 512, shape.hidden)
        self.norm = torch.ones(shape.hidden, **kind)
        self.layers = [
            (
                weight(shape.hidden + 2 * keys, shape.hidden),
                weight(shape.hidden, shape.hidden),
                weight(2 * shape.inner, shape.hidden),
                weight(shape.hidden, shape.inner),
                torch.zeros(SLOTS, shape.key_heads, CONTEXT, self.size, **kind),
                torch.zeros(SLOTS, shape.key_heads, CONTEXT, self.size, **kind),
            )
            for _ in range(shape.layers)
        ]
        angles = torch.outer(
            torch.arange(CONTEXT, device=self.device).float(),
            1e6 ** -(torch.arange(0, self.size, 2, device=self.device).float() / self.size),
        )
        self.cos = torch.cat([angles.cos()] * 2, -1).to(torch.bfloat16)
        self.sin = torch.cat([angles.sin()] * 2, -1).to(torch.bfloat16)
        self.places = torch.arange(CONTEXT, device=self.device)
        self.positions = torch.zeros(SLOTS, dtype=torch.long, device=self.device)
        self.tokens = torch.zeros(SLOTS, dtype=torch.long, device=self.device)
        self.graphs: dict[tuple[str, int], Any] = {}
        self.fill_slot = torch.zeros(1, dtype=torch.long, device=self.device)
        self.fill_from = torch.zeros(1, dtype=torch.long, device=self.device)

    def _turn(self, x: Any, cos: Any, sin: Any) -> Any:
        half = self.size // 2
        turned = self.torch.cat((-x[..., half:], x[..., :half]), -1)
        return x * cos + turned * sin

    def _ends(self, x: Any, inner: Any, out: Any) -> Any:
        functional = self.torch.nn.functional
        gate, up = (functional.rms_norm(x, (self.shape.hidden,), self.norm) @ inner.T).chunk(2, -1)
        return x + (functional.silu(gate) * up) @ out.T

    def _qkv(self, x: Any, weights: Any) -> Any:
        s, functional = self.shape, self.torch.nn.functional
        made = functional.rms_norm(x, (s.hidden,), self.norm) @ weights.T
        return made.split([s.hidden, s.key_heads * self.size, s.key_heads * self.size], -1)

    def _fill(self, size: int) -> None:
        """Compute so many tokens of one prompt, from `fill_from` on, into the slot `fill_slot`."""
        s = self.shape
        at = (self.fill_from + self.places[:size]).clamp(max=CONTEXT - 1)
        x = self.embedding[at % self.embedding.shape[0]]
        cos, sin = self.cos[at][:, None], self.sin[at][:, None]
        hidden = (self.places[None] > at[:, None]) * -1e4
        for qkv, out, inner, last, keys, values in self.layers:
            q, k, v = self._qkv(x, qkv)
            q = self._turn(q.view(size, s.heads, self.size), cos, sin)
            k = self._turn(k.view(size, s.key_heads, self.size), cos, sin)
            keys[self.fill_slot, :, at] = k
            values[self.fill_slot, :, at] = v.view(size, s.key_heads, self.size)
            group = s.heads // s.key_heads
            q = q.view(size, s.key_heads, group, self.size).permute(1, 2, 0, 3)
            own_keys, own_values = keys[self.fill_slot][0], values[self.fill_slot][0]
            scores = q @ own_keys[:, None].transpose(-1, -2) / self.size**0.5 + hidden.to(q.dtype)
            seen = (scores.softmax(-1) @ own_values[:, None]).permute(2, 0, 1, 3)
            x = x + seen.reshape(size, s.hidden) @ out.T
            x = self._ends(x, inner, last)
        self.tokens[self.fill_slot] = (x[-1] @ self.embedding.T).argmax(-1)
        self.positions[self.fill_slot] = self.fill_from + size

    def prefill(self, slot: int, count: int, cached: int = 0) -> None:
        """Compute a prompt of so many tokens into a slot, but for those that are cached."""
        size = next(n for n in PREFILLS if n >= count - cached)
        self.fill_slot.fill_(slot)
        self.fill_from.fill_(max(0, count - size))  # some of the cached ones again
        self._run(("prefill", size), lambda: self._fill(size))

    def _step(self, batch: int) -> None:
        torch, s = self.torch, self.shape
        at = self.positions[:batch]
        rows = torch.arange(batch, device=self.device)
        x = self.embedding[self.tokens[:batch]]
        cos, sin = self.cos[at][:, None], self.sin[at][:, None]
        hidden = (self.places[None, None, None] > at[:, None, None, None]) * -1e4
        for qkv, out, inner, last, keys, values in self.layers:
            q, k, v = self._qkv(x, qkv)
            q = self._turn(q.view(batch, s.heads, self.size), cos, sin)
            k = self._turn(k.view(batch, s.key_heads, self.size), cos, sin)
            keys[rows, :, at] = k
            values[rows, :, at] = v.view(batch, s.key_heads, self.size)
            q = q.view(batch, s.key_heads, s.heads // s.key_heads, self.size)
            scores = q @ keys[:batch].transpose(-1, -2) / self.size**0.5 + hidden.to(q.dtype)
            seen = scores.softmax(-1) @ values[:batch]
            x = x + seen.reshape(batch, s.hidden) @ out.T
            x = self._ends(x, inner, last)
        self.tokens[:batch] = (x @ self.embedding.T).argmax(-1)
        self.positions[:batch] = (at + 1).clamp(max=CONTEXT - 1)

    def step(self, batch: int) -> None:
        """One token for the first so many slots, and wait for it."""
        size = next(b for b in BATCHES if b >= batch)
        self._run(("step", size), lambda: self._step(size))

    def _run(self, name: tuple[str, int], work: Callable[[], None]) -> None:
        """Do the work, on a GPU as a graph that is recorded once, and wait for it."""
        torch = self.torch
        with torch.inference_mode():
            if self.device == "cpu":
                work()
                return
            if name not in self.graphs:
                side = torch.cuda.Stream()
                side.wait_stream(torch.cuda.current_stream())
                with torch.cuda.stream(side):
                    for _ in range(2):
                        work()
                torch.cuda.current_stream().wait_stream(side)
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph):
                    work()
                self.graphs[name] = graph
            self.graphs[name].replay()
            torch.cuda.synchronize()

    def warm_up(self) -> None:
        """Record all graphs, so that no request waits for one."""
        for batch in BATCHES:
            self.step(batch)
        for size in PREFILLS:
            self.prefill(0, size)

    def step_ms(self, batch: int, context: int = 400, rounds: int = 50) -> float:
        """Milliseconds of a step."""
        self.positions.fill_(context)
        self.step(batch)
        began = time.perf_counter()
        for _ in range(rounds):
            self.step(batch)
        return 1000 * (time.perf_counter() - began) / rounds


@dataclass(eq=False)
class _Job:
    prompt_tokens: int
    cached: int
    left: int
    told: asyncio.Queue[int]
    loop: asyncio.AbstractEventLoop
    slot: int = -1


def _same(one: str, other: str) -> int:
    """Characters that both begin with."""
    least, most = 0, min(len(one), len(other))
    while least < most:
        middle = (least + most + 1) // 2
        if one[:middle] == other[:middle]:
            least = middle
        else:
            most = middle - 1
    return least


class ReplayEngine:
    """An engine whose speed is computed and whose texts are recorded."""

    def __init__(
        self, name: str, shape: Shape, texts: Mapping[str, Mapping[str, Any]], tier: str
    ) -> None:
        self.info = EngineInfo(
            f"random/{name}", max_total_tokens=CONTEXT, slots=SLOTS, dtype="bfloat16"
        )
        self._texts, self._tier = texts, tier
        self._computer = Computer(shape)
        self._computer.warm_up()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._gone: set[_Job] = set()
        self._prompts: collections.deque[str] = collections.deque(maxlen=_KNOWN_PROMPTS)
        threading.Thread(target=self._work, daemon=True).start()

    def _work(self) -> None:
        free = list(range(SLOTS))
        active: list[_Job] = []
        while True:
            while free:
                try:
                    job = self._jobs.get(block=not active)
                except queue.Empty:
                    break
                if job is None:
                    return
                job.slot = min(free)
                free.remove(job.slot)
                self._computer.prefill(job.slot, job.prompt_tokens, job.cached)
                active.append(job)
            self._computer.step(max(job.slot for job in active) + 1)
            for job in list(active):
                job.left -= 1
                with contextlib.suppress(RuntimeError):  # the loop has ended
                    job.loop.call_soon_threadsafe(job.told.put_nowait, job.left)
                if job.left <= 0 or job in self._gone:
                    self._gone.discard(job)
                    active.remove(job)
                    free.append(job.slot)

    def _pieces(self, prompt: str) -> list[str]:
        known = [text for question, text in self._texts.items() if question in prompt]
        if not known:
            return ["Warm", "ing", " up", "."]
        answers = known[-1]
        if "Plan long answers" in prompt:
            text, count = answers["plan"]
        elif found := _PART.findall(prompt):
            parts = answers["parts"]
            # A part that the small model could not write went to the large one.
            text, count = parts[self._tier].get(found[-1]) or parts["large"][found[-1]]
        else:
            text, count = answers["plain"]
        if count >= len(text):
            return list(text)
        cuts = [round(len(text) * n / count) for n in range(count + 1)]
        return [text[a:b] for a, b in itertools.pairwise(cuts)]

    def _cached(self, prompt: str) -> int:
        """Tokens of a prompt that a prefix cache holds, in whole blocks; the last one is always computed."""
        same = max((_same(prompt, known) for known in self._prompts), default=0)
        self._prompts.append(prompt)
        same = min(same, len(prompt) - 1)
        return same // _CHARACTERS_A_TOKEN // _BLOCK * _BLOCK

    async def generate(
        self, request: GenerateRequest, counters: Counters
    ) -> AsyncGenerator[Token, None]:
        pieces = self._pieces(request.prompt)[: request.max_new_tokens]
        counters.prompt_tokens = min(
            CONTEXT - len(pieces) - 2, len(request.prompt) // _CHARACTERS_A_TOKEN + 1
        )
        counters.cached_tokens = min(self._cached(request.prompt), counters.prompt_tokens - 1)
        loop = asyncio.get_running_loop()
        job = _Job(
            counters.prompt_tokens, counters.cached_tokens, len(pieces), asyncio.Queue(), loop
        )
        self._jobs.put(job)
        try:
            for number, piece in enumerate(pieces):
                await job.told.get()
                yield Token(number, piece)
            yield Token(0, "</s>", special=True)
        finally:
            if job.left > 0:
                self._gone.add(job)

    async def render_chat(self, messages: Sequence[Mapping[str, Any]], tools: Any) -> str:
        del tools
        return "\n".join(f"{each['role']}: {each['content']}" for each in messages)

    async def tokenize(self, text: str) -> list[Token]:
        return [Token(n, word) for n, word in enumerate(text.split())]

    async def aclose(self) -> None:
        self._jobs.put(None)


def texts_of(rows: Iterator[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """What each model wrote to each question, with its number of tokens: of the rows of `bench endpoints`."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        report = row["report"]
        if row["error"] or not report:
            continue
        texts = found.setdefault(row["question"], {"parts": {"small": {}, "large": {}}})
        for node in report["nodes"]:
            text = (node["answer"], node["attempts"][-1]["usage"]["output_tokens"])
            if node["id"] == "@plain":
                texts["plain"] = text
            else:
                texts["parts"][node["tier"]][node["id"]] = text
        if report["skeleton"]:
            lines = [_line(node) for node in report["skeleton"]["nodes"]]
            tokens = sum(a["usage"]["output_tokens"] for a in report["planner"]["attempts"])
            texts["plan"] = ("\n".join(lines), tokens)
    return {q: t for q, t in found.items() if {"plan", "plain"} <= t.keys() and t["parts"]["small"]}


def _line(node: Mapping[str, Any]) -> str:
    needs = f" <{','.join(node['dependencies'])}" if node["dependencies"] else ""
    return f"{node['id']} {node['heading']}{needs}{' *' if node['difficulty'] >= 4 else ''}"


def _steps(name: str) -> dict[str, float]:
    computer = Computer(SHAPES[name])
    rounds = 50 if computer.device == "cuda" else 2
    steps = {str(b): round(computer.step_ms(b, rounds=rounds), 2) for b in BATCHES}
    for size in PREFILLS:
        computer.prefill(0, size)
        began = time.perf_counter()
        computer.prefill(0, size)
        steps[f"prompt of {size}"] = round(1000 * (time.perf_counter() - began), 2)
    return steps


async def _serve(name: str, tier: str, texts: Mapping[str, Any]) -> None:
    engine = ReplayEngine(name, SHAPES[name], texts, tier)
    async with serving(make_app({tier: engine})) as url:
        print(url, flush=True)
        await asyncio.Event().wait()


@contextlib.contextmanager
def served(name: str, tier: str, rows: Path) -> Iterator[str]:
    """A server in a process of its own."""
    command = [sys.executable, "-m", "tests.servers.replay", "--rows", str(rows)]
    process = subprocess.Popen([*command, "--serve", name, tier], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        if not url:
            msg = f"the server of {name} did not start"
            raise SystemExit(msg)
        yield f"{url}/{tier}"
    finally:
        process.kill()
        process.wait()


def main() -> None:
    """Print and save the figures."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--rows", type=Path, required=True, help="of bench endpoints --resume")
    options.add_argument(
        "--sizes", nargs=2, default=["0.5B", "1.5B"], metavar="SIZE", choices=SHAPES
    )
    options.add_argument("--users", nargs="+", default=["1", "4", "16"])
    options.add_argument("--json", type=Path, default=Path("replay.json"))
    options.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    options.add_argument("--steps", help=argparse.SUPPRESS)
    args = options.parse_args()
    if args.steps:
        print(json.dumps(_steps(args.steps)))
        return
    texts = texts_of(json.loads(line) for line in args.rows.read_text().splitlines())
    if args.serve:
        name, tier = args.serve
        asyncio.run(_serve(name, tier, texts))
        return
    steps = {}
    for name in args.sizes:
        # In a process of its own, which gives the card's memory back.
        command = [sys.executable, "-m", "tests.servers.replay", "--rows", str(args.rows)]
        done = subprocess.run([*command, "--steps", name], stdout=subprocess.PIPE, check=True)
        steps[name] = json.loads(done.stdout)
        print(name, "ms a step by streams", steps[name], flush=True)
    args.json.parent.mkdir(parents=True, exist_ok=True)
    questions = args.json.with_suffix(".questions.jsonl")
    questions.write_text("".join(json.dumps({"question": text}) + "\n" for text in texts))
    with (
        served(args.sizes[0], "small", args.rows) as small,
        served(args.sizes[1], "large", args.rows) as large,
    ):
        subprocess.run(
            [
                *(
                    sys.executable,
                    "-m",
                    "langchain_sgd",
                    "bench",
                    "endpoints",
                    "--temperature",
                    "0",
                ),
                *(
                    "--small",
                    small,
                    "--large",
                    large,
                    "--questions",
                    str(questions),
                    "--max-tokens",
                    "1000",
                ),
                *("--methods", "plain large", "SGD large", "SGD adaptive", "--users", *args.users),
                *("--json", str(args.json)),
            ],
            check=True,
            env=os.environ,
        )
    record = json.loads(args.json.read_text())
    record["step_ms"] = steps
    args.json.write_text(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
