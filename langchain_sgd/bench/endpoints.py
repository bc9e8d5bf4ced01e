"""All methods on your own servers and your own questions: plain decoding, Skeleton-of-Thought, SGD.

    langchain-sgd bench endpoints --small MODEL --large MODEL --questions FILE.jsonl --users 1 8

Questions are JSON lines with `question`, `prompt`, `text`, or `turns` as Vicuna-80 and MT-bench have them;
`category` and `question_id` (or `prompt_id`, `id`) are taken where they are. The order of the methods is
shuffled for each question; with several users it is shuffled for each block of questions, and a method
has the server for itself while its block runs. With `--resume` a killed run goes on where it stopped, and
the answers stay in that file, for `langchain-sgd judge` to compare. With `--prices large=3,15 small=0.5,1.5`
the tables say what the answers cost, beside plain ones, by the tokens that the servers counted.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.runnables import Runnable

from langchain_sgd.argument_types import Named, count, existing_file, new_file, number
from langchain_sgd.baselines import PlainDecoding, SkeletonOfThought
from langchain_sgd.bench import _costs
from langchain_sgd.bench import _endpoints_page as results
from langchain_sgd.bench._measure import Journal, Method, Question, ask, progress, seed_of, shuffled
from langchain_sgd.bench._output import command_of, parser, save
from langchain_sgd.commands.models import add_models, models_of, names_of
from langchain_sgd.errors import InvalidInputError
from langchain_sgd.files import Row, json_rows
from langchain_sgd.judging.pairs import in_turns
from langchain_sgd.runnable import SGDRunnable
from langchain_sgd.streams import all_of

PLAIN, PLAIN_SMALL, SOT = "plain large", "plain small", "Skeleton-of-Thought"
SGD, ADAPTIVE = "SGD large", "SGD adaptive"
PLANNED, SUPERSTEPS = "SGD, plan first", "SGD, supersteps"
TOLD = "SGD, writers told"

_TEXTS: Final = ("turns", "question", "prompt", "text")
_IDS: Final = ("question_id", "prompt_id", "id")
"""The names of a question's fields, the first that a line has counts."""

_BLOCK: Final = 4
"""Questions in a block for each user: long enough that all users are at work most of the time."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A question with all its turns."""

    question: Question
    turns: tuple[str, ...]
    split: object = None
    """Whether it should be split, as the file says it, if it does."""


def read_questions(path: Path, *, limit: int | None = None, turns: int = 1) -> list[Asked]:
    """Read a file of JSON lines.

    Args:
        path: The file.
        limit: Most questions taken, evenly from all categories; all if not given.
        turns: Most turns taken of a question.

    Raises:
        InvalidInputError: A line is no JSON object with a question, or an id stands twice.
    """
    found: dict[str, Asked] = {}
    for line, row in json_rows(path):
        where = f"{path}, line {line}"
        asked = _asked(row, where, line, turns)
        if asked.question.id in found:
            msg = f"{where}: the question_id {asked.question.id!r} stands twice"
            raise InvalidInputError(msg)
        found[asked.question.id] = asked
    if not found:
        msg = f"{path} holds no question"
        raise InvalidInputError(msg)
    return in_turns(list(found.values()), lambda asked: asked.question.category, limit)


def _asked(row: Row, where: str, line: int, turns: int) -> Asked:
    texts = _first(row, _TEXTS)
    if isinstance(texts, str):
        texts = [texts]
    if not isinstance(texts, list) or not all(isinstance(t, str) and t.strip() for t in texts):
        msg = f'{where}: give "question", a text, or "turns", a list of texts'
        raise InvalidInputError(msg)
    name = _first(row, _IDS)
    question = Question(
        str(line if name is None else name), texts[0], str(row.get("category") or "all")
    )
    return Asked(question, tuple(texts[:turns]), split=row.get("split"))


def _first(value: Mapping[str, Any], names: Sequence[str]) -> Any:
    """The first of these fields that says anything; None if none does."""
    return next((v for name in names if (v := value.get(name)) not in (None, "", [])), None)


