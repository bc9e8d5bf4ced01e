"""What a tracer sees: one tree a question, a run for each node.

With LANGSMITH_TRACING=true and LANGSMITH_API_KEY set the same tree goes to LangSmith, without a change here.
"""

from langchain_core.tracers.run_collector import RunCollectorCallbackHandler
from langchain_core.tracers.schemas import Run

from langchain_sgd.embedded.server import EmbeddedServer

QUESTION = (
    "Write a launch brief for a new clock from Preston for artists, price under $80, delivery $4. "
    "Include: design, delivery, summary."
)


def show(run: Run, depth: int = 0) -> None:
    tier = run.metadata.get("sgd_tier", "")
    print(f"{'  ' * depth}{run.name} ({run.run_type}) {tier}")
    for child in run.child_runs:
        show(child, depth + 1)


def main() -> None:
    collector = RunCollectorCallbackHandler()
    with EmbeddedServer() as server:
        server.runnable().invoke(QUESTION, {"callbacks": [collector], "tags": ["demo"]})
    for run in collector.traced_runs:
        show(run)


if __name__ == "__main__":
    main()
