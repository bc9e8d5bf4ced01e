"""Research: parts search a few notes and cite them, or say there are none; a human approves first.

pip install langgraph-checkpoint-sqlite
python examples/research.py  # the bundled models; or yours, with its URL or name in MODEL
"""

import asyncio
import os
import re
import tempfile
from contextlib import aclosing, nullcontext
from pathlib import Path

from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import Runnable, RunnableLambda
from langchain_core.tools import tool
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.types import Command

from langchain_sgd import Node, Report, SGDRunnable
from langchain_sgd.embedded.server import EmbeddedServer
from langchain_sgd.events import Ended

QUESTION = """Write a launch brief for a new lamp from Oakham for nurses, price under $60, delivery $4. \
Include: slogan, design, delivery, care."""
NOTES = {path.stem: path.read_text() for path in Path(__file__).with_name("research").glob("*.md")}
ASK = "\n\nUse these notes and nothing else. Name the one behind each fact, as in [{}]:\n\n{}"


@tool
def search(query: str) -> dict[str, str]:
    """The notes on a subject; yours may be a search engine."""
    return {n: text for n, text in NOTES.items() if n in re.findall(r"\w+", query.lower())}


def researcher(model: Runnable, *, quotes: bool) -> Runnable:
    async def research(messages: list) -> AIMessage:
        *before, last = messages
        own = await search.ainvoke(last.text.strip().splitlines()[-1])  # its own part stands last
        notes = own if own or quotes else await search.ainvoke(QUESTION)
        if own and quotes:  # the bundled models understand no notes, so they are quoted
            text = "".join(own.values()).strip() + "".join(f" [{name}]" for name in own)
        else:
            asked = ASK.format("], [".join(notes), "".join(notes.values())) if notes else ""
            text = str((await model.ainvoke([*before, HumanMessage(last.text + asked)])).text)
        cited = [{"type": "citation", "title": name} for name in notes if f"[{name}]" in text]
        text = text if own or quotes or cited else "The notes say nothing about this."
        return AIMessage([{"type": "text", "text": text, "annotations": cited}])

    return RunnableLambda(research)


def supported(node: Node, text: str) -> bool:  # names notes on its subject; no other figures
    on, known = search.invoke(node.heading), {*re.findall(r"\d{2,}", f"{QUESTION} {NOTES}")}
    return (not on or any(f"[{n}]" in text for n in on)) and {*re.findall(r"\d{2,}", text)} <= known


async def main() -> None:
    thread, url = {"configurable": {"thread_id": "research-1"}}, os.environ.get("MODEL")
    with tempfile.TemporaryDirectory() as folder, nullcontext() if url else EmbeddedServer() as own:
        async with AsyncSqliteSaver.from_conn_string(f"{folder}/runs.sqlite") as saver:
            local = own.runnable() if own else SGDRunnable(large=url)
            tiers = {"research": researcher(local.large, quotes=not url)}
            models = {"planner": local.planner or local.large, "prompts": local.prompts}
            checks = {"mode": "always", "approve": True, "accept": supported, "cut_repeats": True}
            sgd = SGDRunnable(tiers=tiers, **models, **checks, checkpointer=saver)
            waiting = (await sgd.ainvoke(QUESTION, thread)).response_metadata["sgd"]
            print("planned:", ", ".join(n["heading"] for n in waiting["skeleton"]["nodes"]))
            async with aclosing(sgd.aevents(Command(resume=True), thread)) as events:  # yes
                await anext(event async for event in events if isinstance(event, Ended))  # cut off
            report = Report.from_message(answer := await sgd.ainvoke(None, thread))  # it goes on
    print(f"{answer.text}\n\nfrom the checkpoint: {sum(n.restored for n in report.nodes)}")
    for node in report.nodes:
        print(f"{node.heading}: {node.status}, cites", *(a["title"] for a in node.annotations))
    print(f"repeated: {report.overlap.share:.0%} of the words")


if __name__ == "__main__":
    asyncio.run(main())
