"""Runs saved in PostgreSQL; needs a server, which `SGD_TEST_POSTGRES_URL` names."""

from __future__ import annotations

import asyncio
import os
from uuid import uuid4

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.types import Command

from langchain_sgd import InvalidInputError, NodeDecodeError, Report, SGDRunnable
from langchain_sgd.owner import Owner
from tests.support.models import PLANNER, Say, Stage, planning, settle
from tests.support.skeletons import skeleton

pytest.importorskip("langgraph.checkpoint.postgres", reason="needs langgraph-checkpoint-postgres")

from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from psycopg import AsyncConnection
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool

PLANNED = skeleton("1", "2", "3 <- 1,2")


@pytest.fixture
def url() -> str:
    if url := os.environ.get("SGD_TEST_POSTGRES_URL"):
        return url
    pytest.skip("needs a PostgreSQL server: set SGD_TEST_POSTGRES_URL")


@pytest.fixture
def thread() -> RunnableConfig:
    return {"configurable": {"thread_id": uuid4().hex}}


async def test_another_connection_goes_on_with_a_broken_run(
    url: str, thread: RunnableConfig
) -> None:
    no = Say(error=ValueError("no"))
    stage = Stage({PLANNER: planning(PLANNED), "3": [no, no, Say("at last")]})
    async with AsyncPostgresSaver.from_conn_string(url) as saver:
        await saver.setup()
        sgd = SGDRunnable(**stage.pair(), on_node_error="raise", checkpointer=saver)
        with pytest.raises(NodeDecodeError):
            await sgd.ainvoke("Why?", thread)
    assert stage.parts() == [PLANNER, "1", "2", "3", "3"]
    async with AsyncPostgresSaver.from_conn_string(url) as saver:
        sgd = SGDRunnable(**stage.pair(), on_node_error="raise", checkpointer=saver)
        report = Report.from_message(await sgd.ainvoke(None, thread))
    assert stage.parts()[5:] == ["3"]
    assert [node.restored for node in report.nodes] == [True, True, False]


async def test_what_is_finished_is_saved_while_other_graphs_are_at_the_pool(
    url: str, thread: RunnableConfig
) -> None:
    stage = Stage({PLANNER: planning(PLANNED), "3": Say("last")}, gated=True)
    pool: AsyncConnectionPool[AsyncConnection[DictRow]] = AsyncConnectionPool(
        url, kwargs={"autocommit": True, "row_factory": dict_row}, open=False
    )
    async with (
        AsyncPostgresSaver.from_conn_string(url) as another,
        pool,
        Owner() as owner,
    ):
        await another.setup()
        saver = AsyncPostgresSaver(pool)

        async def saved() -> set[str]:
            found = [one async for one in another.alist(thread)]
            names = {name for one in found for _, name, _ in one.pending_writes or ()}
            return {name for name in names if name.startswith("node ")}

        run = owner.start(SGDRunnable(**stage.pair(), checkpointer=saver).ainvoke("Why?", thread))
        stage.release(PLANNER)
        await settle(lambda: len(stage.calls) == 3)
        async with saver.lock:
            stage.release("1", "2")
            while len(await saved()) < 2:  # noqa: ASYNC110 - a database calls nobody
                await asyncio.sleep(0.01)
            await settle(lambda: stage.parts() == [PLANNER, "1", "2", "3"])
        stage.release("3")
        assert "last" in (await run).text


async def test_an_approval_and_a_second_turn(url: str, thread: RunnableConfig) -> None:
    stage = Stage({PLANNER: planning(PLANNED)})
    async with AsyncPostgresSaver.from_conn_string(url) as saver:
        await saver.setup()
        sgd = SGDRunnable(**stage.pair(), approve=True, checkpointer=saver)
        await sgd.ainvoke("First?", thread)
        await sgd.ainvoke(Command(resume=True), thread)
        await sgd.ainvoke("Second?", thread)
    assert "First?" in stage.calls[-1].prompt
    assert stage.parts() == [PLANNER, "1", "2", "3", PLANNER]


async def test_the_synchronous_saver_is_told_its_twin(url: str, thread: RunnableConfig) -> None:
    with PostgresSaver.from_conn_string(url) as saver:
        saver.setup()
        sgd = SGDRunnable(**Stage().pair(), checkpointer=saver)
        with pytest.raises(InvalidInputError, match="AsyncPostgresSaver"):
            await sgd.ainvoke("Why?", thread)
