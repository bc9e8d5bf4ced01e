"""Every word the package says to a model, in one value that users can replace.

The paper's prompts are not public; these are our own. What is fixed here, whatever the templates say, is
the *order* of a node's prompt: system prompt, what every writer is told and shown, history and question, byte
for byte as given, the nodes planned so far, the answers of the dependencies in skeleton order, the node's own
part last. Nodes thus share a prefix, which servers with a prefix cache compute once (Plato, arXiv
2402.12280v2); what stands before a short question is the same for all questions, so that it is shared
even where a prompt is cached only when its request has ended. A begun answer (`for_begun_node`) has none of
that: conversation, parts, dependencies' answers, and a last message of the model's own. For the planner's
order see `Prompts`.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, Final, Self

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from pydantic import BaseModel, ConfigDict, model_validator

from langchain_sgd import prompt_texts as texts
from langchain_sgd.conversation import extended, leading_systems, wrapped
from langchain_sgd.prompt_pieces import PartExample, fence_for, fields_of
from langchain_sgd.skeleton import DEFAULT_DIFFICULTY, HARD, Node, NodeId
from langchain_sgd.wire import PLAIN_WORD, Form, as_json, line_of

_RULE: Final = "\n\n---\n"
"""Between a conversation and what is said to a writer."""
_MARK: Final = "\0"
"""Where the question stands in a template; no prompt holds it."""


class Prompts(BaseModel):
    """Templates in `str.format` syntax; write `{{` for a brace.

    The planner's instructions and examples stand before a short conversation, as turns of their own: they
    are the same for every question, so that a server computes them once. Behind a conversation that is
    longer than they are, they are said after it: then the conversation is what planner and nodes share.

    Raises:
        pydantic.ValidationError: A template names a field that it is not given, or is no format string.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    planner: str = texts.PLANNER
    """How a skeleton is written. Fields: `max_nodes`; `lines` and `plain`, the form in words."""
    examples: tuple[tuple[str, str], ...] = texts.EXAMPLES
    """Questions and their plans as lines, or `PLAIN`. None: the planner is told after the conversation."""
    ask: str = texts.ASK
    """One question, of an example or the user's own, where the examples stand first. Field: `question`."""
    after: str = texts.AFTER
    """After a long conversation, to ask for a skeleton. Fields: `instructions`, `examples`."""
    example: str = texts.EXAMPLE
    """One of the examples in `after`. Fields: `question`, `plan`."""
    repair: str = texts.REPAIR
    """After the planner's prompt when its first plan was unusable. Field: `problem`."""
    resume: str = texts.RESUME
    """After the planner's prompt when an interrupted run goes on. Field: `lines`."""
    writer: str = texts.WRITER
    """What every writer is told: first of all where the examples stand first, else after the conversation. No
    field."""
    writer_examples: tuple[PartExample, ...] = tuple(
        PartExample(question=question, headings=headings, part=part, length=length, text=text)
        for question, headings, part, length, text in texts.WRITER_EXAMPLES
    )
    """Parts that every writer is shown, as turns before a short conversation. With a `writer` or `node` of
    your own there are none unless you give them: the package's would contradict yours."""
    writer_example: str = texts.WRITER_EXAMPLE
    """One of them, where the conversation is long. Fields: `question`, `heading`, `length`, `text`."""
    outline: str = texts.OUTLINE
    """After the question in every node's prompt, before the nodes planned so far. No field."""
    line: str = texts.LINE
    """One planned node. Fields: `id`, `heading`, `scope`, `dependencies`, `difficulty`."""
    dependencies: str = texts.DEPENDENCIES
    """Before the dependency answers; left out if there are none. No field."""
    dependency: str = texts.DEPENDENCY
    """One dependency answer. Fields: `id`, `heading`, `answer`, `fence`: a line that no answer holds."""
    node: str = texts.NODE
    """The node's own part, last. Fields: `id`, `heading`, `scope`, `difficulty`, `length`."""
    expand: str = texts.EXPAND
    """In place of `node`, where the part is planned and written in parts itself. Fields as in `node`."""
    points: str = texts.POINTS
    """After the question, before all parts as far as planned, where a writer goes on with a begun answer.
    Field: `length`, of the writer's own part."""
    begun: str = texts.BEGUN
    """How that answer begins: with the part's heading. Fields: `id`, `heading`, `scope`. Empty: every writer
    is told about its part, as it is with a `writer` or `node` of your own and no `begun`."""
    fuse: str = texts.FUSE
    """After the finished answer, where it is to be put into a schema's form. No field."""
    findings: str = texts.FINDINGS
    """After an agent's question, before what its tools have found. No field."""
    finding: str = texts.FINDING
    """What one tool has found. Fields: `name`, `text`, `fence`: a line that no finding holds."""
    grammar: str | None = None
    """A regular expression for plans in a form of your own, beside a `read_line`; None: the package's."""

    @model_validator(mode="before")
    @classmethod
    def _no_examples_of_another_style(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.keys() & {"writer", "node"}:
            return {"writer_examples": (), "begun": "", **given}
        return given

    @model_validator(mode="after")
    def _known_fields_only(self) -> Self:
        for name, known in texts.FIELDS.items():
            template = getattr(self, name)
            try:
                unknown = fields_of(template) - known
                if not unknown:
                    template.format(**{f: 1 if f in texts.NUMBERS else "" for f in known})
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

    @property
    def tells_length(self) -> bool:
        """Whether a writer is told how long its part is to be; otherwise it is not held to it."""
        return "length" in fields_of(self.node)

    @property
    def for_questions(self) -> Self:
        """`for_node` then makes a part a question of its own, whose writers are told what they are anew."""
        own = {"node": self.expand, "writer": "", "writer_examples": (), "begun": ""}
        return self.model_copy(update=own)

    def for_planner(
        self,
        conversation: Sequence[BaseMessage],
        *,
        max_nodes: int,
        form: Form = "lines",
        problem: str | None = None,
        begun: Sequence[Node] = (),
    ) -> list[BaseMessage]:
        """What the planner is asked.

        Args:
            conversation: System prompt, history and question, as the user gave them.
            max_nodes: Most parts that the plan may have.
            form: How the planner is to write; the same as its grammar's.
            problem: Why its first plan was unusable.
            begun: What an interrupted planner had written already.
        """
        spell = as_json if form == "json" else str
        instructions = self.planner.format(
            max_nodes=max_nodes, lines=texts.LINES[form], plain=spell(PLAIN_WORD)
        )
        examples = [(question, spell(plan)) for question, plan in self.examples]
        repair = "" if problem is None else self.repair.format(problem=problem)
        if begun:
            lines = "\n".join(
                line_of(number, n.heading, n.dependencies, hard=n.difficulty >= HARD)
                for number, n in enumerate(begun, 1)
            )
            repair = self.resume.format(lines=lines) + repair
        if not self._examples_first(conversation, instructions, examples):
            shown = "".join(self.example.format(question=q, plan=p) for q, p in examples)
            text = self.after.format(instructions=instructions, examples=shown)
            return extended(conversation, text + repair)
        turns: list[BaseMessage] = []
        for question, plan in examples:
            asked = self.ask.format(question=question)
            turns += [
                HumanMessage(asked if turns else f"{instructions}\n\n{asked}"),
                AIMessage(plan),
            ]
        systems = leading_systems(conversation)
        *history, last = conversation[systems:]
        head, _, tail = self.ask.format(question=_MARK).partition(_MARK)
        return [*conversation[:systems], *turns, *history, *wrapped(last, head, tail + repair)]

    def _examples_first(
        self,
        conversation: Sequence[BaseMessage],
        instructions: str,
        examples: Sequence[tuple[str, str]],
    ) -> bool:
        """Whether the conversation is the shorter one of what is computed anew for each question."""
        if not examples or not any(not isinstance(m, SystemMessage) for m in conversation):
            return False
        static = len(instructions) + _length_of(tuple(examples))
        return sum(len(message.text) for message in conversation) <= static

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
        length: str = "",
    ) -> list[BaseMessage]:
        """What the model that decodes `node` is asked.

        Args:
            conversation: System prompt, history and question, as the user gave them.
            node: The node to decode.
            planned: The skeleton as far as it is planned, `node` and later ones included.
            answers: The texts of the node's dependencies by id.
            lines: `line_of` of every planned node, if it is at hand.
            length: How long the part is to be, in words for the writer.
        """
        parts = [self.outline.format(), *(lines or map(self.line_of, planned))]
        parts += self._written(planned, answers)
        scope = f" ({node.scope})" if node.scope else ""
        parts.append(
            self.node.format(
                id=node.id,
                heading=node.heading,
                scope=scope,
                difficulty=node.difficulty,
                length=length or "one paragraph",
            )
        )
        told, text = self.writer.format(), "".join(parts)
        systems = leading_systems(conversation)
        history = conversation[systems:-1]
        # The same order as the planner's, so that it computes what the writers share, and they what it does.
        if self._examples_first(conversation, self.planner, self.examples) and (
            self.writer_examples or not history
        ):
            head = f"{told}\n\n" if told else ""
            turns: list[BaseMessage] = []
            for asked, written in _examples_of(self):
                turns += [HumanMessage(f"{head}{asked}"), AIMessage(written)]
                head = ""
            own = wrapped(conversation[-1], head, text)
            return [*conversation[:systems], *turns, *history, *own]
        shown = "".join(map(self._shown, self.writer_examples))
        rule = f"{_RULE}{told}{shown}" if told or shown else ""
        return extended(conversation, rule + text)

    def for_begun_node(
        self,
        conversation: Sequence[BaseMessage],
        node: Node,
        *,
        planned: Sequence[Node],
        answers: Mapping[NodeId, str],
        lines: Sequence[str] | None = None,
        length: str = "",
    ) -> list[BaseMessage]:
        """What a model is given that goes on with a last message of its own; arguments as in `for_node`.

        Small models write better so. To them it is their answer to the question, at the point where the
        part begins, and no task that somebody sets.
        """
        points = self.points.format(length=length or "one paragraph")
        outline = [points, *(lines or map(self.line_of, planned))]
        text = "".join([*outline, *self._written(planned, answers)])
        scope = f" ({node.scope})" if node.scope else ""
        begun = self.begun.format(id=node.id, heading=node.heading, scope=scope)
        return [*extended(conversation, text), AIMessage(begun)]

    def _written(self, planned: Sequence[Node], answers: Mapping[NodeId, str]) -> list[str]:
        """The texts of a node's dependencies, in skeleton order."""
        if not answers:
            return []
        fence = fence_for(answers.values())
        return [
            self.dependencies.format(),
            *(
                self.dependency.format(
                    id=n.id, heading=n.heading, answer=answers[n.id], fence=fence
                )
                for n in planned
                if n.id in answers
            ),
        ]

    def asked_for(self, example: PartExample) -> str:
        """What the writer of an example was asked, as any writer is."""
        nodes = [
            Node(id=NodeId(str(number)), heading=heading, difficulty=DEFAULT_DIFFICULTY)
            for number, heading in enumerate(example.headings, 1)
        ]
        node = nodes[example.part - 1]
        asked = self.node.format(
            id=node.id,
            heading=node.heading,
            scope="",
            difficulty=node.difficulty,
            length=example.length,
        )
        outline = "".join([self.outline.format(), *map(self.line_of, nodes)])
        return f"{example.question}{outline}{asked}"

    def _shown(self, example: PartExample) -> str:
        """An example in words, after a long conversation."""
        return self.writer_example.format(
            question=example.question,
            heading=example.headings[example.part - 1],
            length=example.length,
            text=example.text,
        )

    def for_fusing(self, conversation: Sequence[BaseMessage], answer: str) -> list[BaseMessage]:
        """What the large model is asked when the answer is to be put into a schema's form."""
        return [*conversation, AIMessage(answer), HumanMessage(self.fuse.format())]

    def with_findings(
        self, conversation: Sequence[BaseMessage], findings: Sequence[tuple[str, str]]
    ) -> list[BaseMessage]:
        """An agent's question with what its tools have found, each by its name."""
        if not findings:
            return list(conversation)
        fence = fence_for(text for _, text in findings)
        found = [self.finding.format(name=n, text=t, fence=fence) for n, t in findings]
        return extended(conversation, "".join([self.findings.format(), *found]))

    def asked_in(self, conversation: Sequence[BaseMessage]) -> str:
        """What a human said last, without what `with_findings` has put behind it."""
        said = [str(m.text) for m in conversation if isinstance(m, HumanMessage)]
        last, mark = said[-1] if said else "", self.findings.format().strip()
        return last.partition(mark)[0].rstrip() if mark else last


@functools.lru_cache(maxsize=64)
def _length_of(examples: Sequence[tuple[str, str]]) -> int:
    return sum(len(question) + len(plan) for question, plan in examples)


@functools.lru_cache(maxsize=64)
def _examples_of(prompts: Prompts) -> Sequence[tuple[str, str]]:
    """What the writers of the examples were asked, and what they wrote; the same for every part."""
    return tuple((prompts.asked_for(each), each.text) for each in prompts.writer_examples)
