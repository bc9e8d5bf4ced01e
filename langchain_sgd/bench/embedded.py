"""All methods on one local server: plain decoding, Skeleton-of-Thought, SGD, and SGD without its parts.

The bundled models answer held-out questions, and a checker by grammar says what is right. With
`--model-size 60m` a larger model of random weights writes texts of fixed lengths instead, on skeletons
of the same questions: nothing to check, but decoding is bound by memory there, as it is for real models.

The order of the methods is shuffled for each question, the prefix caches are emptied before each run,
and all methods share a question's seed. The server is a process of its own, and its engine counts steps
and tokens. With `--resume` a killed run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import hashlib
import itertools
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, cast, get_args

from langchain_core.messages import AIMessageChunk
from langchain_core.runnables import RunnableConfig

from langchain_sgd.argument_types import count, existing_path, new_file, number
from langchain_sgd.baselines import PlainDecoding, SkeletonOfThought
from langchain_sgd.bench import _embedded_figures as figures
from langchain_sgd.bench._embedded_figures import (
    ADAPTIVE,
    BRIEF,
    NODE_FIRST,
    OPENED,
    PLAIN,
    PLAIN_SMALL,
    PLANNED,
    SGD,
    SHORT,
    SOT,
    SUPERSTEPS,
    WITHHELD,
)
from langchain_sgd.bench._embedded_page import embedded_page, embedded_picture
from langchain_sgd.bench._measure import Journal, Method, Question, ask, progress, seed_of, shuffled
from langchain_sgd.bench._output import command_of, parser, save
from langchain_sgd.bench._prompts import AnswersWithheld, NodeFirst
from langchain_sgd.bench._random_model import Kind, cached_model
from langchain_sgd.bench._sequential import sequential_tokens
from langchain_sgd.bench.models import StreamOnly, lines_of
from langchain_sgd.bundled import BRIEFS_PROMPTS
from langchain_sgd.embedded.briefs import domain
from langchain_sgd.embedded.load import EngineName, choose
from langchain_sgd.embedded.process import Served, served
from langchain_sgd.embedded.server import bundled_models
from langchain_sgd.errors import InvalidInputError
from langchain_sgd.files import Row
from langchain_sgd.report import Report
from langchain_sgd.runnable import SGDRunnable
from langchain_sgd.skeleton import Skeleton
from langchain_sgd.tgi import ChatTGI
from langchain_sgd.wire import PLAIN_WORD

_ON_SHORT: Final = frozenset({PLAIN, SGD, ADAPTIVE, OPENED, SOT})
_WARM_UP: Final = 2
_STREAMS: Final = (1, 2, 4, 8)
_CONTEXT: Final = 1024
_FIXED_CONTEXT: Final = 2048


def bundled_methods(
    urls: Mapping[str, str], temperature: float, *, constrain: bool = True
) -> list[Method]:
    """The methods on the bundled models; `constrain` as in `SGDRunnable`."""
    sampling: dict[str, Any] = {"temperature": temperature}
    large, small = (ChatTGI(base_url=urls[name], **sampling) for name in ("large", "small"))

    def sgd(**options: Any) -> Callable[[Question, int], SGDRunnable]:
        common = {"prompts": BRIEFS_PROMPTS, "constrain": constrain, "opening": False}
        base = {"large": large, **common, **options}
        return lambda _, seed: SGDRunnable(**base, seed=seed)

    return [
        Method(PLAIN, lambda _, seed: PlainDecoding(large=large, seed=seed)),
        Method(PLAIN_SMALL, lambda _, seed: PlainDecoding(large=small, seed=seed)),
        Method(
            SOT,
            lambda _, seed: SkeletonOfThought(
                large=large, prompts=BRIEFS_PROMPTS, mode="auto", seed=seed
            ),
        ),
        Method(SGD, sgd()),
        Method(ADAPTIVE, sgd(small=small)),
        Method(OPENED, sgd(opening=True)),
        Method(PLANNED, sgd(execution="planned")),
        Method(SUPERSTEPS, sgd(execution="superstep")),
        Method(WITHHELD, sgd(prompts=AnswersWithheld.of(BRIEFS_PROMPTS))),
        Method(NODE_FIRST, sgd(prompts=NodeFirst.of(BRIEFS_PROMPTS))),
    ]


def bundled_questions(briefs: int, shorts: int, seed: int) -> list[Question]:
    """Held-out questions that decompose, and some that do not."""
    long = itertools.islice(domain.briefs(seed, held_out=True), briefs)
    short = itertools.islice(domain.plains(seed, held_out=True), shorts)
    return [
        *(Question(f"{BRIEF} {i}", q.question, BRIEF) for i, q in enumerate(long, 1)),
        *(Question(f"{SHORT} {i}", q.question, SHORT) for i, q in enumerate(short, 1)),
    ]


# -- fixed lengths


@dataclass(eq=False)
class FixedLength(StreamOnly):
    """A model that never ends by itself, cut after so many tokens, as if it had ended there."""

    model: ChatTGI
    tokens: int

    async def astream(
        self, input: Any, config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[AIMessageChunk]:
        """Yield the model's chunks; the last one says that the text is complete."""
        stream = self.model.astream(input, config, max_tokens=self.tokens, **kwargs)
        async with aclosing(cast("AsyncGenerator[AIMessageChunk]", stream)) as chunks:
            async for chunk in chunks:
                if reason := chunk.response_metadata.get("finish_reason"):
                    metadata = {**chunk.response_metadata, "finish_reason": "stop"}
                    assert reason == "length", reason  # noqa: S101 - else lengths differ
                    yield chunk.model_copy(update={"response_metadata": metadata})
                else:
                    yield chunk


