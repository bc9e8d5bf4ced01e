"""What the page is shown in tests: plans, texts, and how fast scripted models write them."""

from __future__ import annotations

import asyncio
import random
import threading
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from langchain_core.messages import BaseMessage

from langchain_sgd.runnable import SGDRunnable
from langchain_sgd.skeleton import Node, NodeId, Skeleton
from tests.support.models import Say, Stage, cut, part_of, planning

_PARTS: Sequence[tuple[str, str, str, int]] = (
    ("Going by train", "route, duration, comfort with children; no prices", "", 2),
    ("Going by plane", "airports, duration, comfort with children; no prices", "", 2),
    ("Going by car", "route, stops, comfort with children; no prices", "", 2),
    ("Costs for four people", "fares, luggage, fuel and tolls", "1,2,3", 4),
    ("What about the climate?", "emissions of all three", "", 3),
    ("Recommendation", "weighs what the other parts found", "4,5", 5),
)
_TEXTS: Mapping[str, str] = {
    "1": "The **night train** takes 14 hours with one change in Milan. Children can walk about, and a"
    " family compartment has:\n\n- four beds,\n- a table,\n- a door that locks.\n\nYou arrive in the middle"
    " of the city, rested if the beds suit you.",
    "2": "The flight takes 2 hours and 10 minutes. With the way to both airports and the time for security"
    " it is *about six hours* from door to door. A push-chair can be taken to the gate.",
    "3": "It is 1,420 km, which is `14 h` of driving without a break. With children, plan two days:\n\n1. Paris"
    " to Annecy\n2. Annecy to Rome, through the Mont Blanc tunnel",
    "4": "| way | fares | extras | total |\n|---|---|---|---|\n| train | 420 € | 40 € | 460 € |\n| plane | 380 € |"
    " 160 € | 540 € |\n| car | 190 € | 240 € | 430 € |\n\nThe car is cheapest only if you need one in Rome"
    " anyway.",
    "5": "> A flight for four emits about as much as heating a flat for three months.\n\nThe train is at a"
    " tenth of it, the full car in between.",
    "6": "Take the **night train**. It costs little more than the car, nobody has to drive, and the journey"
    " is a part of the holiday. Fly only if your time is short.",
}
QUESTION = "Compare trains, planes and cars for a family trip from Paris to Rome."
USAGE = (180, 60)


def skeleton_of(parts: Sequence[tuple[str, str, str, int]]) -> Skeleton:
    """Heading, scope, needed, difficulty."""
    return Skeleton(
        nodes=tuple(
            Node(
                id=NodeId(str(number)),
                heading=heading,
                scope=scope,
                dependencies=tuple(NodeId(d) for d in needs.split(",") if d),
                difficulty=difficulty,
            )
            for number, (heading, scope, needs, difficulty) in enumerate(parts, 1)
        )
    )


class Gate:
    """Lets through as many as it is told to, from any thread; who waits is told, not asked again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._free = 0
        self._waiting: deque[Future[None]] = deque()

    async def passed(self) -> None:
        """Wait to be let through; whoever is cancelled meanwhile takes no turn."""
        with self._lock:
            if self._free:
                self._free -= 1
                return
            turn: Future[None] = Future()
            self._waiting.append(turn)
        await asyncio.wrap_future(turn)

    def open(self, count: int) -> None:
        """Let so many through, now or when they come."""
        with self._lock:
            while count and self._waiting:
                turn = self._waiting.popleft()
                if turn.set_running_or_notify_cancel():
                    turn.set_result(None)
                    count -= 1
            self._free += count


@dataclass
class ByHand(Stage):
    """A stage whose models say a piece only when the test's thread lets them: no moment is missed."""

    _gates: dict[str, Gate] = field(default_factory=dict)

    def hold(self, *parts: str) -> None:
        """From now on these parts wait before each piece."""
        self._gates = {part: Gate() for part in parts}

    def let(self, part: str, pieces: int = 1) -> None:
        """Let a part go on."""
        self._gates[part].open(pieces)

    async def perform(
        self, model: str, messages: Sequence[BaseMessage], options: Mapping[str, Any]
    ) -> AsyncIterator[tuple[str, Say | None]]:
        """As any stage, but held."""
        gate = self._gates.get(part_of("\n".join(f"{m.type}: {m.text}" for m in messages)))
        async for piece in super().perform(model, messages, options):
            if gate is not None:
                await gate.passed()
            yield piece


