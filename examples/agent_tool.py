"""SGD as a tool: an agent has a long answer written, and gets its text.

pip install langchain
"""

from __future__ import annotations

from langchain.agents import create_agent
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, ToolMessage

from langchain_sgd import Report
from langchain_sgd.embedded.server import EmbeddedServer

QUESTION = (
    "Write a launch brief for a new lamp from Oakham for nurses, price under $60, delivery $4. "
    "Include: design, slogan, delivery, summary."
)


class Scripted(GenericFakeChatModel):
    """Stands in for your model, say `ChatOpenAI(...)`: calls the tool, then says that it is done."""

    def bind_tools(self, *_: object, **__: object) -> Scripted:
        return self


def main() -> None:
    call = {"name": "write_brief", "args": {"question": QUESTION}, "id": "call-1"}
    model = Scripted(
        messages=iter([AIMessage("", tool_calls=[call]), AIMessage("Here is your brief.")])
    )
    with EmbeddedServer() as server:
        tool = server.runnable().as_tool(
            name="write_brief",
            description="Writes a launch brief for a product. Give it the whole request.",
        )
        agent = create_agent(model, [tool])
        asked = {"messages": [("user", "We bring out a lamp. Can you write the brief?")]}
        for mode, data in agent.stream(asked, stream_mode=["custom", "updates"]):
            if mode == "custom":  # the tool's text while it is written
                print(data.get("text", ""), end="", flush=True)
                continue
            for message in (m for update in data.values() for m in update["messages"]):
                if isinstance(message, ToolMessage):  # its text went to the model, the report to us
                    report = Report.model_validate(message.artifact)
                    print(
                        f"\n\n[{message.name}: {len(report.nodes)} parts in {report.wall_s:.2f} s]"
                    )
                elif message.text:
                    print(message.text)


if __name__ == "__main__":
    main()
