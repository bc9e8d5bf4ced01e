"""Stream an answer, then read what happened."""

from langchain_sgd import Report
from langchain_sgd.embedded.server import EmbeddedServer

QUESTION = (
    "Write a launch brief for a new lamp from Oakham for nurses, price under $60, delivery $4. "
    "Include: design, delivery, invitation."
)


def main() -> None:
    # With servers of your own: sgd = SGDRunnable(small="http://...", large="http://...")
    with EmbeddedServer() as server:
        sgd = server.runnable()
        answer = None
        for chunk in sgd.stream(QUESTION):
            print(chunk.content, end="", flush=True)
            answer = chunk if answer is None else answer + chunk

    report = Report.from_message(answer)
    print(
        f"\n\n{report.status} in {report.wall_s:.2f} s, first text after {report.ttft_s or 0:.2f} s"
    )
    if not report.skeleton:
        print(f"answered undivided: {report.reason}")
    for node in report.nodes:  # of an undivided answer one, which has no heading
        name = node.heading or "whole answer"
        print(f"  {node.id:>5} {name:<12} {node.tier:<6} {node.usage.output_tokens} tokens")


if __name__ == "__main__":
    main()