def methods_on(models: Mapping[str, Runnable[Any, Any]], *, ablations: bool) -> list[Method]:
    """The methods that these models allow.

    Args:
        models: `large`, and perhaps `small` and `planner`.
        ablations: Whether SGD is measured without pipelining, in supersteps, and with writers that are told
            about their part wherever they are, too.
    """
    large, small = models["large"], models.get("small")
    planned = {"planner": models["planner"]} if "planner" in models else {}

    def sgd(kind: type[SGDRunnable], **options: Any) -> Any:
        return lambda _, seed: kind(**{"large": large, "seed": seed, **options})

    found = [Method(PLAIN, sgd(PlainDecoding))]
    if small is not None:
        found.append(Method(PLAIN_SMALL, sgd(PlainDecoding, large=small)))
    found += [
        Method(SOT, sgd(SkeletonOfThought, **planned)),
        Method(SGD, sgd(SGDRunnable, **planned)),
    ]
    if small is not None:
        found.append(Method(ADAPTIVE, sgd(SGDRunnable, small=small, **planned)))
    if ablations:
        found += [
            Method(PLANNED, sgd(SGDRunnable, execution="planned", **planned)),
            Method(SUPERSTEPS, sgd(SGDRunnable, execution="superstep", **planned)),
            Method(TOLD, sgd(SGDRunnable, continue_message=False, **planned)),
        ]
    return found


# -- the bench


async def run(
    methods: Sequence[Method],
    questions: Sequence[Asked],
    journal: Journal,
    *,
    users: Sequence[int],
    seed: int,
) -> None:
    """Ask every question with every method at every number of users; measured rows are kept.

    Raises:
        SystemExit: A method cannot answer at all.
        InvalidInputError: The journal has another question under the id of one of these.
        OSError: A row cannot be written.
    """
    texts = {
        (asked.question.id, str(turn)): text
        for asked in questions
        for turn, text in enumerate(asked.turns, 1)
    }
    journal.check_questions(lambda row: texts.get((row["key"][1], row["key"][2])))
    blocks = [
        block
        for count in users
        for block in _blocks(methods, questions, count, seed)
        if any(not journal.has(*key) for key in block.keys)
    ]
    if not blocks:
        return
    for method in methods:
        first = questions[0].question
        warm = await ask(method.build(first, seed), first.text)
        if warm["error"]:
            msg = f"{method.name} cannot answer: {warm['error']}"
            raise SystemExit(msg)
    with progress() as bar:
        task = bar.add_task("asking", total=sum(len(block.questions) for block in blocks))
        for block in blocks:
            left = iter(block.questions)

            async def user(_: int, block: _Block = block, left: Iterator[Asked] = left) -> None:
                for asked in left:
                    await _answer(block, asked, journal, seed)
                    bar.advance(task)

            await all_of(user, block.users, return_exceptions=False)


@dataclass(frozen=True, slots=True)
class _Block:
    """Questions that one method answers while it has the server for itself."""

    name: str
    method: Method
    users: int
    questions: Sequence[Asked]

    @property
    def keys(self) -> list[tuple[str, ...]]:
        return [self.key(a, turn) for a in self.questions for turn in range(len(a.turns))]

    def key(self, asked: Asked, turn: int) -> tuple[str, ...]:
        return self.method.name, asked.question.id, str(turn + 1), str(self.users)


def _blocks(
    methods: Sequence[Method], questions: Sequence[Asked], users: int, seed: int
) -> Iterator[_Block]:
    size = 1 if users == 1 else _BLOCK * users
    for start in range(0, len(questions), size):
        chosen = questions[start : start + size]
        name = f"{users} users, from {chosen[0].question.id}"
        for method in shuffled(methods, name, seed):
            yield _Block(f"{method.name}, {name}", method, users, chosen)


async def _answer(block: _Block, asked: Asked, journal: Journal, seed: int) -> None:
    """All turns of a question; what a method said before stands in its history.

    Behind a turn that failed none is asked, and behind one that is asked again all are.
    """
    question = asked.question
    is_new = False
    said: list[BaseMessage] = []
    for turn, text in enumerate(asked.turns):
        said.append(HumanMessage(text))
        key = block.key(asked, turn)
        row = journal.row(*key)
        if is_new or row is None or row["error"] is not None:
            is_new = True
            runnable = block.method.build(question, seed_of(f"{question.id}/{turn}", seed))
            began = time.time()
            measured: Row = await ask(runnable, list(said))
            row = {
                "method": block.method.name,
                "question_id": question.id if turn == 0 else f"{question.id}/{turn + 1}",
                "category": question.category,
                "question": text,
                "turn": turn + 1,
                "users": block.users,
                "block": block.name,
                "began": began,
                **measured,
            }
            journal.add(row, *key)
        if row["error"] is not None:
            return
        said.append(AIMessage(row["answer"]))


