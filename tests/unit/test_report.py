from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, AIMessageChunk

from langchain_sgd.errors import InvalidInputError
from langchain_sgd.report import (
    AWAITING_APPROVAL,
    REPORT_KEY,
    Attempt,
    NodeReport,
    PlannerReport,
    Report,
    Usage,
    status_of,
)
from langchain_sgd.skeleton import NodeId
from tests.support import reports
from tests.support.skeletons import skeleton


def carried(data: Any) -> AIMessage:
    return AIMessage("answer", response_metadata={REPORT_KEY: data})


class TestJson:
    @settings(max_examples=20)
    @given(reports.wild_reports())
    def test_json_and_back(self, report: Report) -> None:
        text = json.dumps(report.to_json(), allow_nan=False)
        assert Report.model_validate_json(text) == report
        assert Report.from_message(carried(json.loads(text))) == report

    def test_through_chunks_as_a_stream_carries_it(self) -> None:
        report = reports.every_case()
        metadata = {REPORT_KEY: report.to_json()}
        whole = AIMessageChunk(content="a") + AIMessageChunk(
            content="b", response_metadata=metadata
        )
        assert isinstance(whole, AIMessageChunk)
        assert Report.from_message(whole) == report

    def test_the_totals_are_in_it(self) -> None:
        data = reports.every_case().to_json()
        assert set(data["usage"]) == {"planner", "small", "large"}
        assert data["critical_path"] == ["1", "2", "5"]
        assert data["decode_s"] > data["wall_s"]

    def test_a_later_versions_fields_are_passed_over(self) -> None:
        data = reports.plain().to_json()
        data["nodes"][0]["new"] = data["new"] = 1
        assert Report.from_message(carried(data)) == reports.plain()


class TestUndivided:
    def test_its_skeleton_has_no_nodes_in_every_form(self) -> None:
        report = reports.plain()
        data = report.to_json()
        for each in (report, Report.from_message(carried(data))):
            assert each.skeleton.nodes == ()
            assert not each.skeleton
        assert data["skeleton"] == {"nodes": []}

    def test_one_that_was_saved_without_a_skeleton_is_read(self) -> None:
        data = {**reports.plain().to_json(), "skeleton": None}
        assert Report.from_message(carried(data)) == reports.plain()


class TestFromMessage:
    @pytest.mark.parametrize(
        ("message", "reason"),
        [
            (AIMessage("x"), "carries no report"),
            (carried("complete"), "carries no report"),
            (carried({"status": AWAITING_APPROVAL, "skeleton": {}}), "awaits the approval"),
            (carried({"status": "complete"}), "is no report: see wall_s"),
            (carried({"status": "odd", "wall_s": "x"}), "is no report: see status, wall_s"),
        ],
    )
    def test_what_is_no_report(self, message: AIMessage, reason: str) -> None:
        with pytest.raises(InvalidInputError, match=reason):
            Report.from_message(message)


class TestTotals:
    @settings(max_examples=20)
    @given(reports.wild_reports())
    def test_usage_counts_every_call_once(self, report: Report) -> None:
        calls = [a for node in report.nodes for a in node.attempts]
        calls += report.planner.attempts if report.planner else ()
        total = sum(report.usage.values(), Usage())
        assert total == sum((a.usage for a in calls if a.usage), Usage())
        nodes = sum((node.usage for node in report.nodes), Usage())
        planner = report.usage.get("planner", Usage())
        assert nodes.output_tokens == total.output_tokens - planner.output_tokens

    @settings(max_examples=20)
    @given(reports.wild_reports())
    def test_the_critical_path_is_a_chain_from_a_root_to_the_last_end(self, report: Report) -> None:
        path = report.critical_path
        if not report.skeleton:
            assert path == ()
            return
        assert not report.skeleton[path[0]].dependencies
        for before, node_id in itertools.pairwise(path):
            dependencies = report.skeleton[node_id].dependencies
            assert before in dependencies
            assert report[before].ended_s == max(report[d].ended_s for d in dependencies)
        assert report[path[-1]].ended_s == max(node.ended_s for node in report.nodes)

    def test_a_report_that_lacks_nodes_still_has_a_path(self) -> None:
        whole = reports.every_case()
        part = whole.model_copy(update={"nodes": whole.nodes[1:2]})
        assert part.critical_path == ("2",)
        assert part.model_copy(update={"nodes": ()}).critical_path == ()

    def test_decoding_time_adds_up_all_calls(self) -> None:
        report = reports.plain()
        assert report.decode_s == pytest.approx(0.3)


