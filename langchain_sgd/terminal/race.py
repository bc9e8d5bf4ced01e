"""Two runs side by side on one clock: what each had written at any moment, and who wrote when.

The runs are over when they are shown; a picture of them at a moment is a pure function of that moment.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass

from langchain_core.messages import AIMessage
from rich.console import Console, ConsoleOptions, RenderResult
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from langchain_sgd.answer import Assembler
from langchain_sgd.drawing.colors import PLANNER, tier_colors
from langchain_sgd.drawing.words import name_of, one_unit
from langchain_sgd.events import Event
from langchain_sgd.report import Report
from langchain_sgd.terminal.safe import one_line, safe

_LABEL = 15
_WAITS, _ASKED, _WRITES = "╌", "─", "━"  # as the report's tree has them
LEGEND = f"{_WAITS} waits for other parts  {_ASKED} waits for a token  {_WRITES} writes"


@dataclass(frozen=True, slots=True)
class Lane:
    """A run that is over: its text as it grew, and its report."""

    name: str
    pieces: Sequence[tuple[float, str]]
    """Seconds from the beginning, and what could be read more then."""
    message: AIMessage
    report: Report

    def text(self, at_s: float) -> str:
        """What could be read at a moment."""
        return "".join(text for when, text in self.pieces if when <= at_s)


async def run_lane(name: str, events: AsyncIterator[Event | AIMessage]) -> Lane:
    """Let a run go to its end and keep what it told.

    Args:
        name: What it is called beside others.
        events: Those of `SGDRunnable.aevents`.

    Raises:
        Exception: Whatever the run raises.
        ValueError: The events ended without a message.
    """
    assembler = Assembler()
    pieces: list[tuple[float, str]] = []
    async for event in events:
        if isinstance(event, AIMessage):
            return Lane(name, pieces, event, Report.from_message(event))
        if text := safe(assembler.feed(event)):
            pieces.append((event.at_s, text))
    msg = "The events ended without a message; pass those of SGDRunnable.aevents(...)"
    raise ValueError(msg)


@dataclass(frozen=True, slots=True)
class Frame:
    """Both runs at one moment; as wide as the console, `height` lines high.

    Args:
        lanes: The runs.
        at_s: The moment, in their own seconds.
        height: Lines of the whole; what is left of them by the bars is for the texts.
        note: Stands above the bars.
    """

    lanes: Sequence[Lane]
    at_s: float
    height: int
    note: str = ""

    @property
    def span_s(self) -> float:
        """When the last run had ended."""
        return max(lane.report.wall_s for lane in self.lanes)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        bars = [row for lane in self.lanes for row in _rows(lane)]
        legend = self._legend(options.max_width)
        lines = max(self.height - len(bars) - len(legend) - 3, 2)
        table = Table.grid(expand=True, padding=0)
        width = options.max_width // len(self.lanes)
        for _ in self.lanes:
            table.add_column(width=width)
        table.add_row(*(self._panel(lane, console, width, lines) for lane in self.lanes))
        yield table
        say = one_unit(self.span_s)
        room = options.max_width - _LABEL
        axis = say(self.span_s)
        middle = f"{self.note:^{max(0, room - 1 - len(axis))}}"
        yield Text(f"{'':{_LABEL}}0{middle}{axis}", style="dim", no_wrap=True)
        for row in bars:
            yield row.drawn(self.at_s, self.span_s, room)
        yield from legend

    def _legend(self, width: int) -> Sequence[Text]:
        """What signs and colors mean, in one line if it fits."""
        signs, tiers = Text(LEGEND, style="dim", no_wrap=True), self._tiers()
        if len(signs) + 2 + len(tiers) > width:
            return signs, tiers
        return (signs.append("  ").append_text(tiers),)

    def _tiers(self) -> Text:
        """What the colors mean."""
        nodes = [node for lane in self.lanes for node in lane.report.nodes]
        colors = tier_colors(node.tier for node in nodes)
        planned = any(lane.report.planner is not None for lane in self.lanes)
        names = dict.fromkeys([*(["planner"] if planned else []), *(node.tier for node in nodes)])
        line = Text(no_wrap=True)
        for name in names:
            line.append("■ ", style=colors[name])
            line.append(f"{one_line(name)}  ", style="dim")
        line.rstrip()
        return line

    def _panel(self, lane: Lane, console: Console, width: int, lines: int) -> Panel:
        text = Text(lane.text(self.at_s).strip("\n"))
        wrapped = list(text.wrap(console, width - 4))
        shown = [_styled(line) for line in wrapped if line.plain.strip()][-lines:]
        shown += [Text("")] * (lines - len(shown))
        over = self.at_s >= lane.report.wall_s
        say = one_unit(self.span_s)
        now = say(min(self.at_s, lane.report.wall_s))
        title = escape(lane.name)
        done = f"[bold green]done in {now}[/]" if over else now
        return Panel(
            Text("\n").join(shown),
            title=f"[bold]{title}[/]  {done}",
            title_align="left",
            border_style="green" if over else "dim",
            height=lines + 2,
        )


def _styled(line: Text) -> Text:
    if line.plain.startswith("## "):
        return Text(line.plain[3:], style="bold underline")
    return line


@dataclass(frozen=True, slots=True)
class _Row:
    label: str
    marks: Sequence[tuple[float, float, str, str]]
    """Begin, end, sign, style."""

    def drawn(self, at_s: float, span_s: float, width: int) -> Text:
        """The row with what had happened by a moment."""
        cells: list[tuple[str, str]] = [(" ", "")] * width
        for begin, end, sign, style in self.marks:
            if begin > at_s:
                continue
            first = round(begin / span_s * width) if span_s else 0
            last = round(min(end, at_s) / span_s * width) if span_s else 0
            if sign == _WRITES:  # however short it was
                first = min(first, width - 1)
                last = max(last, first + 1)
            for index in range(first, min(last, width)):
                cells[index] = (sign, style)
        line = Text(no_wrap=True, end="\n")
        line.append(f"{self.label[: _LABEL - 1]:{_LABEL}}")
        for sign, style in cells:
            line.append(sign, style=style)
        return line


def _rows(lane: Lane) -> Iterator[_Row]:
    report = lane.report
    colors = tier_colors(node.tier for node in report.nodes)
    if report.planner is not None and report.planner.attempts:
        marks = []
        for asked in report.planner.attempts:
            first = asked.ended_s if asked.first_token_s is None else asked.first_token_s
            marks.append((asked.started_s, first, _ASKED, PLANNER))
            marks.append((first, asked.ended_s, _WRITES, f"bold {PLANNER}"))
        yield _Row("planner", marks)
    for node in report.nodes:
        color = colors[node.tier]
        marks = []
        if report.skeleton:
            marks.append((node.planned_s, node.started_s, _WAITS, "dim"))
        for attempt in node.attempts:
            first = attempt.ended_s if attempt.first_token_s is None else attempt.first_token_s
            marks.append((attempt.started_s, first, _ASKED, color))
            marks.append((first, attempt.ended_s, _WRITES, f"bold {color}"))
        whole = not report.skeleton
        yield _Row(lane.name if whole else one_line(name_of(report, node.id)), marks)
