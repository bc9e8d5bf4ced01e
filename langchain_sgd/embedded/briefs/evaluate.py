"""`python -m langchain_sgd.embedded.briefs.evaluate`: what the bundled models can do, measured.

Held-out questions only. First each model by itself, on the prompts that the package sends: skeletons,
routes, sections given the right sections that they need, whole answers. Then whole runs through
`SGDRunnable` and its baselines, on the embedded server. Every share comes with Wilson's 95 % interval,
the number of trials, and what guessing would give where that is not zero.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import sys
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from langchain_core.language_models import BaseChatModel

from langchain_sgd.baselines import PlainDecoding, SkeletonOfThought
from langchain_sgd.bundled import BRIEFS_PROMPTS
from langchain_sgd.embedded.briefs import domain, grammar
from langchain_sgd.embedded.briefs.checker import Share, Tally, check_section
from langchain_sgd.embedded.briefs.domain import Brief, Plain
from langchain_sgd.embedded.briefs.texts import SECTIONS
from langchain_sgd.embedded.briefs.turns import node_prompt, planner_prompt
from langchain_sgd.embedded.engine import Counters, Engine, GenerateRequest, Sampling
from langchain_sgd.planning.drafts import Repairer
from langchain_sgd.planning.parsing import SkeletonParser
from langchain_sgd.report import Report
from langchain_sgd.runnable import SGDRunnable
from langchain_sgd.skeleton import Node

EASY = 2
"""Difficulty up to which the package's default routing sends a node to the small model."""

MAX_NODES = 16

_WHOLE_TOKENS, _PART_TOKENS = 640, 160

_RUNS_AT_ONCE = 2

Ask = Callable[[str, int], Awaitable[str]]
"""Asks a model: the user's turn and the most tokens in, its answer out."""


def asker(engine: Engine, temperature: float, seeds: Iterable[int]) -> Ask:
    """Ask this engine through its own chat template; temperature 0 is greedy."""
    draws = iter(seeds)
    room = asyncio.Semaphore(engine.info.slots)

    async def ask(turn: str, limit: int) -> str:
        sampling = (
            Sampling(temperature=temperature, seed=next(draws)) if temperature else Sampling()
        )
        async with room:
            prompt = await engine.render_chat([{"role": "user", "content": turn}], None)
            request = GenerateRequest(prompt, limit, sampling)
            tokens = [t async for t in engine.generate(request, Counters())]
        return "".join(token.text for token in tokens if not token.special)

    return ask


async def skeletons(
    ask: Ask, briefs: Sequence[Brief], plains: Sequence[Plain]
) -> dict[str, dict[str, float]]:
    """How good the skeletons are, and whether questions take the right route."""
    questions = [b.question for b in briefs] + [p.question for p in plains]
    texts = await _all(ask(planner_prompt(q), _WHOLE_TOKENS) for q in questions)
    valid = edges = difficulties = split = undivided = 0
    for brief, text in zip(briefs, texts, strict=False):
        nodes, faults, plain = _parsed(text)
        undivided += plain
        valid += bool(nodes) and not faults
        edges += _edges(nodes) == _edges(domain.skeleton(brief.headings).nodes)
        difficulties += all(domain.DIFFICULTY.get(n.heading) == n.difficulty for n in nodes)
    for text in texts[len(briefs) :]:
        split += not _parsed(text)[2]
    return {
        "skeleton valid": Share(valid, len(briefs)).as_dict(),
        "skeleton's edges exact": Share(edges, len(briefs)).as_dict(),
        "skeleton's difficulties exact": Share(difficulties, len(briefs)).as_dict(),
        "plain route, plain question": Share(len(plains) - split, len(plains)).as_dict(),
        "plain route, brief": Share(undivided, len(briefs)).as_dict(),
    }


