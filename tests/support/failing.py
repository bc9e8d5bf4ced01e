"""Errors with a secret in them, and answers in spite of them."""

from __future__ import annotations

from typing import Any

from langchain_sgd import Report, SGDRunnable
from tests.support.models import Stage
from tests.support.skeletons import skeleton

BROKEN = ConnectionError("connection lost: SECRET-DETAIL")
WRONG = ValueError("no such thing: SECRET-DETAIL")
TWO = skeleton("1", "2 <- 1")


async def reported(stage: Stage, planned: Any = TWO, **options: Any) -> Report:
    """The report of a planned answer, in which no error's text came to light."""
    sgd = SGDRunnable(**{**stage.pair(), **options})
    message = await sgd.ainvoke({"question": "Why?", "skeleton": planned})
    report = Report.from_message(message)
    assert not any("SECRET-DETAIL" in call.prompt for call in stage.calls)
    assert "SECRET-DETAIL" not in message.text
    return report


def tiers(report: Report, node_id: str) -> list[str]:
    """Whom a node's calls went to."""
    return [attempt.tier for attempt in report[node_id].attempts]
