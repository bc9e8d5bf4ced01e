"""Reports for tests: one that shows every case, and any that could be."""

from __future__ import annotations

from hypothesis import strategies as st

from langchain_sgd.events import PLAIN_ID
from langchain_sgd.report import Attempt, NodeReport, PlannerReport, Report, Usage
from langchain_sgd.skeleton import Node, NodeId, Skeleton

WILD = st.text(
    st.one_of(
        st.characters(exclude_categories=["Cs"]),
        st.sampled_from("<>&\"'\x00\x1b\x9b\u202e\ufffe\u3042\n\t[]/\\"),
    ),
    max_size=24,
)
"""Texts as hostile as a model's could be."""

_HEADINGS = WILD.filter(lambda text: bool(text.strip()))
_TIMES = st.floats(0, 1e4)
_TIERS = st.sampled_from(["small", "large", "medium", "<b>"])


def attempt(
    tier: str, *times: float | None, tokens: int | None = 100, error: str | None = None
) -> Attempt:
    """`attempt("small", started, first_token, ended)`."""
    started, first, ended = times
    assert started is not None
    assert ended is not None
    return Attempt(
        tier=tier,
        model=f"lab/{tier}",
        started_s=started,
        first_token_s=first,
        ended_s=ended,
        usage=None if tokens is None else Usage(input_tokens=50, output_tokens=tokens),
        error=error,
    )


def every_case() -> Report:
    """A partial run: retried, cut, failed, skipped, and whole nodes."""
    skeleton = Skeleton.parse(
        [
            {"id": "1", "heading": "Travel by <train>", "scope": "route & time", "difficulty": 2},
            {"id": "2", "heading": "Costs", "dependencies": ["1"], "difficulty": 3},
            {"id": "3", "heading": "Night trains", "difficulty": 1},
            {"id": "4", "heading": "Example", "dependencies": ["1"], "difficulty": 4},
            {"id": "5", "heading": "Advice", "dependencies": ["1", "2"], "difficulty": 5},
            {"id": "6", "heading": "Luggage", "dependencies": ["3"], "difficulty": 3},
            {"id": "7", "heading": "Checklist", "dependencies": ["6"], "difficulty": 1},
        ]
    )

    def ended(
        node_id: str,
        status: str,
        tier: str,
        times: tuple[float, float, float],
        *attempts: Attempt,
        error: str | None = None,
    ) -> NodeReport:
        planned, ready, end = times
        return NodeReport.model_validate(
            {
                "id": node_id,
                "status": status,
                "tier": tier,
                "answer": f"answer {node_id}" if status in {"complete", "truncated"} else "",
                "planned_s": planned,
                "ready_s": ready,
                "ended_s": end,
                "attempts": attempts,
                "error": error,
            }
        )

    refused, cut = "ConnectError: refused", "a token limit or a fault cut the answer"
    return Report(
        status="partial",
        skeleton=skeleton,
        planner=PlannerReport(
            source="planner", attempts=(attempt("planner", 0.0, 0.2, 1.4),), ended_s=1.4
        ),
        nodes=(
            ended("1", "complete", "small", (0.3, 0.3, 1.6), attempt("small", 0.31, 0.4, 1.6)),
            ended("2", "complete", "large", (0.5, 1.6, 3.5), attempt("large", 1.7, 1.9, 3.5)),
            ended(
                "3",
                "complete",
                "large",
                (0.7, 0.7, 3.0),
                attempt("small", 1.2, 1.3, 1.6, error="the answer was empty"),
                attempt("large", 1.7, 1.9, 3.0),
            ),
            ended(
                "4",
                "truncated",
                "large",
                (0.9, 1.6, 2.9),
                attempt("large", 1.6, 1.8, 2.9, error=cut),
                error=cut,
            ),
            ended(
                "5",
                "complete",
                "large",
                (1.1, 3.5, 5.0),
                attempt("large", 3.5, 3.7, 5.0, tokens=1300),
            ),
            ended(
                "6",
                "failed",
                "large",
                (1.2, 3.0, 4.0),
                attempt("large", 3.2, None, 4.0, tokens=None, error=refused),
                error=refused,
            ),
            ended("7", "skipped", "", (1.4, 4.0, 4.0), error="not decoded"),
        ),
        warnings=("node 6: <refused>",),
        ttft_s=0.4,
        wall_s=5.1,
    )


def plain() -> Report:
    """A plain run."""
    node = NodeReport(
        id=PLAIN_ID,
        status="complete",
        tier="large",
        answer="an answer",
        planned_s=0.0,
        ready_s=0.03,
        ended_s=0.34,
        attempts=(attempt("large", 0.04, 0.1, 0.34),),
    )
    return Report(status="plain", reason="it is short", nodes=(node,), ttft_s=0.1, wall_s=0.35)


@st.composite
def wild_skeletons(draw: st.DrawFn, max_nodes: int = 6) -> Skeleton:
    """Skeletons with any text and any dependencies."""
    nodes: list[Node] = []
    for count in range(draw(st.integers(1, max_nodes))):
        earlier = [node.id for node in nodes]
        chosen = st.lists(st.sampled_from(earlier), unique=True) if earlier else st.just([])
        nodes.append(
            Node(
                id=NodeId(draw(st.sampled_from([f"{count}", f"a-rather-long-id.{count}"]))),
                heading=draw(_HEADINGS),
                scope=draw(WILD),
                dependencies=tuple(draw(chosen)),
                difficulty=draw(st.integers(1, 5)),
            )
        )
    return Skeleton(nodes=tuple(nodes))


@st.composite
def wild_reports(draw: st.DrawFn) -> Report:
    """Reports of any shape: times need not even follow each other."""
    attempts = st.lists(
        st.builds(
            Attempt,
            tier=_TIERS,
            model=st.none() | WILD,
            started_s=_TIMES,
            first_token_s=st.none() | _TIMES,
            ended_s=_TIMES,
            usage=st.none() | st.builds(Usage, output_tokens=st.integers(0, 10**6)),
            error=st.none() | WILD,
        ),
        max_size=2,
    ).map(tuple)
    skeleton = draw(st.none() | wild_skeletons())
    ids = [node.id for node in skeleton.nodes] if skeleton else [PLAIN_ID]
    nodes = [
        NodeReport(
            id=node_id,
            status=draw(st.sampled_from(["complete", "truncated", "failed", "skipped"])),
            tier=draw(_TIERS),
            planned_s=draw(_TIMES),
            ready_s=draw(_TIMES),
            ended_s=draw(_TIMES),
            attempts=draw(attempts),
            error=draw(st.none() | WILD),
            restored=draw(st.booleans()),
        )
        for node_id in ids
    ]
    planner = st.builds(PlannerReport, source=st.just("planner"), attempts=attempts)
    return Report(
        status=draw(st.sampled_from(["complete", "partial", "plain"])),
        reason=draw(st.none() | WILD),
        skeleton=skeleton,
        planner=draw(st.none() | planner),
        nodes=tuple(nodes),
        warnings=tuple(draw(st.lists(WILD, max_size=2))),
        ttft_s=draw(st.none() | _TIMES),
        wall_s=draw(_TIMES),
    )