async def nodes(ask: Ask, briefs: Sequence[Brief], *, seed: int) -> dict[str, Any]:
    """How often a section is right when the sections it needs are."""
    rng = random.Random(seed)  # noqa: S311 - data, not secrets
    headings: list[str] = []
    facts: list[dict[str, str]] = []
    turns: list[str] = []
    for brief in briefs:
        gold = brief.invent(rng)
        skeleton = domain.skeleton(brief.order(rng))
        texts = {h: grammar.render(SECTIONS[h], gold, rng)[0] for h in brief.headings}
        for heading in brief.headings:
            given = {h: texts[h] for h in domain.NEEDS[heading]}
            headings.append(heading)
            facts.append(gold)
            turns.append(node_prompt(brief.question, skeleton, heading, given))
    answers = await _all(ask(turn, _PART_TOKENS) for turn in turns)
    right: dict[str, list[bool]] = defaultdict(list)
    for heading, gold, answer in zip(headings, facts, answers, strict=True):
        ok = check_section(heading, answer, gold).right
        easy = domain.DIFFICULTY[heading] <= EASY
        right["easy" if easy else "hard"].append(ok)
        right[heading].append(ok)
    return {name: Share(sum(v), len(v)).as_dict() for name, v in sorted(right.items())}


async def wholes(ask: Ask, briefs: Sequence[Brief], plains: Sequence[Plain]) -> dict[str, Any]:
    """Plain decoding: whole briefs, and short answers."""
    long, short = Tally(), Tally()
    for tally, questions in (
        (long, [brief.question for brief in briefs]),
        (short, [plain.question for plain in plains]),
    ):
        answers = await _all(ask(question, _WHOLE_TOKENS) for question in questions)
        for question, answer in zip(questions, answers, strict=True):
            tally.add(question, answer)
    return {"briefs": long.summary(), "short answers": short.exactness.as_dict()}


async def evaluate_models(
    engines: Mapping[str, Engine], *, questions: int, temperatures: Sequence[float], seed: int
) -> dict[str, Any]:
    """Every model at every temperature."""
    briefs = list(itertools.islice(domain.briefs(seed, held_out=True), questions))
    plains = list(itertools.islice(domain.plains(seed, held_out=True), questions))
    out: dict[str, Any] = {}
    for (name, engine), temperature in itertools.product(engines.items(), temperatures):
        ask = asker(engine, temperature, itertools.count(seed))
        started = time.monotonic()
        out[f"{name}, temperature {temperature:g}"] = {
            "skeletons": await skeletons(ask, briefs, plains),
            "nodes given right dependencies": await nodes(ask, briefs, seed=seed),
            "plain decoding": await wholes(ask, briefs, plains),
            "wall_s": round(time.monotonic() - started, 1),
        }
    return out


def methods(models: Mapping[str, BaseChatModel], seed: int | None = None) -> dict[str, SGDRunnable]:
    """The ways to answer that are compared, by name; `models` are `small` and `large`."""
    small, large = models["small"], models["large"]
    common: dict[str, Any] = {"prompts": BRIEFS_PROMPTS, "seed": seed, "opening": False}
    return {
        "plain decoding": PlainDecoding(large=large, **common),
        "SGD, large": SGDRunnable(large=large, **common),
        "SGD, adaptive": SGDRunnable(small=small, large=large, **common),
        "Skeleton-of-Thought": SkeletonOfThought(large=large, **common),
    }


async def evaluate_runs(
    models: Mapping[str, BaseChatModel], *, questions: int, seed: int, sampled: bool
) -> dict[str, Any]:
    """The same questions by every method.

    Args:
        models: `small` and `large`, with their temperatures set.
        questions: How many briefs.
        seed: Of the questions, and of the runs if `sampled`.
        sampled: Give every run a seed of its own.
    """
    briefs = list(itertools.islice(domain.briefs(seed, held_out=True), questions))
    tallies: dict[str, Tally] = defaultdict(Tally)
    reports: dict[str, list[Report]] = defaultdict(list)
    room = asyncio.Semaphore(_RUNS_AT_ONCE)

    async def answer(number: int, brief: Brief) -> None:
        async with room:
            for name, method in methods(models, seed + number if sampled else None).items():
                message = await method.ainvoke(brief.question)
                tallies[name].add(brief.question, message.text)
                reports[name].append(Report.from_message(message))

    async with asyncio.TaskGroup() as group:
        for number, brief in enumerate(briefs):
            group.create_task(answer(number, brief))
    return {name: tallies[name].summary() | _costs(reports[name]) for name in tallies}


