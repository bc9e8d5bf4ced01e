"""Ask SGD on a LangGraph Server: a streamed answer, then one whose skeleton a human sees first.

pip install langgraph-sdk
"""

import asyncio
import os

from langgraph_sdk import get_client

URL = os.environ.get("LANGGRAPH_URL", "http://127.0.0.1:2024")


def question(text: str) -> dict:
    return {"messages": [{"role": "user", "content": text}]}


async def main() -> None:
    client = get_client(url=URL)

    thread = await client.threads.create()
    asked = question("Compare trains, planes and cars for a family trip from Paris to Rome.")
    async for part in client.runs.stream(
        thread["thread_id"], "sgd", input=asked, stream_mode="messages-tuple"
    ):
        if part.event == "messages":
            print(part.data[0]["content"], end="", flush=True)

    thread = await client.threads.create()
    asked = question("Compare tea and coffee for a long night of work.")
    waiting = await client.runs.wait(
        thread["thread_id"], "sgd", input=asked, context={"approve": True}
    )
    print("\n\n-- planned")
    for interrupt in waiting.get("__interrupt__", []):  # none if the question is not worth a split
        for node in interrupt["value"]["skeleton"]["nodes"]:
            print(node["id"], node["heading"], node["dependencies"])
        waiting = await client.runs.wait(thread["thread_id"], "sgd", command={"resume": True})
    print(waiting["messages"][-1]["content"])


if __name__ == "__main__":
    asyncio.run(main())
