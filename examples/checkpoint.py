"""A run that is killed half-way goes on where it stopped: finished parts are not written again."""

import asyncio
import tempfile
from contextlib import aclosing
from pathlib import Path

from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

from langchain_sgd import Report
from langchain_sgd.embedded.server import EmbeddedServer
from langchain_sgd.events import Ended, PlanEnded

QUESTION = (
    "Write a launch brief for a new radio from Calder for farmers, price under $70, delivery $4. "
    "Include: design, offer, reminder, summary."
)


async def main() -> None:
    thread = {"configurable": {"thread_id": "brief-1"}}
    with EmbeddedServer() as server, tempfile.TemporaryDirectory() as folder:
        async with AsyncSqliteSaver.from_conn_string(str(Path(folder, "runs.sqlite"))) as saver:
            sgd = server.runnable(checkpointer=saver)

            # Cut the run off in the middle; a killed process leaves the same behind.
            planned, ended = False, 0
            async with aclosing(sgd.aevents(QUESTION, thread)) as events:
                async for event in events:
                    planned |= isinstance(event, PlanEnded)
                    ended += isinstance(event, Ended)
                    if planned and ended >= 2:
                        break

            answer = await sgd.ainvoke(None, thread)  # no question: the thread's run goes on

    for node in Report.from_message(answer).nodes:
        print(
            f"{node.id:>2} {node.status} {'from the checkpoint' if node.restored else 'decoded now'}"
        )


if __name__ == "__main__":
    asyncio.run(main())
