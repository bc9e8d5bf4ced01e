"""A question being answered, as one sees it: the skeleton, the nodes at work, the text in its order."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from langchain_core.messages import AIMessage
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.markdown import Markdown
from rich.table import Table
from rich.text import Text

from langchain_sgd.answer import Assembler
from langchain_sgd.drawing.colors import PLANNER, STATUS_COLORS, STATUS_WORDS, tier_colors
from langchain_sgd.drawing.words import one_unit
from langchain_sgd.events import PLAIN_ID, Ended, Event
from langchain_sgd.report import Report
from langchain_sgd.terminal.safe import one_line, safe
from langchain_sgd.terminal.state import NodeState, RunState
from langchain_sgd.terminal.trees import report_line, report_tree

REFRESH_HZ = 12.0
"""Redraws in a second at most; one takes a few milliseconds of the event loop."""
_SAY = one_unit(10.0)
"""A run's length is not known before its end; seconds suit most."""
_TEXT_WIDTH = 100
_TEXT_LINES = 6
"""Lines of the unfinished paragraph that stay in sight."""
_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_ASCII_SPINNER = "|/-\\"


class LiveView:
    """Shows runs on a terminal as they happen; elsewhere streams the answer's text and nothing else.

    On a terminal, finished paragraphs go up into the scrollback, and below them stand the paragraph that
    is being written and the nodes at work. `NO_COLOR` is respected. Without a terminal (a pipe, a file, a
    dumb terminal), or with `plain`, there is not one control character.

    Args:
        console: Where the answer goes.
        notes: Where, without a terminal, the summary goes; nowhere if not given.
        headings: As in the `SGDRunnable` whose events are shown.
        plain: Stream text only; by default where `console` is no terminal.
        clock: Seconds that pass, for the display of running times.
    """

    def __init__(
        self,
        console: Console | None = None,
        *,
        notes: Console | None = None,
        headings: bool = True,
        plain: bool | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console = console or Console()
        self._notes = notes
        self._headings = headings
        self._clock = clock
        terminal = self._console.is_terminal and not self._console.is_dumb_terminal
        self._plain = not terminal if plain is None else plain

    async def follow(self, events: AsyncIterator[Event | AIMessage]) -> AIMessage:
        """Show one run, the events of `SGDRunnable.aevents`, to its end; give its message.

        However it ends, the events are closed, the text so far stays, and the cursor is as it was.

        Raises:
            Exception: Whatever the run raises.
        """
        assembler = Assembler(headings=self._headings)
        message: AIMessage | None = None
        with self._written() if self._plain else self._screen() as screen:
            try:
                async for event in events:
                    if isinstance(event, AIMessage):
                        message = event
                    else:
                        text = safe(assembler.feed(event))
                        screen.feed(event, "" if _is_lost(event) else text)
            finally:
                if isinstance(events, AsyncGenerator):
                    await events.aclose()
        if message is None:
            msg = "The events ended without a message; pass those of SGDRunnable.aevents(...)"
            raise ValueError(msg)
        self._summarize(Report.from_message(message))
        return message

    def _summarize(self, report: Report) -> None:
        if not self._plain:
            self._console.rule(style="dim")
            self._console.print(report_tree(report))
        elif self._notes is not None:
            self._notes.print(Text(report_line(report)), soft_wrap=True)
            for warning in report.warnings:
                self._notes.print(Text(f"warning: {one_line(warning)}"), soft_wrap=True)

    @contextmanager
    def _written(self) -> Iterator[_Written]:
        written = _Written(self._console)
        try:
            yield written
        finally:
            written.close()

    @contextmanager
    def _screen(self) -> Iterator[_Screen]:
        screen = _Screen(self._console, self._clock)
        live = Live(screen, console=self._console, auto_refresh=False, transient=True)

        def refresh() -> None:
            screen.print_finished()
            live.refresh()

        ticker = _Ticker(refresh)
        try:
            with live:
                live.refresh()
                ticker.start()
                yield screen
        finally:
            ticker.stop()
            screen.print_finished(everything=True)


def _is_lost(event: Event) -> bool:
    """Whether an undivided answer came to nothing: that is an error to be told, and no text."""
    return (
        isinstance(event, Ended)
        and event.node_id == PLAIN_ID
        and event.status not in {"complete", "truncated"}
    )


class _Ticker:
    """Calls on the running loop, again and again, until it is stopped.

    At most `REFRESH_HZ` times a second, and never for more than a tenth of the time: on a slow terminal
    or a busy machine the models go first.
    """

    def __init__(
        self, call: Callable[[], None], clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._call = call
        self._clock = clock
        self._timer: asyncio.TimerHandle | None = None

    def start(self, after_s: float = 1 / REFRESH_HZ) -> None:
        self._timer = asyncio.get_running_loop().call_later(after_s, self._tick)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _tick(self) -> None:
        began = self._clock()
        self._call()
        self.start(max(1 / REFRESH_HZ, 9 * (self._clock() - began)))


@dataclass(slots=True)
class _Written:
    """Text as it comes, and nothing else."""

    console: Console
    _last: str = "\n"

    def feed(self, event: Event, text: str) -> None:
        del event
        if text:
            self.console.file.write(text)
            self.console.file.flush()
            self._last = text[-1]

    def close(self) -> None:
        if self._last != "\n":
            with suppress(BrokenPipeError):  # the error that ended the run says it already
                self.console.file.write("\n")
                self.console.file.flush()


@dataclass(slots=True)
class _Screen:
    """What stands below the scrollback, drawn anew with every refresh."""

    console: Console
    clock: Callable[[], float]
    state: RunState = field(default_factory=RunState)
    _began: float = 0.0
    _pending: str = ""
    """Text of the answer that is not in the scrollback yet."""

    def __post_init__(self) -> None:
        self._began = self.clock()

    def feed(self, event: Event, text: str) -> None:
        self.state.feed(event)
        self._pending += text

    def print_finished(self, *, everything: bool = False) -> None:
        """Move finished paragraphs into the scrollback."""
        blocks, self._pending = _split(self._pending)
        if everything and self._pending.strip():
            blocks, self._pending = [*blocks, self._pending], ""
        if blocks:
            # In one go: what stands below is drawn anew after every print.
            parts = [part for block in blocks for part in (*_formatted(block), "")]
            self.console.print(Group(*parts), width=min(self.console.width, _TEXT_WIDTH))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self._pending.strip():
            width = min(options.max_width, _TEXT_WIDTH)
            lines = Text(self._pending.strip("\n")).wrap(console, width)
            yield from lines[-_TEXT_LINES:]
            yield ""
        yield self._table(options)
        yield self._foot(options)

    def _table(self, options: ConsoleOptions) -> RenderableType:
        colors = tier_colors(node.tier for node in self.state.nodes.values())
        table = Table.grid(padding=(0, 1), expand=True)
        table.add_column(width=1)
        table.add_column(ratio=4, no_wrap=True, overflow="ellipsis")
        table.add_column(no_wrap=True, max_width=12, overflow="ellipsis")
        table.add_column(no_wrap=True, justify="right", min_width=5)
        table.add_column(no_wrap=True, justify="right", min_width=7)
        table.add_column(ratio=5, no_wrap=True, style="dim")
        for state in self._in_sight(self.console.height - _TEXT_LINES - 4):
            table.add_row(*self._row(state, colors[state.tier], options))
        return table

    def _in_sight(self, room: int) -> list[NodeState]:
        """As many nodes as there is room for: those at work first, then those to come."""
        states = list(self.state.nodes.values())
        rank = {"running": 0, "waiting": 1}
        by_rank = sorted(range(len(states)), key=lambda i: rank.get(states[i].status, 2))
        return [states[index] for index in sorted(by_rank[: max(room, 1)])]

    def _row(self, state: NodeState, color: str, options: ConsoleOptions) -> list[RenderableType]:
        sign, style = self._sign(state, options)
        name = f"{state.node.id} {state.node.heading}" if state.node else "undivided answer"
        tier = f"{state.tier} ({state.attempt})" if state.attempt > 1 else state.tier
        until = self._now() if state.ended_s is None else state.ended_s
        took = "" if state.started_s is None else _SAY(max(0.0, until - state.started_s))
        if state.status == "running":
            last = Text(_end(one_line(state.tail), max(options.max_width // 3, 10)))
        elif state.status == "waiting":
            needed = self.state.waits_for(state)
            last = Text(f"waits for {', '.join(needed)}" if needed else "waits for a free place")
        else:
            last = Text(STATUS_WORDS[state.status], style=f"{style} not dim")
        is_live = state.status == "running"
        return [
            Text(sign, style=style),
            Text(one_line(name), style="bold" if is_live else ""),
            Text(one_line(tier), style=color),
            Text(f"{state.pieces:,}" if state.pieces else ""),
            Text(took),
            last,
        ]

    def _sign(self, state: NodeState, options: ConsoleOptions) -> tuple[str, str]:
        match state.status:
            case "running":
                return self._spin(options), "bold"
            case "waiting":
                return ("." if options.ascii_only else "○"), "dim"
            case "complete":
                return ("+" if options.ascii_only else "✔"), STATUS_COLORS["complete"]
            case status:
                sign = "!" if options.ascii_only else STATUS_WORDS[status][0]
                return sign, f"bold {STATUS_COLORS[status]}"

    def _foot(self, options: ConsoleOptions) -> Text:
        state = self.state
        spin = Text(f"{self._spin(options)} ", style=PLANNER)
        now = _SAY(self._now())
        if not state.nodes:
            return spin.append(f"planning, {now}", style="default")
        done = len(state.nodes) - state.count("running", "waiting")
        parts = [
            f"{done} of {len(state.nodes)} written",
            f"{state.count('running')} in flight",
            now,
        ]
        if state.planned_s is None:
            parts.insert(0, "still planning")
        if state.plain is not None:
            parts = [f"answered undivided: {one_line(state.plain)}", now]
        return spin.append(", ".join(parts), style="default")

    def _spin(self, options: ConsoleOptions) -> str:
        frames = _ASCII_SPINNER if options.ascii_only else _SPINNER
        return frames[int(self._now() * REFRESH_HZ) % len(frames)]

    def _now(self) -> float:
        return self.clock() - self._began


def _split(text: str) -> tuple[list[str], str]:
    """The finished paragraphs, and the rest; blank lines inside a code block separate nothing."""
    blocks: list[str] = []
    lines: list[str] = []
    fence = ""
    *whole, rest = text.split("\n")
    for line in whole:
        mark = line.lstrip()[:3]
        if fence:
            fence = "" if mark == fence else fence
        elif mark in {"```", "~~~"}:
            fence = mark
        if line.strip() or fence:
            lines.append(line)
        elif lines:
            blocks.append("\n".join(lines))
            lines = []
    return blocks, "\n".join([*lines, rest])


def _formatted(block: str) -> Iterator[RenderableType]:
    """A paragraph for the scrollback."""
    first, _, rest = block.partition("\n")
    heading = first.lstrip("#")
    if heading != first and heading.startswith(" "):
        yield Text(heading.strip(), style="bold underline")
        block = rest
    if block.strip():
        yield Markdown(block, code_theme="ansi_dark", hyperlinks=False)


def _end(text: str, width: int) -> str:
    return text if len(text) <= width else f"…{text[1 - width :]}"
