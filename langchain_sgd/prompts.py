"""Every word the package says to a model, in one value that users can replace.

The paper's prompts are not public; these are our own. What is fixed here, whatever the templates say, is
the *order*: system prompt, history and question first, byte for byte as given, then the nodes planned so
far, then the answers of the dependencies in skeleton order, the node's own part last. Planner and nodes
thus share a prefix, which servers with a prefix cache compute once (Plato, arXiv 2402.12280v2).
"""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from typing import Any, Self

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from pydantic import BaseModel, ConfigDict, model_validator

from langchain_sgd.skeleton import Node, NodeId

PLAIN_WORD = "PLAIN"
"""The planner's whole output when the question is better answered undivided."""

_PLANNER = """

---
Do not answer yet. Plan the answer to the question above, so that several writers can write its parts at \
the same time.

Write one line for each part, in the order of the answer, and nothing else:
number|heading|scope|needed|difficulty

- heading: 1 to 6 words. It appears in the answer, so use the language of the question.
- scope: what this part covers and what it leaves to the others. Together the parts answer the whole \
question; no two say the same thing.
- needed: numbers of the earlier parts whose text the writer must have read, such as 1,3, or - for none. \
A part needs another only if it uses something decided or worked out there: a name, a number, a choice, a \
definition. Most parts need none; the fewer, the sooner the answer is ready.
- difficulty: from 1 (common knowledge, short) to 5 (careful reasoning, many facts to bring together).
- As few parts as the question asks for, mostly 3 to 6, at most {max_nodes}. Write | only between fields.

If the answer is short, is one chain of steps, is a story, a poem or code, or would suffer from being \
written in parts, write only the word PLAIN.

Examples, for other questions:

Question: Compare trains and planes for a family trip from Paris to Rome, and recommend one.
1|Travel by train|route, duration, comfort with children; no prices|-|2
2|Travel by plane|airports, duration, comfort with children; no prices|-|2
3|Costs|fares, luggage and transfers of both for four people|-|3
4|Recommendation|weighs what parts 1 to 3 found and recommends one; repeats no details|1,2,3|4

Question: What is the capital of France?
PLAIN

Question: Invent a small board game and write its rules, a sample turn and a blurb for the box.
1|Rules|theme, name, pieces, aim and complete rules|-|4
2|Sample turn|one turn played by two people under exactly these rules|1|3
3|Blurb|40 words for the box that use the name and theme|1|2

The examples end here. Now write the plan, or PLAIN, for the question above the line ---.
"""

_REPAIR = """
Your last plan could not be used: {problem}
Write it again in the form shown: one line for each part, or only the word PLAIN.
"""

_RESUME = """
The plan was begun and not finished. It begins with these lines:
{lines}
Write it again from its first line on, these lines word for word, and then those that are missing.
"""

_OUTLINE = """

---
The answer is written in parts by several writers at the same time. The parts, as far as planned:"""

_LINE = "\n{id}. {heading}: {scope}"

_DEPENDENCIES = "\n\nThese parts are already written, and yours must agree with them:"

_DEPENDENCY = "\n\n## {heading}\n\n{answer}"

_NODE = """

---
Write part {id}, "{heading}", and nothing else. It covers: {scope}
Leave everything else to the other parts, and make yours as long as it deserves in the whole answer. Write \
the text only: no heading, no introduction, no remark about the other parts or the writers."""

_FUSE = """Give your answer above in the required form. Keep everything it says; leave out what has no place \
in the form, and add nothing."""

_FIELDS = {
    "planner": {"max_nodes"},
    "repair": {"problem"},
    "resume": {"lines"},
    "outline": set[str](),
    "line": {"id", "heading", "scope", "dependencies", "difficulty"},
    "dependencies": set[str](),
    "dependency": {"id", "heading", "answer"},
    "node": {"id", "heading", "scope", "difficulty"},
    "fuse": set[str](),
}


_NUMBERS = {"max_nodes", "difficulty"}


