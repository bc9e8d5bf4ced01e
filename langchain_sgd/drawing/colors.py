"""One color for each tier and each status, the same in the notebook and in the terminal.

All are of middling lightness, so that they are told apart on white and on black alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

PLANNER = "#7d8aa0"
NEUTRAL = "#808890"
_SMALL, _LARGE = "#17a08c", "#e07b2e"
_OTHERS = ("#8d66d6", "#3f86dc", "#cc4f85", "#8a9a1f")

STATUS_COLORS: Mapping[str, str] = {
    "complete": "#1f9d62",
    "plain": PLANNER,
    "partial": "#c79214",
    "truncated": "#c79214",
    "failed": "#d8454c",
    "skipped": NEUTRAL,
}
STATUS_WORDS: Mapping[str, str] = {
    "complete": "",
    "truncated": "✂ cut short",
    "failed": "✕ failed",
    "skipped": "∅ skipped",
}


def tier_colors(tiers: Iterable[str]) -> dict[str, str]:
    """A color for each tier's name; `small`, `large` and `planner` always have theirs."""
    colors = {"": NEUTRAL, "planner": PLANNER, "small": _SMALL, "large": _LARGE}
    others = dict.fromkeys(tier for tier in tiers if tier not in colors)
    colors |= {tier: _OTHERS[index % len(_OTHERS)] for index, tier in enumerate(others)}
    return colors
