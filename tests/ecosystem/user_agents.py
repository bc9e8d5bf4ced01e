"""What a user writes who has SGD in a graph and under agents: nothing of it is cast."""

# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false
# (LangChain's, LangGraph's and deepagents' own types are partly unknown to it.)

from deepagents import create_deep_agent
from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import HumanMessage
from langgraph.graph import START, MessagesState, StateGraph

from langchain_sgd import ChatSGD, SGDRunnable


def texts(model: BaseChatModel, caller: BaseChatModel) -> list[str]:
    """The same answer as a node, from a subagent, and by an agent's own model."""
    sgd = SGDRunnable(large=model)
    asked = MessagesState(messages=[HumanMessage("Why?")])
    graph = StateGraph(MessagesState)
    graph.add_node("write", sgd.as_node())
    graph.add_edge(START, "write")
    states = [graph.compile().invoke(asked)]
    deep = create_deep_agent(model=caller, subagents=[sgd.as_subagent()])
    states.append(deep.invoke({"messages": [HumanMessage("Why?")]}))
    create_agent(ChatSGD(sgd), [sgd.as_tool(name="write")])
    return [str(message.text) for state in states for message in state["messages"]]
