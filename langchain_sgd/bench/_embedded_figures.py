"""What the rows of `bench embedded` come to: time, steps, tokens, prefill, quality, and that in short."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from langchain_sgd.bench._compare import (
    Figures,
    by_category,
    compare,
    example,
    show_categories,
    show_comparison,
)
from langchain_sgd.bench._measure import (
    by,
    column,
    interval,
    median,
    node_prompts,
    paired,
    rounded,
    with_interval,
)
from langchain_sgd.bench._output import show
from langchain_sgd.embedded.briefs import domain
from langchain_sgd.embedded.briefs.checker import Tally
from langchain_sgd.files import Row

PLAIN, PLAIN_SMALL, SOT = "plain large", "plain small", "Skeleton-of-Thought"
SGD, ADAPTIVE = "SGD large", "SGD adaptive"
OPENED = "SGD, opened"
PLANNED, SUPERSTEPS = "SGD, plan first", "SGD, supersteps"
WITHHELD, NODE_FIRST = "SGD, no dependency answers", "SGD, no shared prefix"
METHODS: Final = (
    PLAIN,
    PLAIN_SMALL,
    SOT,
    SGD,
    ADAPTIVE,
    OPENED,
    PLANNED,
    SUPERSTEPS,
    WITHHELD,
    NODE_FIRST,
)

BRIEF, SHORT = "brief", "short answer"
"""The categories: questions that decompose, and questions that do not."""

_SHARES: Final = ("section accuracy", "fact consistency", "exactness")


def summary(rows: Sequence[Row], *, checked: bool, counts_cached: bool = True) -> dict[str, Any]:
    """All figures.

    Args:
        rows: Every run.
        checked: Whether the answers can be checked.
        counts_cached: Whether the engine says how many prompt tokens it had cached.
    """
    rows = sorted(rows, key=lambda row: METHODS.index(row["method"]))
    kinds = by(rows, "category")
    briefs, shorts = kinds.get(BRIEF, []), kinds.get(SHORT, [])
    found: dict[str, Any] = {
        "questions": {
            name: len({r["question_id"] for r in group}) for name, group in kinds.items()
        },
        "methods": compare(briefs, base=PLAIN),
        "by_depth": by_category([_by_depth(row) for row in briefs], base=PLAIN),
        "work": _work(briefs, counts_cached=counts_cached),
        "quality": _quality(briefs) if checked else {},
        "short_answers": compare(shorts, base=PLAIN),
        "short_quality": _quality(shorts) if checked else {},
    }
    found["in_short"] = _in_short(found, briefs)
    found["reports"] = example(briefs, base=PLAIN, other=SGD)
    return found


def _by_depth(row: Row) -> Row:
    """The row in a category by how many sections of its question wait for each other."""
    asked = domain.read_question(row["question"])
    assert isinstance(asked, domain.Brief)  # noqa: S101 - the questions are our own
    return {**row, "category": f"{domain.depth(asked.headings)} in a chain"}


def _work(rows: Sequence[Row], *, counts_cached: bool) -> dict[str, Figures]:
    """What the engines had to do, by their own counters."""
    methods = by(rows, "method")
    against = methods.get(PLAIN, [])
    work = {
        name: _work_of([row for row in found if row["error"] is None], against, found[0]["engines"])
        for name, found in methods.items()
    }
    if not counts_cached:
        for figures in work.values():
            for name in ("prefill_computed", "prefill_cached", "node_prompts_cached"):
                figures[name] = math.nan
    return work


def _work_of(rows: Sequence[Row], against: Sequence[Row], models: Iterable[str]) -> Figures:
    """Of runs that came to an answer: what failed early has worked little."""
    runs = len(rows) or math.nan
    engines = [engine for row in rows for engine in row["engines"].values()]
    computed, cached, steps, tokens, busy_s = (
        sum(engine[name] for engine in engines)
        for name in (
            "computed_prompt_tokens",
            "cached_prompt_tokens",
            "steps",
            "generated_tokens",
            "busy_s",
        )
    )
    prompts = [node_prompts(row["report"]) for row in rows if row["report"]]
    asked, taken = (sum(values) for values in zip(*prompts, strict=True)) if prompts else (0, 0)
    return {
        "steps": interval(list(column(rows, "steps").values())),
        "step_ratio": paired(column(against, "steps"), column(rows, "steps")),
        "path_tokens": median(column(rows, "path_tokens").values()),
        "path_ratio": paired(column(against, "path_tokens"), column(rows, "path_tokens")),
        "generated": {
            name: median(row["engines"][name]["generated_tokens"] for row in rows)
            for name in models
        },
        "tokens_per_step": tokens / steps if steps else math.nan,
        "step_ms": busy_s / steps * 1000 if steps else math.nan,
        "prefill_computed": computed / runs,
        "prefill_cached": cached / runs,
        "node_prompt_tokens": asked / runs,
        "node_prompts_cached": taken / asked if asked else math.nan,
        "engine_busy_ms": busy_s / runs * 1000,
        "server_cpu_ms": median(row["server_cpu_s"] * 1000 for row in rows),
        "client_cpu_ms": median(row["client_cpu_s"] * 1000 for row in rows),
    }


def _quality(rows: Sequence[Row]) -> dict[str, Figures]:
    out: dict[str, Figures] = {}
    for name, found in by(rows, "method").items():
        tally = Tally()
        for row in found:
            tally.add(row["question"], row["answer"])
        out[name] = dict(tally.summary())
    return out


# -- in short


def _in_short(found: Mapping[str, Any], rows: Sequence[Row]) -> list[dict[str, Any]]:
    """What one wants to know first, as far as the methods that it is about were measured."""
    methods, work, quality = found["methods"], found["work"], found["quality"]
    out: list[dict[str, Any]] = []

    def tell(name: str, value: float, unit: str, digits: int = 2) -> None:
        if not math.isnan(value):
            out.append({"name": name, "found": value, "unit": unit, "digits": digits})

    if PLAIN in methods and SGD in methods:
        faster, fewer = methods[SGD]["speedup"]["median"], work[SGD]["step_ratio"]["median"]
        tell(f"{SGD}: whole answer, times sooner than {PLAIN}", faster, "x")
        tell(f"{SGD}: decode steps, times fewer than {PLAIN}", fewer, "x")
        for method in (SGD, OPENED):
            if method in methods:
                later = methods[method]["ttft_ratio"]["median"]
                tell(f"{method}: first text, times as late as {PLAIN}", later, "x")
    if SGD in methods:
        cached = work[SGD]["node_prompts_cached"] * 100
        tell(f"{SGD}: prompts of parts that were cached", cached, " %", 0)
    if PLANNED in methods and SGD in methods:
        walls = [column(by(rows, "method")[name], "wall_s") for name in (PLANNED, SGD)]
        more = (paired(*walls)["median"] - 1) * 100
        tell(f"{PLANNED}: more time than {SGD}", more, " %", 0)
    if ADAPTIVE in methods and SGD in methods:
        whole, some = (work[name]["generated"]["large"] for name in (SGD, ADAPTIVE))
        saved = (1 - some / whole) * 100 if whole else math.nan
        tell(f"{ADAPTIVE}: tokens of the large model, fewer than {SGD}", saved, " %", 0)
    for one, other, share, what in (
        (SGD, PLAIN, "section accuracy", "sections right"),
        (ADAPTIVE, SGD, "section accuracy", "sections right"),
        (SGD, SOT, "fact consistency", "facts that agree"),
    ):
        if one in quality and other in quality:
            more = _points(quality, one, share) - _points(quality, other, share)
            tell(f"{one}: {what}, more than {other}", more, " points", 1)
    for method in (SGD, OPENED):
        if method in found["short_answers"]:
            more = (1 / found["short_answers"][method]["speedup"]["median"] - 1) * 100
            tell(f"{method}: questions that stay whole, more time than {PLAIN}", more, " %", 1)
    return out


def in_short(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The same in words."""
    return [
        (each["name"], rounded(each["found"], each["digits"], each["unit"]))
        for each in found["in_short"]
    ]


