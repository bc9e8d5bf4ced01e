"""A Runnable on scripted models, with a plan of three parts."""

from __future__ import annotations

from typing import Any

from langchain_core.runnables import RunnableConfig

from langchain_sgd import SGDRunnable, Skeleton
from tests.support.models import PLANNER, Stage, planning
from tests.support.skeletons import skeleton

THREAD: RunnableConfig = {"configurable": {"thread_id": "t"}}
PLANNED = skeleton("1", "2 <- 1", "3")


def staged(planned: Skeleton = PLANNED, **options: Any) -> tuple[Stage, SGDRunnable]:
    """A stage whose planner writes this plan, and the Runnable on its models."""
    stage = Stage({PLANNER: planning(planned)})
    return stage, SGDRunnable(**stage.pair(), **options)
