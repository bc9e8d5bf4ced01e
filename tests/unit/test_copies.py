"""Copies of an `SGDRunnable`: each works, has the new options, and shares what hangs on its models."""

from __future__ import annotations

import asyncio
import copy
import functools
import pickle
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from langchain_core.runnables import ConfigurableField
from pydantic import ValidationError

from langchain_sgd import InvalidInputError, Report, SGDRunnable
from langchain_sgd.bench.virtual_time import run_virtual
from tests.support.models import PLAIN, PLANNER, Say, Stage, planning
from tests.support.skeletons import skeleton

PLANNED = skeleton("1", "2", "3", difficulty=3)


def staged(**options: Any) -> tuple[Stage, SGDRunnable]:
    stage = Stage({PLANNER: planning(PLANNED)})
    return stage, SGDRunnable(**stage.pair(), **options)


def configured(sgd: SGDRunnable) -> Any:
    field = ConfigurableField(id="deadline")
    return sgd.configurable_fields(deadline_s=field).with_config(configurable={"deadline": 60.0})


Copying = Callable[[SGDRunnable], SGDRunnable]
COPIES: dict[str, Copying] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "model_copy": lambda sgd: sgd.model_copy(),
    "deep model_copy": lambda sgd: sgd.model_copy(deep=True),
}


@pytest.mark.parametrize("used", [False, True], ids=["unused", "used"])
@pytest.mark.parametrize("name", COPIES)
async def test_a_copy_works_and_shares_the_models(name: str, used: bool) -> None:  # noqa: FBT001
    stage, sgd = staged(threshold=2, limits={"large": 3})
    if used:
        await sgd.ainvoke("Why?")
        stage.calls.clear()
    twin = COPIES[name](sgd)
    assert twin is not sgd
    assert (twin.threshold, twin.large) == (2, sgd.large)
    assert twin.limits["large"] is sgd.limits["large"]
    assert Report.from_message(await twin.ainvoke("Why?")).status == "complete"
    assert stage.parts("large") == [PLANNER, "1", "2", "3"]


async def test_a_copy_with_changes_has_what_follows_from_them() -> None:
    stage, sgd = staged()
    await sgd.ainvoke("Why?")
    stage.calls.clear()
    other = Stage({PLAIN: Say("from another model")})
    changed = sgd.model_copy(update={"mode": "never", "large": other.model("other")})
    message = await changed.ainvoke("Why?")
    assert message.text == "from another model"
    assert Report.from_message(message).status == "plain"
    assert (stage.calls, other.parts()) == ([], [PLAIN])


def test_a_copy_is_checked_like_a_new_one() -> None:
    _, sgd = staged()
    with pytest.raises(ValidationError, match="threshold"):
        sgd.model_copy(update={"threshold": 0})
    with pytest.raises(ValidationError, match="treshold"):
        sgd.model_copy(update={"treshold": 2})


@pytest.mark.parametrize("used", [False, True], ids=["unused", "used"])
def test_a_pickle_works(used: bool) -> None:  # noqa: FBT001
    sgd = SGDRunnable(large="http://127.0.0.1:9", threshold=4, limits={"large": 3})
    if used:
        assert sgd.largest.shared.limit is not None
    twin = pickle.loads(pickle.dumps(sgd))  # noqa: S301 - our own
    assert (twin.threshold, twin.limits["large"].size) == (4, 3)
    assert twin.tiers_by_size[-1].name == "large"
    assert repr(twin.large) == repr(sgd.large)


def test_busy_counts_the_calls_of_all_copies() -> None:
    stage = Stage({PLANNER: planning(PLANNED, each_s=0.1)}, default=Say("text", each_s=0.1))
    sgd = SGDRunnable(**stage.pair(), busy=1)

    async def main() -> list[str]:
        async with asyncio.TaskGroup() as group:
            runs = [
                group.create_task(runnable.ainvoke("Why?"))
                for runnable in (sgd, configured(sgd), sgd, copy.copy(sgd))
            ]
        return [Report.from_message(run.result()).status for run in runs]

    assert run_virtual(main()) == ["complete", "plain", "plain", "plain"]


async def test_a_wanted_share_holds_over_copies_for_each_question() -> None:
    stage, sgd = staged(large_share=0.3)
    runnable = configured(sgd)
    for number in range(20):
        await runnable.ainvoke(f"Why {number}?")
    nodes = [call for call in stage.calls if call.part != PLANNER]
    share = sum(call.model == "large" for call in nodes) / len(nodes)
    assert 0.25 <= share <= 0.35


class _Asked:
    async def __call__(self, *_: Any) -> Any:
        return True


async def _asked(*_: Any) -> Any:
    return True


@pytest.mark.parametrize("option", ["router", "accept", "busy"])
@pytest.mark.parametrize(
    "function", [_asked, _Asked(), functools.partial(_asked, 1), functools.partial(_Asked(), 1)]
)
def test_a_function_that_would_have_to_be_awaited_is_refused(option: str, function: Any) -> None:
    with pytest.raises(ValidationError, match=f"{option} must not be async"):
        SGDRunnable(**Stage().pair(), **{option: function})


@pytest.mark.parametrize("option", ["router", "accept", "expand", "busy"])
async def test_what_a_function_gives_to_be_awaited_is_no_yes(option: str) -> None:
    sgd = SGDRunnable(**Stage().pair(), **{option: lambda *_: _asked()})
    given = {"question": "Why?", **({} if option == "busy" else {"skeleton": PLANNED})}
    with pytest.raises(InvalidInputError, match=f"{option} must not be async"):
        await sgd.ainvoke(given)


def test_what_one_option_would_make_of_another_is_refused() -> None:
    models = Stage().pair()
    with pytest.raises(ValidationError, match="must not be named 'planner'"):
        SGDRunnable(tiers={"planner": models["small"], "big": models["large"]})
    with pytest.raises(ValidationError, match="either threshold= or large_share="):
        SGDRunnable(**models, threshold=2, large_share=0.5)
    with pytest.raises(ValidationError, match="either threshold= or router="):
        SGDRunnable(**models, threshold=2, router=lambda _: "large")
    with pytest.raises(InvalidInputError, match="by name"):
        SGDRunnable(models["large"])  # type: ignore[call-arg]


async def test_defaults_of_a_subclass_are_read_like_given_options() -> None:
    stage = Stage({PLANNER: planning(PLANNED)}, gated=True)

    class Mine(SGDRunnable):
        large: Any = stage.model("mine")
        limits: Mapping[str, Any] = {"large": 1}

    class Theirs(SGDRunnable):
        large: Any = "http://127.0.0.1:9"

    assert Mine().largest.limit.size == 1
    assert callable(getattr(Theirs().largest.model, "astream", None))
    stage.release(PLANNER, "1", "2", "3")
    await Mine().ainvoke("Why?")
    assert stage.peak == 1