class TestNodes:
    def test_what_an_attempt_tells(self) -> None:
        node = reports.every_case()["3"]
        assert (node.model, node.started_s, node.first_token_s) == ("lab/large", 1.2, 1.9)
        assert node.queued_s == pytest.approx(0.5)
        assert node.usage == Usage(input_tokens=100, output_tokens=200)

    def test_a_node_that_was_never_called(self) -> None:
        node = reports.every_case()["7"]
        assert (node.model, node.first_token_s, node.usage) == (None, None, Usage())
        assert (node.started_s, node.queued_s) == (4.0, 0.0)

    def test_lookups(self) -> None:
        report = reports.every_case()
        assert report["4"].status == "truncated"
        assert set(report.answers) == {"1", "2", "3", "4", "5"}
        with pytest.raises(KeyError, match="9"):
            report["9"]

    @given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9))
    def test_usage_adds_field_by_field(self, a: int, b: int, c: int) -> None:
        one = Usage(input_tokens=a, output_tokens=b, cached_tokens=c)
        two = Usage(input_tokens=1, output_tokens=2, cached_tokens=3)
        assert one + two == Usage(input_tokens=a + 1, output_tokens=b + 2, cached_tokens=c + 3)


class TestStatus:
    NODE = NodeReport(
        id=NodeId("1"), status="complete", tier="small", planned_s=0, ready_s=0, ended_s=1
    )

    @pytest.mark.parametrize(
        ("statuses", "plain", "cut", "wanted"),
        [
            (["complete", "complete"], False, False, "complete"),
            (["complete"], True, False, "plain"),
            (["complete"], False, True, "partial"),
            (["truncated"], True, False, "partial"),
            (["complete", "failed"], False, False, "partial"),
            (["skipped"], False, False, "partial"),
        ],
    )
    def test_what_a_run_came_to(
        self, *, statuses: list[str], plain: bool, cut: bool, wanted: str
    ) -> None:
        nodes = [self.NODE.model_copy(update={"status": status}) for status in statuses]
        assert status_of(nodes, plain=plain, cut=cut) == wanted


def test_a_report_is_a_value() -> None:
    attempt = Attempt(tier="small", started_s=0, ended_s=1)
    planner = PlannerReport(source="given", attempts=(attempt,))
    one, other = (
        Report(status="complete", skeleton=skeleton("1"), planner=planner, wall_s=1) for _ in "ab"
    )
    assert one == other
    with pytest.raises(ValueError, match="frozen"):
        one.wall_s = 2  # type: ignore[misc]


def test_it_says_which_parts_repeat_each_other() -> None:
    def part(node_id: str, answer: str) -> NodeReport:
        times = {"planned_s": 0.0, "ready_s": 0.0, "ended_s": 1.0}
        return NodeReport(
            id=NodeId(node_id), status="complete", tier="large", answer=answer, **times
        )

    nodes = (part("1", "the sea is deep and blue"), part("2", "we know the sea is deep and cold"))
    found = Report(status="complete", nodes=nodes, wall_s=1.0).overlap
    assert [(repeat.part, repeat.earlier) for repeat in found.repeats] == [("2", "1")]
    assert found.repeats[0].share == 5 / 8
