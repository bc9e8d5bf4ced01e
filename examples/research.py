"""Research: a human approves the parts, which search a few notes; one that cites none is refused.

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
NOTHING = "The notes say nothing about this."
ASK = "\n\nUse these notes and nothing else. Name the one behind each fact, as in [{}]:\n\n{}"


@tool
def search(query: str) -> dict[str, str]:
    """The notes on a subject; yours may be a search engine."""
    return {n: text for n, text in NOTES.items() if n in re.findall(r"\w+", query.lower())}


async def research(messages: list, writer: Runnable, *, quotes: bool) -> AIMessage:
    *before, last = messages
    own = await search.ainvoke(last.text.strip().splitlines()[-1])  # its own part stands last
    notes = own if own or quotes else await search.ainvoke(QUESTION)
    if quotes:  # the bundled models understand no notes, so they are quoted
        text = "".join(own.values()).strip() + "".join(f" [{name}]" for name in own)
    else:
        asked = last.text + ASK.format("], [".join(notes), "".join(notes.values()))
        text = str((await writer.ainvoke([*before, HumanMessage(asked)])).text)
    cited = [{"type": "citation", "title": name} for name in notes if f"[{name}]" in text]
    text = text if own or cited else NOTHING
    return AIMessage([{"type": "text", "text": text, "annotations": cited}])


def supported(node: Node, text: str) -> bool:  # cites a note on its subject, and no other figures
    on, cited = search.invoke(node.heading), [name for name in NOTES if f"[{name}]" in text]
    named = any(name in on for name in cited) if on else bool(cited) or text == NOTHING
    known = re.findall(r"\d{2,}", QUESTION + "".join(NOTES[name] for name in cited))
    return named and {*re.findall(r"\d{2,}", text)} <= {*known}


async def main() -> None:
    thread, url = {"configurable": {"thread_id": "research-1"}}, os.environ.get("MODEL")
    with tempfile.TemporaryDirectory() as folder, nullcontext() if url else EmbeddedServer() as own:
        async with AsyncSqliteSaver.from_conn_string(f"{folder}/runs.sqlite") as saver:
            local = own.runnable() if own else SGDRunnable(large=url)
            tier = RunnableLambda(research).bind(writer=local.large, quotes=not url)
            models = {"planner": local.planner or local.large, "prompts": local.prompts}
            checks = {"mode": "always", "approve": True, "accept": supported, "cut_repeats": True}
            sgd = SGDRunnable(tiers={"research": tier}, **models, **checks, checkpointer=saver)
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