def _sgd(
    plan: Skeleton,
    texts: Mapping[str, str],
    *,
    each_s: float,
    others: Mapping[str, Say | Sequence[Say]] | None = None,
    stage: Stage | None = None,
    **options: Any,
) -> SGDRunnable:
    lines: dict[str, Say | Sequence[Say]] = {
        "planner": planning(plan, each_s=each_s * 8, usage=USAGE)
    }
    for node in plan.nodes:
        lines[node.id] = Say(cut(texts[node.id], 6), each_s=each_s, usage=USAGE)
    whole = "\n\n".join(f"## {node.heading}\n\n{texts[node.id]}" for node in plan.nodes)
    lines["plain"] = Say(cut(whole, 6), each_s=each_s, usage=USAGE)
    stage = stage or Stage()
    stage.lines = {**lines, **(others or {})}
    return SGDRunnable(**{"opening": False, **stage.pair(), **options})


def travel(each_s: float = 0.004, **options: Any) -> SGDRunnable:
    """Six parts, three levels."""
    return _sgd(skeleton_of(_PARTS), _TEXTS, each_s=each_s, **options)


def failing(each_s: float = 0.004, stage: Stage | None = None) -> SGDRunnable:
    """Part 2 never gets an answer, and part 4 needs it; part 5 gets one on the second try."""
    broken = Say("", then_s=each_s * 20, error=ValueError("the GPU is on fire"))
    lost = [
        Say(cut("A flight for", 6), each_s=each_s, error=ConnectionError("gone")),
        Say(_TEXTS["5"], each_s=each_s, usage=USAGE),
    ]
    return _sgd(
        skeleton_of(_PARTS),
        _TEXTS,
        each_s=each_s,
        others={"2": broken, "5": lost},
        stage=stage,
        retries=1,
    )


def opening(stage: Stage) -> SGDRunnable:
    """The answer begins beside the planner."""
    whole = Say(["All three ways ", "take a day. And ", "more that is not shown."], usage=USAGE)
    plan = skeleton_of(_PARTS)
    return _sgd(plan, _TEXTS, each_s=0, others={"plain": whole}, stage=stage, opening=True)


def long_answer(pieces: int, each_s: float, stage: Stage | None = None) -> SGDRunnable:
    """One stream that is long."""
    stage = stage or Stage()
    stage.lines = {"plain": Say(cut(_prose(1, pieces * 6), 6), each_s=each_s, usage=USAGE)}
    return SGDRunnable(**stage.pair(), mode="never")


def _prose(seed: int, length: int) -> str:
    """Paragraphs that say nothing, but never the same: what repeats itself is cut."""
    rng = random.Random(seed)
    paragraphs: list[str] = []
    while sum(map(len, paragraphs)) < length:
        words = ["".join(rng.choices("aeinrst", k=rng.randint(2, 9))) for _ in range(14)]
        words[3], words[7] = f"**{words[3]}**", f"`{words[7]}`"
        paragraphs.append(f"{' '.join(words).capitalize()}.")
    return "\n\n".join(paragraphs)


def twenty(each_s: float = 0.004) -> SGDRunnable:
    """Twenty parts with lines across columns."""
    parts = [
        (
            f"Section {n} with a heading that is rather long" if n % 3 else f"Section {n}",
            "something",
            ",".join(str(d) for d in {n - 4, n // 2} if 0 < d < n) if n > 5 else "",
            n % 5 + 1,
        )
        for n in range(1, 21)
    ]
    texts = {str(n): _prose(n, 150) for n in range(1, 21)}
    return _sgd(skeleton_of(parts), texts, each_s=each_s, max_nodes=20)


ATTACKS = (
    "<img src=x onerror=\"window.hacked='img'\">",
    "<script>window.hacked='script'</script>",
    "[click](javascript:window.hacked='link')",
    "![picture](https://evil.example/leak.png)",
    "<svg/onload=window.hacked='svg'>",
    '"><iframe src="https://evil.example"></iframe>',
    "```html\n<script>window.hacked='fence'</script>\n```",
    "| a | <b onmouseover=window.hacked='cell'>b</b> |\n|---|---|\n| <script>window.hacked='td'</script> | x |",
    "`</code><script>window.hacked='code'</script>`",
    "\u202e override, \u0000 null, ]]> --> &lt;b&gt;",
)


def injecting() -> SGDRunnable:
    """A model that tries to be markup: in headings, scopes, texts, errors."""
    heading = "<img src=x onerror=window.hacked='heading'>"
    parts = [(heading, "<script>window.hacked='scope'</script>", "", 2), ("Two", "", "1", 5)]
    attack = "\n\n".join(ATTACKS)
    broken = Say("", error=ValueError("<img src=x onerror=window.hacked='error'>"))
    return _sgd(
        skeleton_of(parts),
        {"1": attack, "2": "never"},
        each_s=0.0,
        others={"2": broken},
        retries=0,
    )
