"""A run, or a race of two, as one file that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from markdown_it import MarkdownIt

from langchain_sgd.drawing import report_html
from langchain_sgd.drawing.markup import FONT, clean, element, to_text
from langchain_sgd.drawing.words import seconds
from langchain_sgd.proxy.history import Record

_STYLE = f"""
:root {{ color-scheme: light dark; }}
body {{ font: 15px/1.55 {FONT}; max-width: 1080px; margin: 32px auto; padding: 0 16px; }}
h1 {{ font-size: 22px; white-space: pre-wrap; overflow-wrap: anywhere; }}
h2 {{ font-size: 17px; margin: 36px 0 8px; }}
.answer {{ border-left: 3px solid #80889066; padding-left: 16px; overflow-wrap: anywhere; max-width: 46em; }}
.answer h1, .answer h2, .answer h3 {{ font-size: 16px; margin: 20px 0 4px; }}
pre, code {{ font-size: 13px; background: #80889022; border-radius: 4px; padding: 1px 4px; }}
pre {{ padding: 10px 14px; overflow-x: auto; }}
pre code {{ background: none; padding: 0; }}
blockquote {{ margin: 8px 0; padding-left: 14px; border-left: 3px solid #80889066; }}
.answer table {{ border-collapse: collapse; }}
.answer td, .answer th {{ border: 1px solid #80889066; padding: 4px 10px; text-align: left; }}
footer {{ margin-top: 40px; font-size: 12px; opacity: .75; }}
"""
_MARKDOWN = (
    MarkdownIt("commonmark", {"html": False})
    .enable("table")
    .disable(["link", "image", "autolink", "reference"])
)
"""Nothing in a model's text becomes markup of its own, nor is anything asked for or led to elsewhere."""


def share_page(records: Sequence[Record]) -> str:
    """Question, answers and reports; of Markdown only what loads nothing and leads nowhere."""
    first = records[0]
    walls = [record.report.wall_s for record in records if record.report is not None]
    span_s = max(walls, default=None)  # one scale for all
    told = f"{_when(first)} · made by langchain-sgd (Skeleton Graph Decoding)"
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", f"SGD: {' '.join(first.question.split())[:80]}"),
        element("style", _STYLE),
    )
    # Joined as text, since a report's picture is text already; every piece escapes its own.
    parts = [
        '<!doctype html>\n<html lang="en">',
        to_text(head),
        "<body><main>",
        to_text(element("h1", first.question)),
        _result(records),
        *(_run(record, span_s) for record in records),
        "</main>",
        to_text(element("footer", told)),
        "</body></html>\n",
    ]
    return "\n".join(parts)


def _result(records: Sequence[Record]) -> str:
    """Of a race: who was done first."""
    ended = [r for r in records if r.report is not None]
    if len(ended) < 2:
        return ""
    told = ", ".join(f"{r.model} after {seconds(r.report.wall_s)}" for r in ended if r.report)
    return to_text(element("p", f"Whole answer: {told}"))


def _run(record: Record, span_s: float | None) -> str:
    shown = (
        to_text(element("p", f"Status: {record.status}"))
        if record.report is None
        else report_html(record.report, span_s=span_s)
    )
    answer = f'<div class="answer">{_MARKDOWN.render(clean(record.text))}</div>'
    return to_text(element("h2", record.model)) + shown + answer


def _when(record: Record) -> str:
    return f"{datetime.fromtimestamp(record.created, UTC):%Y-%m-%d %H:%M} UTC"
