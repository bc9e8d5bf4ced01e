"""Numbers and nodes in words, for pictures, tables and terminals alike."""

from __future__ import annotations

import math
from collections.abc import Callable

from langchain_sgd.drawing.colors import STATUS_WORDS
from langchain_sgd.events import PLAIN_ID
from langchain_sgd.report import NodeStatus, Report, Usage
from langchain_sgd.skeleton import Node, NodeId


def seconds(value: float) -> str:
    """A duration that stands alone, in the unit that suits it."""
    if not math.isfinite(value):
        return "?"
    if value < 0.9995:
        return f"{value * 1000:.3g} ms" if value >= 0.0005 else "0 ms"
    return f"{value:.2f} s" if value < 99.995 else f"{value:,.0f} s"


def one_unit(span_s: float) -> Callable[[float], str]:
    """Says the durations of one picture, which has this span, in one unit and with as many digits."""
    if not math.isfinite(span_s) or span_s >= 1:
        digits = 2 if span_s < 10 else 1 if span_s < 100 else 0
        factor, unit = 1.0, "s"
    else:
        digits, factor, unit = 0 if span_s >= 0.1 else 1, 1000.0, "ms"

    def say(value: float) -> str:
        return f"{value * factor:,.{digits}f} {unit}" if math.isfinite(value) else "?"

    return say


def spent(duration: str, usage: Usage) -> str:
    """What a call took."""
    return f"{duration} · {usage.output_tokens:,} tokens" if usage.output_tokens else duration


def cost(report: Report) -> str:
    """What a run cost, in the currency of its prices, and what plain decoding might have; or nothing."""
    costs = report.costs
    if costs is None:
        return ""
    plain = costs.plain_estimate
    return f"{costs.total:.4g}" + ("" if plain is None else f" (plain: about {plain:.4g})")


def name_of(report: Report, node_id: NodeId) -> str:
    """A node's id and heading."""
    if not report.skeleton:
        return "undivided answer" if node_id == PLAIN_ID else node_id
    return f"{node_id} {report.skeleton[node_id].heading}"


def node_hint(node: Node, tier: str = "", status: NodeStatus = "complete") -> str:
    """All about a node, a line each."""
    lines = [
        f"{node.id}. {node.heading}",
        node.scope,
        f"difficulty {node.difficulty}" + (f", {tier}" if tier else ""),
        f"needs {', '.join(node.dependencies)}" if node.dependencies else "needs nothing",
        STATUS_WORDS[status],
    ]
    return "\n".join(line for line in lines if line)


def sentence(hint: str) -> str:
    """A hint's lines as one sentence."""
    return f"{'; '.join(hint.splitlines())}."