def main(argv: Sequence[str] | None = None) -> None:
    """Print and save the figures.

    Raises:
        SystemExit: For wrong options (2), or a method cannot answer at all.
        InvalidInputError: The questions, or the rows to go on from, cannot be used.
        OSError: A file cannot be read or written.
    """
    options = parser("endpoints", __doc__ or "")
    options.formatter_class = argparse.RawDescriptionHelpFormatter
    add_models(
        options,
        large="needed, here or in SGD_LARGE",
        small="default: none",
        planner="default: the large model",
    )
    options.add_argument(
        "--questions", type=existing_file, required=True, metavar="FILE", help="JSON lines"
    )
    options.add_argument(
        "--limit", type=count(1), metavar="N", help="questions, from all categories"
    )
    options.add_argument("--turns", type=count(1), default=1, help="of each question; default 1")
    options.add_argument("--users", type=count(1), nargs="+", default=[1], help="at the same time")
    options.add_argument("--methods", nargs="+", metavar="NAME", help="only these; default all")
    options.add_argument("--ablations", action="store_true", help="SGD without its parts, too")
    options.add_argument("--temperature", type=number, help="the server's own if not given")
    options.add_argument("--max-tokens", type=count(1), help="of one model call")
    options.add_argument(
        "--prices",
        type=_costs.named_price,
        nargs="+",
        action=Named,
        default={},
        metavar="TIER=NUMBERS",
        help="of a million tokens: input,output[,cached[,cache_write]]",
    )
    options.add_argument("--seed", type=count(0), default=1)
    options.add_argument("--html", type=new_file, metavar="FILE", help="write a page with plots")
    options.add_argument(
        "--resume", type=new_file, metavar="FILE", help="JSONL of rows to go on from"
    )
    args = options.parse_args(argv)
    names = names_of(args)
    if not names:
        options.error("--large, or the environment variable SGD_LARGE, must name a model")
    args.users = list(dict.fromkeys(args.users))
    if args.prices and (wrong := _costs.complaint(args.prices, names)):
        options.error(f"--prices: {wrong}")
    questions = read_questions(args.questions, limit=args.limit, turns=args.turns)
    found, reports = asyncio.run(_measure(args, names, questions))
    results.show_figures(found)
    save(args.json, "endpoints", argv, found)
    if args.html:
        args.html.write_text(
            results.endpoints_page(found, reports, command_of("endpoints", argv)), encoding="utf-8"
        )


async def _measure(
    args: argparse.Namespace, names: Mapping[str, str], questions: Sequence[Asked]
) -> tuple[dict[str, Any], dict[str, Any]]:
    sampling = {"temperature": args.temperature, "max_tokens": args.max_tokens}
    given = {name: value for name, value in sampling.items() if value is not None}
    models = models_of(args, names, **given)
    methods = methods_on(models, ablations=args.ablations)
    if args.methods:
        known = [method.name for method in methods]
        if unknown := sorted(set(args.methods) - set(known)):
            msg = f"unknown methods {unknown}; there are {known}"
            raise InvalidInputError(msg)
        methods = [method for method in methods if method.name in args.methods]
    options = {"urls": dict(names), **sampling, "seed": args.seed}
    journal = Journal(args.resume, options)
    await run(methods, questions, journal, users=args.users, seed=args.seed)
    wanted = {
        (method.name, asked.question.id, str(turn), str(users))
        for method in methods
        for asked in questions
        for turn in range(1, len(asked.turns) + 1)
        for users in args.users
    }
    # There, the small model answers as the large one of a run of its own.
    alone = {PLAIN_SMALL: {"large": args.prices["small"]}} if "small" in args.prices else {}
    rows = [
        _costs.with_cost(row, alone.get(row["method"], args.prices))
        for row in journal.rows()
        if tuple(row["key"]) in wanted
    ]
    return results.summary(rows, options, names_in_order=[method.name for method in methods])


if __name__ == "__main__":
    main()