class Prompts(BaseModel):
    """Templates in `str.format` syntax; write `{{` for a brace.

    Raises:
        pydantic.ValidationError: A template names a field that it is not given, or is no format string.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    planner: str = _PLANNER
    """After the question, to ask for a skeleton. Field: `max_nodes`."""
    repair: str = _REPAIR
    """After the planner's prompt when its first plan was unusable. Field: `problem`."""
    resume: str = _RESUME
    """After the planner's prompt when an interrupted run goes on. Field: `lines`."""
    outline: str = _OUTLINE
    """After the question in every node's prompt, before the nodes planned so far. No field."""
    line: str = _LINE
    """One planned node. Fields: `id`, `heading`, `scope`, `dependencies`, `difficulty`."""
    dependencies: str = _DEPENDENCIES
    """Before the dependency answers; left out if there are none. No field."""
    dependency: str = _DEPENDENCY
    """One dependency answer. Fields: `id`, `heading`, `answer`."""
    node: str = _NODE
    """The node's own part, last. Fields: `id`, `heading`, `scope`, `difficulty`."""
    fuse: str = _FUSE
    """After the finished answer, where it is to be put into a schema's form. No field."""

    @model_validator(mode="after")
    def _known_fields_only(self) -> Self:
        for name, known in _FIELDS.items():
            template = getattr(self, name)
            try:
                parsed = list(string.Formatter().parse(template))
                unknown = {f for _, f, _, _ in parsed if f is not None} - known
                if not unknown:
                    template.format(**{f: 1 if f in _NUMBERS else "" for f in known})
            except (ValueError, LookupError) as error:
                msg = f"the {name!r} template is not a format string: {error}"
                raise ValueError(msg) from None
            if unknown:
                msg = (
                    f"the {name!r} template names {', '.join(sorted(map(repr, unknown)))};"
                    f" it is given {', '.join(sorted(known)) or 'no field'} (write {{{{ for a brace)"
                )
                raise ValueError(msg)
        return self

    def for_planner(
        self,
        conversation: Sequence[BaseMessage],
        *,
        max_nodes: int,
        problem: str | None = None,
        begun: Sequence[Node] = (),
    ) -> list[BaseMessage]:
        """What the planner is asked.

        Args:
            conversation: System prompt, history and question.
            max_nodes: Most parts.
            problem: Why its first plan was unusable.
            begun: What an interrupted planner had written already.
        """
        text = self.planner.format(max_nodes=max_nodes)
        if begun:
            text += self.resume.format(lines="\n".join(map(wire_line, begun)))
        if problem is not None:
            text += self.repair.format(problem=problem)
        return extended(conversation, text)

    def line_of(self, node: Node) -> str:
        """A planned node as all later nodes see it."""
        return self.line.format(
            id=node.id,
            heading=node.heading,
            scope=node.scope,
            dependencies=",".join(node.dependencies) or "-",
            difficulty=node.difficulty,
        )

    def for_node(
        self,
        conversation: Sequence[BaseMessage],
        node: Node,
        *,
        planned: Sequence[Node],
        answers: Mapping[NodeId, str],
        lines: Sequence[str] | None = None,
    ) -> list[BaseMessage]:
        """What the model that decodes `node` is asked.

        Args:
            conversation: System prompt, history and question, as the user gave them.
            node: The node to decode.
            planned: The skeleton up to and including `node`.
            answers: The texts of the node's dependencies by id.
            lines: `line_of` of every planned node, if it is at hand.
        """
        parts = [self.outline.format(), *(lines or map(self.line_of, planned))]
        if answers:
            needed = [n for n in planned if n.id in answers]
            parts.append(self.dependencies.format())
            parts += [
                self.dependency.format(id=n.id, heading=n.heading, answer=answers[n.id])
                for n in needed
            ]
        parts.append(
            self.node.format(
                id=node.id,
                heading=node.heading,
                scope=node.scope or node.heading,
                difficulty=node.difficulty,
            )
        )
        return extended(conversation, "".join(parts))

    def for_fusing(self, conversation: Sequence[BaseMessage], answer: str) -> list[BaseMessage]:
        """What the large model is asked when the answer is to be put into a schema's form."""
        return [*conversation, AIMessage(answer), HumanMessage(self.fuse.format())]


def wire_line(node: Node) -> str:
    """A node as the planner writes it."""
    needed = ",".join(node.dependencies) or "-"
    return f"{node.id}|{node.heading}|{node.scope}|{needed}|{node.difficulty}"


def extended(conversation: Sequence[BaseMessage], text: str) -> list[BaseMessage]:
    """The conversation with `text` after its last human message, or as one if another role ends it."""
    *before, last = conversation
    if not isinstance(last, HumanMessage):
        return [*conversation, HumanMessage(text.lstrip("\n"))]
    content: str | list[Any] = last.content
    if isinstance(content, str):
        content += text
    else:
        content = [*content, {"type": "text", "text": text}]
    return [*before, last.model_copy(update={"content": content})]