@dataclass(eq=False)
class DrivenPlanner(FixedLength):
    """Lets the model decode as many tokens as a plan takes, and gives a written plan for them.

    So the plan costs what it costs, on the same engine and at the same time as the nodes.
    """

    text: str
    """The plan."""

    async def astream(
        self, input: Any, config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[AIMessageChunk]:
        """Yield the text as the model's tokens come."""
        given = written = 0
        async with aclosing(super().astream(input, config, **kwargs)) as chunks:  # type: ignore[type-var]
            async for chunk in chunks:
                written += len(str(chunk.text).split())
                is_last = "finish_reason" in chunk.response_metadata
                end = len(self.text) * (self.tokens if is_last else written) // self.tokens
                yield chunk.model_copy(update={"content": self.text[given:end]})
                given = end


@dataclass(frozen=True, slots=True)
class Lengths:
    """How many tokens texts of fixed lengths have."""

    node: int
    """Of a part, and of an answer that has only one."""
    line: int
    """Of a line of the plan."""


_PLAIN_TOKENS: Final = 2
"""Of a planner's refusal to split: the word and the end of the text."""


FIXED_PROMPTS: Final = BRIEFS_PROMPTS.model_copy(
    update={"dependency": "\n\n## {heading}\n\n {answer}"}
)
"""With the blank that the random model's texts begin with, and that no answer keeps: so a prompt repeats
the tokens that were written, as it does for models that begin with a word."""


def fixed_methods(urls: Mapping[str, str], temperature: float, lengths: Lengths) -> list[Method]:
    """The methods on a model that writes texts of fixed lengths."""
    model = ChatTGI(base_url=urls["large"], temperature=temperature)
    node = FixedLength(model, lengths.node)

    def options(question: Question, seed: int) -> dict[str, Any]:
        if question.category == SHORT:
            tokens, text = _PLAIN_TOKENS, PLAIN_WORD
        else:
            skeleton = _skeleton(question)
            tokens, text = lengths.line * len(skeleton), "".join(lines_of(skeleton))
        return {
            "large": node,
            "planner": DrivenPlanner(model, tokens, text),
            "prompts": FIXED_PROMPTS,
            "opening": False,
            "seed": seed,
        }

    def plain(question: Question, seed: int) -> SGDRunnable:
        parts = 1 if question.category == SHORT else len(_skeleton(question))
        return PlainDecoding(large=FixedLength(model, lengths.node * parts), seed=seed)

    def sgd(**changed: Any) -> Callable[[Question, int], SGDRunnable]:
        return lambda question, seed: SGDRunnable(**{**options(question, seed), **changed})

    return [
        Method(PLAIN, plain),
        Method(
            SOT,
            lambda question, seed: SkeletonOfThought(**options(question, seed), mode="auto"),
        ),
        Method(SGD, sgd()),
        Method(OPENED, sgd(opening=True)),
        Method(PLANNED, sgd(execution="planned")),
        Method(SUPERSTEPS, sgd(execution="superstep")),
        Method(NODE_FIRST, sgd(prompts=NodeFirst.of(FIXED_PROMPTS))),
    ]


def _skeleton(question: Question) -> Skeleton:
    asked = domain.read_question(question.text)
    assert isinstance(asked, domain.Brief)  # noqa: S101 - the questions are our own
    return domain.skeleton(asked.order(random.Random(question.id)))


# -- the bench


async def run(
    server: Served,
    methods: Sequence[Method],
    questions: Sequence[Question],
    journal: Journal,
    *,
    seed: int,
) -> None:
    """Ask every question with every method; rows that the journal has are not measured again."""
    work = [
        (question, method)
        for question in questions
        for method in shuffled(methods, question.id, seed)
        if (question.category == BRIEF or method.name in _ON_SHORT)
        and not journal.has(method.name, question.id)
    ]
    if not work:
        return
    for _ in range(_WARM_UP):
        for method in methods:
            await ask(method.build(questions[0], seed), questions[0].text)
    with progress() as bar:
        task = bar.add_task("asking", total=len(work))
        for question, method in work:
            journal.add(await _measured(server, method, question, seed), method.name, question.id)
            bar.advance(task)


async def _measured(server: Served, method: Method, question: Question, seed: int) -> Row:
    runnable = method.build(question, seed_of(question.id, seed))
    await server.forget()
    gc.collect()
    before, cpu_s = await server.counts(), time.process_time()
    row = await ask(runnable, question.text)
    cpu_s, after = time.process_time() - cpu_s, await server.counts()
    spent = {name: after.models[name] - before.models[name] for name in after.models}
    return {
        "method": method.name,
        "question_id": question.id,
        "category": question.category,
        "question": question.text,
        **row,
        "steps": sum(counts.steps for counts in spent.values()),
        "path_tokens": row["report"]
        and sequential_tokens(
            Report.model_validate(row["report"]),
            planned_first=method.name in {PLANNED, SUPERSTEPS, SOT},
        ),
        "engines": {name: asdict(counts) for name, counts in spent.items()},
        "client_cpu_s": cpu_s,
        "server_cpu_s": after.cpu_s - before.cpu_s,
    }


async def step_times(server: Served, question: str, *, tokens: int) -> list[dict[str, float]]:
    """What a decode step of the large model takes, by how many streams it serves."""
    model = ChatTGI(base_url=server.urls["large"], temperature=1.0, max_tokens=tokens)

    async def stream(seed: int) -> None:
        async for _ in model.astream(question, seed=seed):
            pass

    found = []
    for streams in _STREAMS:
        await stream(0)
        before, began = await server.counts(), time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for seed in range(streams):
                group.create_task(stream(seed + 1))
        wall_s = time.perf_counter() - began
        spent = (await server.counts()).models["large"] - before.models["large"]
        found.append(
            {
                "streams": streams,
                "tokens_per_step": spent.generated_tokens / spent.steps,
                "step_ms": spent.busy_s / spent.steps * 1000,
                "wall_per_step_ms": wall_s / spent.steps * 1000,
                "tokens_per_s": spent.generated_tokens / wall_s,
            }
        )
    return found


async def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Serve the models, ask the questions, sum up."""
    is_fixed = args.model_size == "60m"
    lengths = Lengths(args.node_tokens, args.line_tokens)
    files = {"large": cached_model(args.kind)} if is_fixed else _bundled(args.models)
    engine = choose(files["large"], args.engine)[0].name
    options: dict[str, Any] = {
        "engine": engine,
        "model_size": args.model_size,
        "temperature": args.temperature,
        "seed": args.seed,
        "slots": args.slots,
        "models": {name: file_digest(path) for name, path in files.items()},
    }
    if args.unconstrained:
        options["constrain"] = False
    if is_fixed:
        options |= {"node_tokens": lengths.node, "line_tokens": lengths.line}
    journal = Journal(args.resume, options)
    questions = bundled_questions(args.questions, args.short_questions, args.seed)
    context = _FIXED_CONTEXT if is_fixed else _CONTEXT
    async with served(files, engine=engine, slots=args.slots, context=context) as server:
        methods = (
            fixed_methods(server.urls, args.temperature, lengths)
            if is_fixed
            else bundled_methods(server.urls, args.temperature, constrain=not args.unconstrained)
        )
        methods = _chosen(methods, args.methods)
        await run(server, methods, questions, journal, seed=args.seed)
        steps = await step_times(server, questions[0].text, tokens=128)
    wanted = {question.id for question in questions}
    rows = [row for row in journal.rows() if row["question_id"] in wanted]
    found = figures.summary(rows, checked=not is_fixed, counts_cached=engine != "openvino")
    return {"options": options, "steps": steps, **found}


def _chosen(methods: Sequence[Method], names: Sequence[str] | None) -> list[Method]:
    if not names:
        return list(methods)
    known = {method.name: method for method in methods}
    if unknown := [name for name in names if name not in known]:
        msg = (
            f"no method is called {', '.join(map(repr, unknown))}; there are"
            f" {', '.join(map(repr, known))}"
        )
        raise InvalidInputError(msg)
    return [method for method in methods if method.name in names]


def _bundled(folder: Path | None) -> dict[str, Path]:
    if folder is None:
        return bundled_models()
    return {name: folder / f"{name}.gguf" for name in ("small", "large")}


def file_digest(path: Path) -> str:
    """What tells a model from another one, so that rows of two trainings are not mixed."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]


def main(argv: Sequence[str] | None = None) -> None:
    """Print and save the figures."""
    options = parser("embedded", __doc__ or "")
    options.add_argument(
        "--questions", type=count(0), default=150, help="that decompose; default 150"
    )
    options.add_argument(
        "--short-questions", type=count(0), default=50, help="that do not; default 50"
    )
    options.add_argument("--engine", choices=get_args(EngineName), default="auto")
    options.add_argument("--model-size", choices=("bundled", "60m"), default="bundled")
    options.add_argument(
        "--models", type=existing_path, metavar="FOLDER", help="small.gguf and large.gguf"
    )
    options.add_argument(
        "--methods",
        nargs="+",
        choices=figures.METHODS,
        metavar="NAME",
        help="only these; default all",
    )
    options.add_argument(
        "--unconstrained", action="store_true", help="let the planner write without a grammar"
    )
    options.add_argument("--temperature", type=number, default=0.7)
    options.add_argument("--seed", type=count(0), default=1)
    options.add_argument(
        "--slots", type=count(1), default=8, help="requests decoded together; default 8"
    )
    options.add_argument(
        "--kind", choices=get_args(Kind), default="F16", help="of the 60m model; default F16"
    )
    options.add_argument(
        "--node-tokens", type=count(1), default=96, help="60m: of a part; default 96"
    )
    options.add_argument(
        "--line-tokens",
        type=count(1),
        default=8,
        help="60m: of a plan's line; default 8, as bundled",
    )
    options.add_argument("--html", type=new_file, metavar="FILE", help="write a page with plots")
    options.add_argument("--svg", type=new_file, metavar="FILE", help="write its timelines alone")
    options.add_argument(
        "--resume", type=new_file, metavar="FILE", help="JSONL of rows to go on from"
    )
    args = options.parse_args(argv)
    if not args.questions + args.short_questions:
        options.error("--questions and --short-questions are both 0")
    found = asyncio.run(measure(args))
    reports = found.pop("reports")
    figures.show_summary(found)
    save(args.json, "embedded", argv, found)
    if args.html:
        args.html.write_text(
            embedded_page(found, reports, command_of("embedded", argv)), encoding="utf-8"
        )
    if args.svg:
        args.svg.write_text(embedded_picture(reports), encoding="utf-8")


if __name__ == "__main__":
    main()