def _costs(reports: Sequence[Report]) -> dict[str, Any]:
    """Tokens of a run, and the small model's share of the nodes'."""
    everything = nodes_tokens = small = 0
    for report in reports:
        tokens = {node.id: node.usage.output_tokens for node in report.nodes}
        everything += sum(usage.output_tokens for usage in report.usage.values())
        nodes_tokens += sum(tokens.values())
        small += sum(tokens[node.id] for node in report.nodes if node.tier == "small")
    return {
        "tokens a run": round(everything / len(reports), 1),
        "small model's share of the nodes' tokens": round(small / max(1, nodes_tokens), 3),
        "runs with a part missing": sum(r.status == "partial" for r in reports),
    }


async def _all(asked: Iterable[Awaitable[str]]) -> list[str]:
    """Ask all at once, in order."""

    async def one(question: Awaitable[str]) -> str:
        return await question

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(question)) for question in asked]
    return [task.result() for task in tasks]


def _parsed(text: str) -> tuple[list[Node], list[str], bool]:
    """The nodes of a plan, what is wrong with it, and whether it is the plain word."""
    parser, repairer = SkeletonParser(), Repairer(MAX_NODES)
    for draft in [*parser.feed(text), *parser.close()]:
        repairer.admit(draft)
    faults = list(repairer.warnings)
    faults += [f"unknown heading {n.heading}" for n in repairer.nodes if n.heading not in SECTIONS]
    if not parser.plain and len(repairer.nodes) != len(text.splitlines()):
        faults.append("a line is no node")
    return repairer.nodes, faults, parser.plain


def _edges(nodes: Sequence[Node]) -> set[tuple[str, frozenset[str]]]:
    names = {n.id: n.heading for n in nodes}
    return {(n.heading, frozenset(names[d] for d in n.dependencies)) for n in nodes}


def _rows(results: dict[str, Any], path: str = "") -> Iterable[str]:
    for name, value in results.items():
        where = f"{path} / {name}" if path else name
        if isinstance(value, dict) and "trials" in value:
            chance = f"  chance {value['chance']:.1%}" if value.get("chance") else ""
            yield (
                f"{where:<78} {value['value']:>7.1%}"
                f"  [{value['low']:.1%}, {value['high']:.1%}] of {value['trials']:.0f}{chance}"
            )
        elif isinstance(value, dict):
            yield from _rows(value, where)
        else:
            yield f"{where:<78} {value:>7}"


async def _main(options: argparse.Namespace) -> None:
    from langchain_sgd.embedded.server import EmbeddedServer  # noqa: PLC0415 - an extra
    from langchain_sgd.tgi.chat import ChatTGI  # noqa: PLC0415

    results: dict[str, Any] = {}
    with EmbeddedServer({"small": options.small, "large": options.large}) as server:
        for temperature in options.temperature:
            if "models" in options.parts:
                results |= await evaluate_models(
                    server.engines,
                    questions=options.questions,
                    temperatures=[temperature],
                    seed=options.seed,
                )
            if "runs" in options.parts:
                models = {
                    name: ChatTGI(base_url=url, temperature=temperature, max_tokens=_WHOLE_TOKENS)
                    for name, url in server.urls.items()
                }
                results[f"runs, temperature {temperature:g}"] = await evaluate_runs(
                    models,
                    questions=options.questions,
                    seed=options.seed,
                    sampled=temperature > 0,
                )
                for model in models.values():
                    await model.aclose()
    print("\n".join(_rows(results)))  # noqa: T201 - a command's output
    if options.out:
        options.out.write_text(json.dumps(results, indent=1) + "\n")


def main(arguments: list[str]) -> None:
    """The command."""
    models = Path(__file__).parent.parent / "models"
    parser = argparse.ArgumentParser(prog="python -m langchain_sgd.embedded.briefs.evaluate")
    parser.add_argument("--small", type=Path, default=models / "small.gguf")
    parser.add_argument("--large", type=Path, default=models / "large.gguf")
    parser.add_argument("--questions", type=int, default=300, help="of each type; default 300")
    parser.add_argument("--temperature", type=float, nargs="+", default=[0.0, 0.7])
    parser.add_argument(
        "--parts", choices=("models", "runs"), nargs="+", default=["models", "runs"]
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, help="write the results as JSON")
    asyncio.run(_main(parser.parse_args(arguments)))


if __name__ == "__main__":
    main(sys.argv[1:])
