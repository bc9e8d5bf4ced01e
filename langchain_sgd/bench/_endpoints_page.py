"""What the rows of `bench endpoints` come to, as tables and as a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree.ElementTree import Element

from langchain_sgd.bench._compare import (
    a_thousand,
    by_category,
    compare,
    example,
    is_priced,
    show_categories,
    show_comparison,
    speedup_bars,
)
from langchain_sgd.bench._html import Bar, chart, color, page, section, table, timelines
from langchain_sgd.bench._measure import by, with_interval
from langchain_sgd.bench._output import show
from langchain_sgd.drawing.markup import element
from langchain_sgd.files import Row

Figures = dict[str, Any]


def summary(
    rows: Sequence[Row], options: Mapping[str, Any], *, names_in_order: Sequence[str]
) -> tuple[Figures, dict[str, Any]]:
    """All figures, and one question's reports by method.

    Args:
        rows: Every run.
        options: What they have in common.
        names_in_order: The methods; the first one is what the others are compared with.
    """
    base = names_in_order[0]
    rows = sorted(rows, key=lambda row: (row["users"], names_in_order.index(row["method"])))
    loads = {
        str(users): {
            "methods": compare(found, base=base),
            "categories": by_category(found, base=base),
            "per_minute": {name: per_minute(group) for name, group in by(found, "method").items()},
        }
        for users, found in by(rows, "users").items()
    }
    alone = by(rows, "users")
    first = alone[min(alone)] if alone else []
    figures = {
        "options": dict(options),
        "base": base,
        "questions": len({row["question_id"] for row in rows}),
        "errors": sorted({row["error"] for row in rows if row["error"]}),
        "users": loads,
    }
    return figures, example(first, base=base, other=names_in_order[-1])


def per_minute(rows: Sequence[Row]) -> float:
    """Answers in a minute while the method was at work.

    Counted are the seconds in which it had any question in hand: between its blocks other methods were
    at work, and a bench that was stopped may have gone on days later.
    """
    seconds = until = 0.0
    for began, ended in sorted((row["began"], row["began"] + row["wall_s"]) for row in rows):
        seconds += max(0.0, ended - max(began, until))
        until = max(until, ended)
    answered = sum(row["error"] is None for row in rows)
    return 60 * answered / seconds if seconds else 0.0


def show_figures(found: Mapping[str, Any]) -> None:
    """Print all tables."""
    for users, load in found["users"].items():
        show_comparison(f"{found['questions']} questions, {_users(users)}", load["methods"])
        if len(load["categories"]) > 1:
            title = f"Times faster than {found['base']}, {_users(users)}"
            show_categories(title, load["categories"])
    show(
        "Answers a minute",
        ("users", *_methods(found)),
        [
            (users, *(f"{load['per_minute'].get(n, 0):.1f}" for n in _methods(found)))
            for users, load in found["users"].items()
        ],
    )
    for error in found["errors"][:5]:
        print(f"a run failed: {error}")


def endpoints_page(found: Mapping[str, Any], reports: Mapping[str, Any], command: str) -> str:
    """The figures with plots, and one question's runs as timelines."""
    parts: list[Element] = []
    for users, load in found["users"].items():
        priced = is_priced(load["methods"])
        parts += section(
            f"Speed, {_users(users)}",
            chart(
                f"Times faster, {_users(users)}",
                speedup_bars(load["methods"]),
                unit="x",
                line=1.0,
            ),
            table(
                (
                    "",
                    "wall s",
                    "first text s",
                    "... over base",
                    "answers a minute",
                    "failed",
                    "partial",
                    *(("cost of 1,000 answers", "... over base") if priced else ()),
                ),
                [
                    (
                        name,
                        with_interval(method["wall_s"]),
                        with_interval(method["ttft_s"]),
                        with_interval(method["ttft_ratio"]),
                        f"{load['per_minute'][name]:.1f}",
                        method["failed"],
                        method["partial"],
                        *(_costs(method) if priced else ()),
                    )
                    for name, method in load["methods"].items()
                ],
            ),
            told=f"How many times faster than {found['base']}, planning included: the median of"
            f" {found['questions']} questions' ratios; whiskers are 95 % intervals.",
        )
        if len(load["categories"]) > 1:
            parts += section(
                f"By category, {_users(users)}", *_category_charts(load, found["base"], users)
            )
    if found["errors"]:
        parts += section(
            "Runs that failed",
            table(("error",), [(error,) for error in found["errors"]]),
            told="Each kind of error once; its runs count as failed, and a bench that goes on tries them"
            " again.",
        )
    parts += section(
        "One question, all methods",
        *timelines(reports),
        told="A question whose speedup is near the median; all on one scale.",
    )
    return page("SGD on your endpoints", command, parts)


def _category_charts(load: Mapping[str, Any], base: str, users: str) -> list[Element]:
    parts: list[Element] = []
    for index, method in enumerate(name for name in load["methods"] if name != base):
        bars = [
            Bar(
                category,
                found[method]["median"],
                found[method]["low"],
                found[method]["high"],
                color(index),
            )
            for category, found in load["categories"].items()
            if method in found
        ]
        title = f"{method}, times faster by category, {_users(users)}"
        parts += [element("h3", method), chart(title, bars, unit="x", line=1.0)]
    return parts


def _costs(method: Figures) -> tuple[str, str]:
    return with_interval(a_thousand(method["cost"])), with_interval(method["cost_ratio"])


def _methods(found: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(n for load in found["users"].values() for n in load["methods"]))


def _users(users: str) -> str:
    return "one user" if users == "1" else f"{users} users at the same time"