def _points(quality: Mapping[str, Any], method: str, share: str) -> float:
    return float(quality[method][share]["value"]) * 100


# -- tables


def show_summary(found: Mapping[str, Any]) -> None:
    """Print all tables."""
    asked = found["questions"]
    show_comparison(f"{asked.get(BRIEF, 0)} questions that decompose", found["methods"])
    if len(found["by_depth"]) > 1:
        title = "Times faster, by how many sections wait for each other"
        show_categories(title, dict(sorted(found["by_depth"].items())))
    show(
        "Work",
        ("", "steps", "plain's over these", "tokens in sequence", "plain's over these", "ms a step",
         "tokens a step", "prompt computed", "cached", "node prompts cached"),
        [
            (
                name,
                rounded(work["steps"]["median"]),
                with_interval(work["step_ratio"]),
                rounded(work["path_tokens"]),
                with_interval(work["path_ratio"]),
                rounded(work["step_ms"], 2),
                rounded(work["tokens_per_step"], 2),
                rounded(work["prefill_computed"]),
                rounded(work["prefill_cached"]),
                _percent(work["node_prompts_cached"]),
            )
            for name, work in found["work"].items()
        ],
        "By the engines' counters, of all models together. In sequence: were every batch as fast as one"
        " stream.",
    )  # fmt: skip
    for title, key in (("Quality", "quality"), ("Quality of short answers", "short_quality")):
        if found[key]:
            _show_quality(title, found[key])
    if found["short_answers"]:
        title = f"{asked[SHORT]} questions that do not decompose"
        show_comparison(title, found["short_answers"])
    show(
        "The engine: a step by the number of streams",
        ("streams", "tokens a step", "ms in the model", "ms in all", "tokens/s"),
        [
            (
                step["streams"],
                f"{step['tokens_per_step']:.2f}",
                f"{step['step_ms']:.2f}",
                f"{step['wall_per_step_ms']:.2f}",
                f"{step['tokens_per_s']:.0f}",
            )
            for step in found["steps"]
        ],
    )
    show("In short", ("", ""), in_short(found))


def _show_quality(title: str, quality: Mapping[str, Figures]) -> None:
    show(
        title,
        ("", *_SHARES),
        [
            (name, *(share_text(shares[share]) for share in _SHARES))
            for name, shares in quality.items()
        ],
        "Brackets are Wilson's 95 % intervals; in braces what guessing would give.",
    )


def share_text(share: Mapping[str, float]) -> str:
    """`93.1 % [91.0, 94.8] {0.4}`."""
    if not share["trials"]:
        return "-"
    value, low, high, chance = (share[n] * 100 for n in ("value", "low", "high", "chance"))
    return f"{value:.1f} % [{low:.1f}, {high:.1f}] {{{chance:.1f}}}"


def _percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{share * 100:.0f} %"
