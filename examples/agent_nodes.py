"""Nodes decoded by an agent: a tier is anything from messages to message, so a node can look something up.

pip install langchain
"""

from __future__ import annotations

from langchain.agents import create_agent
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.tools import tool

from langchain_sgd import Report, SGDRunnable
from langchain_sgd.embedded.server import EmbeddedServer

QUESTION = (
    "Write a launch brief for a new lamp from Oakham for nurses, price under $60, delivery $4. "
    "Include: slogan, delivery, summary."
)
SKELETON = [  # given, so that this shows the same each time; leave it out to have it planned
    {"id": 1, "heading": "Slogan"},
    {"id": 2, "heading": "Delivery", "difficulty": 5},
    {"id": 3, "heading": "Summary", "dependencies": [1, 2]},
]


@tool
def stock(product: str) -> str:
    """How many pieces of a product are in the warehouse."""
    return f"{product}: 240 pieces in Oakham"


class Scripted(GenericFakeChatModel):
    """Stands in for your model, say `ChatOpenAI(...)`: looks it up, then writes its part."""

    def bind_tools(self, *_: object, **__: object) -> Scripted:
        return self


def main() -> None:
    look_it_up = AIMessage(
        "", tool_calls=[{"name": "stock", "args": {"product": "lamp"}, "id": "1"}]
    )
    write = AIMessage("240 lamps are in our Oakham warehouse and leave on the day you order.")
    clerk = create_agent(Scripted(messages=iter([look_it_up, write])), [stock], name="clerk")

    with EmbeddedServer() as server:
        local = server.runnable()
        sgd = SGDRunnable(
            tiers={"small": local.small, "clerk": clerk},  # yours: "small": "http://..."
            router=lambda node: "clerk" if node.heading == "Delivery" else "small",
            prompts=local.prompts,  # the bundled models know no others; leave it out for yours
        )
        answer = sgd.invoke({"question": QUESTION, "skeleton": SKELETON})
    print(answer.text, "\n")
    for node in Report.from_message(answer).nodes:
        print(f"{node.id}: {node.tier}")


if __name__ == "__main__":
    main()
