"""The bundled models are known wherever they are named, and are asked as they were trained."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langchain_core.exceptions import (
    ModelAuthenticationError,
    ModelConnectionError,
    ModelNotFoundError,
    ModelTimeoutError,
)
from langchain_core.language_models import FakeListChatModel

from langchain_sgd import Prompts, SGDRunnable, bundled
from langchain_sgd.bundled import BRIEFS_PROMPTS, fitted


class Served(FakeListChatModel):
    """A model that a server names."""

    responses: list[str] = ["text"]  # noqa: RUF012 - a field
    served: Any = "langchain-sgd-briefs-large"
    asked: int = 0

    async def aserved_model(self) -> str:
        self.asked += 1
        if isinstance(self.served, BaseException):
            raise self.served
        if self.served is None:
            await asyncio.Event().wait()
        return str(self.served)


async def test_they_get_their_own_prompts_and_no_opening() -> None:
    sgd = SGDRunnable(large=Served(), small=Served().bind(stop=["x"]))
    own = await fitted(sgd)
    assert own.prompts == BRIEFS_PROMPTS
    assert own.opening is False
    assert own.large is sgd.large
    assert await fitted(own) is own


@pytest.mark.parametrize(
    "others",
    [
        {"small": Served(served="lab/other")},
        {"planner": Served(served="lab/other")},
        {"planner": FakeListChatModel(responses=["text"])},
        {"planner": Served(served=ModelConnectionError("refused"))},
        {"planner": Served(served=None), "deadline_s": 0.01},
        {"prompts": Prompts(repair="Again.")},
    ],
    ids=["small", "planner", "unnamed", "down", "silent", "prompts"],
)
async def test_otherwise_the_options_stay_as_they_are(others: dict[str, Any]) -> None:
    sgd = SGDRunnable(**{"large": Served(), **others})
    assert await fitted(sgd) is sgd


async def test_what_the_user_says_counts() -> None:
    sgd = SGDRunnable(large=Served(), opening=True)
    assert (await fitted(sgd)).opening is True


@pytest.mark.parametrize(
    ("error", "at_once", "later"),
    [
        (ModelTimeoutError("silent"), 1, 2),
        (ModelAuthenticationError("401"), 1, 1),
        (ModelNotFoundError("no TGI"), 1, 1),
        (ModelConnectionError("refused"), 2, 3),
    ],
    ids=["silent", "key", "another", "down"],
)
async def test_a_server_that_does_not_say_is_not_asked_with_every_run(
    error: Exception, at_once: int, later: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(bundled, "monotonic", lambda: now)
    model = Served(served=error)
    sgd = SGDRunnable(large=model)
    assert await fitted(sgd) is sgd
    assert await fitted(sgd) is sgd
    assert model.asked == at_once
    now += 61
    assert await fitted(sgd) is sgd
    assert model.asked == later


async def test_a_server_that_was_started_meanwhile_is_recognized() -> None:
    model = Served(served=ModelConnectionError("refused"))
    sgd = SGDRunnable(large=model)
    assert await fitted(sgd) is sgd
    model.served = "langchain-sgd-briefs-large"
    assert (await fitted(sgd)).prompts == BRIEFS_PROMPTS


async def test_servers_are_asked_at_once_and_the_first_other_one_decides() -> None:
    silent = Served(served=None)
    sgd = SGDRunnable(large=Served(served="lab/other"), planner=silent)
    async with asyncio.timeout(5):
        assert await fitted(sgd) is sgd
