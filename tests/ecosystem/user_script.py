"""What a user writes, forty lines of it: type checkers at their strictest have nothing to say of it."""

import asyncio
from collections.abc import Callable

from langchain_core.language_models import BaseChatModel

from langchain_sgd import ChatSGD, Node, NodeDecodeError, Prompts, Report, SGDRunnable, Skeleton
from langchain_sgd.events import Ended, Token


def accept(node: Node, text: str) -> bool:
    return len(text) > node.difficulty


def is_hard(node: Node) -> bool:
    return node.difficulty >= 4


def make(small: BaseChatModel, large: BaseChatModel) -> SGDRunnable:
    expand: Callable[[Node], bool] = is_hard
    prices = {"small": (0.1, 0.4), "large": (1.0, 4.0)}
    return SGDRunnable(small=small, large=large, accept=accept, expand=expand, prices=prices)


async def main(small: BaseChatModel, large: BaseChatModel) -> tuple[str, list[str]]:
    sgd = make(small, large)
    copy: SGDRunnable = sgd.model_copy(
        update={"prompts": Prompts(ask="Q: {question}"), "length": 300}
    )
    plan = await copy.aplan("Train or plane?")
    skeleton: Skeleton | None = plan.skeleton
    shown = [str(chunk.text) async for chunk in sgd.astream("Train or plane?", seed=7)]
    events = sgd.aevents({"question": "Train or plane?", "skeleton": skeleton})
    shown += [event.node_id async for event in events if isinstance(event, Token | Ended)]
    try:
        message = await ChatSGD(sgd, count_usage=True).ainvoke([("human", "Train or plane?")])
    except NodeDecodeError as error:
        return str(error), shown
    report = Report.from_message(message)
    costs = [f"{report.costs.total:.2f}"] if report.costs else []
    leaves = [
        f"{name}: {leaf.model} {leaf.usage.output_tokens}" for name, leaf in report.leaves.items()
    ]
    state = await copy.as_node().ainvoke({"messages": [message]})
    return sgd.as_tool(name="write").name, [*shown, *leaves, *costs, *state]


def run(small: BaseChatModel, large: BaseChatModel) -> tuple[str, list[str]]:
    return asyncio.run(main(small, large))
