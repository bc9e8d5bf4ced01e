"""How much of an answer was written one token after the other."""

from __future__ import annotations

from langchain_sgd.report import Report
from langchain_sgd.skeleton import NodeId, Skeleton


def sequential_tokens(report: Report, *, planned_first: bool = False) -> float:
    """Tokens generated one after the other, were every batch as fast as one stream.

    The planner's tokens count up to the end of the line that lets a node start, by its share of the
    plan's characters; then a chain of nodes, each waiting for those it needs.

    Args:
        report: Of one run.
        planned_first: Whether no node started before the plan was complete.
    """
    written = {
        node.id: float(node.usage.output_tokens)
        if node.parts is None
        else sequential_tokens(node.parts, planned_first=planned_first)
        for node in report.nodes
    }
    attempts = report.planner.attempts if report.planner else ()
    plan = sum(a.usage.output_tokens for a in attempts if a.usage)
    if not report.skeleton:
        return plan + sum(written.values())
    planned = _planned(report.skeleton, plan, planned_first=planned_first)
    ends: dict[NodeId, float] = {}
    for node in report.skeleton.nodes:
        start = max([planned[node.id], *(ends[d] for d in node.dependencies)])
        ends[node.id] = start + written[node.id]
    return max(ends.values())


def _planned(skeleton: Skeleton, plan: int, *, planned_first: bool) -> dict[NodeId, float]:
    """By node, how many of the plan's tokens were written when it could start."""
    if planned_first:
        return {node.id: float(plan) for node in skeleton.nodes}
    lengths = [
        len(f"{n.id}|{n.heading}|{n.scope}|{','.join(n.dependencies) or '-'}|0\n")
        for n in skeleton.nodes
    ]
    share = plan / sum(lengths)
    out: dict[NodeId, float] = {}
    done = 0.0
    for node, length in zip(skeleton.nodes, lengths, strict=True):
        done += length * share
        out[node.id] = done
    # The first line counts only once a second one has begun, since a plan may have one part only.
    first = skeleton.nodes[0].id
    out[first] = min(out[first] + 1, done)
    return out
