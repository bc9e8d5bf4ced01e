"""SGD inside a chain: a prompt before it, a parser behind it, a second branch beside it."""

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import ConfigurableField, RunnableParallel

from langchain_sgd.embedded.server import EmbeddedServer

PROMPT = ChatPromptTemplate.from_template(
    "Write a launch brief for a new {product} from {town} for {readers}, price under $60, delivery $4. "
    "Include: design, slogan, delivery, summary."
)


def main() -> None:
    lamp = {"product": "lamp", "town": "Oakham", "readers": "nurses"}
    kettle = {"product": "kettle", "town": "Arden", "readers": "teachers"}
    with EmbeddedServer() as server:
        sgd = server.runnable(limits={"small": 8, "large": 4})  # held across runs and batches
        chain = PROMPT | sgd | StrOutputParser()

        print("-- streamed through the whole chain")
        for piece in chain.stream(lamp):
            print(piece, end="", flush=True)

        print("\n\n-- two questions at once")
        for text in chain.batch([lamp, kettle]):
            print(len(text.split()), "words")

        print("-- beside another branch, its options set for this call")
        configurable = sgd.configurable_fields(threshold=ConfigurableField(id="sgd_threshold"))
        both = RunnableParallel(brief=PROMPT | configurable | StrOutputParser(), asked=PROMPT)
        every_node_to_large = {"configurable": {"sgd_threshold": 1}}
        result = both.invoke(lamp, every_node_to_large)
        print(sorted(result))


if __name__ == "__main__":
    main()
