"""A human sees the skeleton before a word is written, and may change it."""

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from langchain_sgd import Report, Skeleton
from langchain_sgd.embedded.server import EmbeddedServer

QUESTION = (
    "Write a launch brief for a new kettle from Arden for teachers, price under $50, delivery $4. "
    "Include: slogan, invitation, summary."
)


def main() -> None:
    thread = {"configurable": {"thread_id": "approval-1"}}
    with EmbeddedServer() as server:
        sgd = server.runnable(approve=True, checkpointer=InMemorySaver())
        waiting = sgd.invoke(QUESTION, thread)
        skeleton = Skeleton.parse(waiting.response_metadata["sgd"]["skeleton"])
        print("planned: ", ", ".join(node.heading for node in skeleton.nodes))

        # Edit: leave out the last part. True would accept the plan, False would answer undivided.
        edited = Skeleton(nodes=skeleton.nodes[:-1])
        answer = sgd.invoke(Command(resume=edited.model_dump(mode="json")), thread)
    written = Report.from_message(answer).skeleton
    print("written: ", ", ".join(node.heading for node in written.nodes))


if __name__ == "__main__":
    main()
