"""The same as checkpoint.py with PostgreSQL, so that any machine can go on with a run.

docker run -d --name sgd-postgres -e POSTGRES_PASSWORD=secret -p 127.0.0.1:5432:5432 postgres:17
# or: apt-get install postgresql, and createdb sgd
pip install langgraph-checkpoint-postgres "psycopg[binary]"
POSTGRES_URL=postgresql://postgres:secret@127.0.0.1:5432/postgres python examples/postgres_checkpoint.py
"""

import asyncio
import os
from contextlib import aclosing
from uuid import uuid4

from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver

from langchain_sgd import Report
from langchain_sgd.embedded.server import EmbeddedServer
from langchain_sgd.events import Ended, PlanEnded

QUESTION = (
    "Write a launch brief for a new radio from Calder for farmers, price under $70, delivery $4. "
    "Include: design, offer, reminder, summary."
)


async def begin(url: str, thread_id: str, models: EmbeddedServer) -> None:
    """One machine: it is gone when the plan and two parts are there."""
    async with AsyncPostgresSaver.from_conn_string(url) as saver:
        await saver.setup()  # makes the tables, once; later calls find them
        sgd = models.runnable(checkpointer=saver)
        thread = {"configurable": {"thread_id": thread_id}}
        planned, ended = False, 0
        async with aclosing(sgd.aevents(QUESTION, thread)) as events:
            async for event in events:
                planned |= isinstance(event, PlanEnded)
                ended += isinstance(event, Ended)
                if planned and ended >= 2:
                    return


async def go_on(url: str, thread_id: str, models: EmbeddedServer) -> Report:
    """Another machine: all that it knows is the thread."""
    async with AsyncPostgresSaver.from_conn_string(url) as saver:
        sgd = models.runnable(checkpointer=saver)
        answer = await sgd.ainvoke(None, {"configurable": {"thread_id": thread_id}})
        return Report.from_message(answer)


async def main() -> None:
    url, thread_id = os.environ["POSTGRES_URL"], uuid4().hex
    with EmbeddedServer() as models:
        await begin(url, thread_id, models)
        report = await go_on(url, thread_id, models)
    for node in report.nodes:
        print(
            f"{node.id:>2} {node.status} {'from the database' if node.restored else 'decoded now'}"
        )


if __name__ == "__main__":
    asyncio.run(main())
