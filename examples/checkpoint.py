"""A run that is killed half-way goes on where it stopped: finished parts are not written again."""

import asyncio
import tempfile
from pathlib import Path

from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

from langchain_sgd import Report
from langchain_sgd.embedded.server import EmbeddedServer

QUESTION = (
    "Write a launch brief for a new radio from Calder for farmers, price under 70 dollars. "
    "Include: design, offer, reminder, summary."
)


async def main() -> None:
    thread = {"configurable": {"thread_id": "brief-1"}}
    with EmbeddedServer() as server, tempfile.TemporaryDirectory() as folder:
        async with AsyncSqliteSaver.from_conn_string(str(Path(folder, "runs.sqlite"))) as saver:
            sgd = server.runnable(checkpointer=saver)

            # Cut the run off once two parts are there; a killed process leaves the same behind.
            ended = 0
            async for event in sgd.aevents(QUESTION, thread):
                ended += type(event).__name__ == "Ended"
                if ended == 2:
                    break

            answer = await sgd.ainvoke(None, thread)  # no question: the thread's run goes on

    for node in Report.from_message(answer).nodes:
        print(f"{node.id:>2} {node.status} {'from the checkpoint' if node.restored else 'decoded now'}")


if __name__ == "__main__":
    asyncio.run(main())
