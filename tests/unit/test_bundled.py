"""The bundled models are known wherever they are named, and are asked as they were trained."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langchain_core.exceptions import ModelConnectionError
from langchain_core.language_models import FakeListChatModel

from langchain_sgd import Prompts, SGDRunnable
from langchain_sgd.bundled import BRIEFS_PROMPTS, fitted


class Served(FakeListChatModel):
    """A model that a server names."""

    responses: list[str] = ["text"]  # noqa: RUF012 - a field
    served: Any = "langchain-sgd-briefs-large"

    async def aserved_model(self) -> str:
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
