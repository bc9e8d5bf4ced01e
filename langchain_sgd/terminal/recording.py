"""A race as one SVG that moves: a film strip of terminal pictures, pulled past a window one terminal high.

It needs no script and no font from elsewhere. Who wants no motion, or cannot have it, sees the last picture.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from langchain_sgd.terminal.race import Frame, Lane

_WIDTH, _PICTURES, _HOLD = 80, 24, 12
"""Columns; pictures while the runs go on; the last one stands for as many more."""
_FRAME_LINES = 22
_CHAR, _LINE = 12.2, 24.4  # Rich's own measures
_FORMAT = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {whole_width} {whole_height}" role="img" \
aria-label="{label}">
<style>
.{{unique_id}}-matrix {{{{ font: 20px/{line}px ui-monospace, SFMono-Regular, Menlo, Consolas, \
"DejaVu Sans Mono", monospace; }}}}
{{styles}}
.strip {{{{ transform: translateY(-{last}px); animation: pull {duration}s linear infinite; }}}}
@keyframes pull {{{{ {keys} }}}}
@media (prefers-reduced-motion: reduce) {{{{ .strip {{{{ animation: none; }}}} }}}}
</style>
<defs><clipPath id="window"><rect width="{width}" height="{height}"/></clipPath></defs>
<rect width="{whole_width}" height="{whole_height}" rx="8" fill="#0c0c0c"/>
<g transform="translate(12 10)" clip-path="url(#window)"><g class="strip">
{{backgrounds}}
<g class="{{unique_id}}-matrix">
{{matrix}}
</g></g></g>
</svg>
"""


def recording(question: str, lanes: Sequence[Lane], verdict: str, *, seconds: float) -> str:
    """The race as an SVG.

    Args:
        question: Stands above.
        lanes: The runs.
        verdict: Stands below the last picture.
        seconds: How long the race is to take.
    """
    span = max(lane.report.wall_s for lane in lanes)
    asked = _lines(question)
    said = _lines(verdict)
    lines = len(asked) + _FRAME_LINES + len(said)
    note = f"Shown {max(seconds / span, 1):.0f} times slower than it was." if seconds > span else ""
    console = Console(
        file=io.StringIO(), record=True, width=_WIDTH, force_terminal=True, color_system="truecolor"
    )
    for index in range(_PICTURES):
        at_s = span * index / (_PICTURES - 1)
        last = index == _PICTURES - 1
        for line in asked:
            console.print(Text(line, style="bold"))
        for row in console.render_lines(Frame(lanes, at_s, _FRAME_LINES, note), pad=True)[
            :_FRAME_LINES
        ]:
            console.print(Text.assemble(*((s.text, s.style or "") for s in row)), end="\n")
        for line in said:
            console.print(Text(line if last else ""))
    step = lines * _LINE
    template = _FORMAT.format(
        whole_width=round(_WIDTH * _CHAR + 24),
        whole_height=round(step + 20),
        width=_WIDTH * _CHAR,
        height=round(step, 1),
        line=_LINE,
        label="Plain decoding and SGD answer the same question side by side.",
        last=round(step * (_PICTURES - 1), 1),
        duration=round(seconds * (_PICTURES + _HOLD) / _PICTURES, 1),
        keys=_keys(step),
    )
    drawn = console.export_svg(code_format=template, unique_id="race")
    # Rich cuts every line by a path of its own, and writes spaces as six characters.
    return re.sub(r' clip-path="url\(#race-line-\d+\)"', "", drawn).replace("&#160;", "\u00a0")


def _keys(step: float) -> str:
    """Where the strip stands when: every picture for as long, the last one for longer."""
    whole = _PICTURES + _HOLD
    keys = []
    for index in range(_PICTURES):
        begin = 100 * index / whole
        end = 100 if index == _PICTURES - 1 else 100 * (index + 1) / whole - 0.01
        keys.append(f"{begin:.2f}%,{end:.2f}%{{{{transform:translateY(-{step * index:.1f}px)}}}}")
    return "".join(keys)


def _lines(text: str) -> list[str]:
    console = Console(file=io.StringIO(), width=_WIDTH)
    return [line.plain for line in Text(text).wrap(console, _WIDTH)]
