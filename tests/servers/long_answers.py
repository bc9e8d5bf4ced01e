"""Whether long answers gain from parts of parts: plain, in parts, and with `expand`, on models of yours.

    python -m tests.servers.long_answers --large URL --questions FILE.jsonl --limit 3 --json FILE

Every question ends with the same wish for words. Each question is asked in each way, in turn.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from langchain_sgd import Report, SGDRunnable
from langchain_sgd.baselines import PlainDecoding
from langchain_sgd.bench.endpoints import read_questions
from langchain_sgd.decoding.sentences import count_words
from langchain_sgd.models import resolve
from langchain_sgd.repetition import overlap, paragraphs

PLAIN, PARTS, EXPANDED = "plain", "in parts", "in parts of parts"
WISH = "{question} Write about {words} words."
PATIENCE_S = 7200.0
"""For one call: 2,000 words in one piece take a processor longer than the usual ten minutes."""


@dataclass(frozen=True)
class Row:
    """One answer."""

    way: str
    question: str
    status: str
    parts: int
    """Texts that were written for it."""
    words: int
    repeated: float
    """Share of words in runs of four that an earlier paragraph has too."""
    seconds: float


def ways(models: dict[str, Any], expand: int) -> dict[str, SGDRunnable]:
    """What is compared; `expand` is the words of a part from which it is split."""
    split: dict[str, Any] = {**models, "mode": "always"}
    return {
        PLAIN: PlainDecoding(large=models["large"]),
        PARTS: SGDRunnable(**split),
        EXPANDED: SGDRunnable(**split, expand=expand),
    }


async def measure(
    models: dict[str, Any], questions: Sequence[str], *, words: int, expand: int
) -> list[Row]:
    """Ask every question in each way, one after the other."""
    rows: list[Row] = []
    for number, question in enumerate(questions):
        each = list(ways(models, expand).items())
        for way, sgd in each[number % len(each) :] + each[: number % len(each)]:
            asked = WISH.format(question=question, words=words)
            message = await sgd.ainvoke(asked, temperature=0)
            report = Report.from_message(message)
            said = {str(at): text for at, text in enumerate(paragraphs(message.text))}
            row = Row(
                way,
                question,
                report.status,
                parts=len(report.leaves),
                words=count_words(message.text),
                repeated=overlap(said).share,
                seconds=report.wall_s,
            )
            rows.append(row)
            print(json.dumps(asdict(row)), flush=True)
    return rows


def figures(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Medians by way; times, words and words a second as ratios to the plain answer of the same question."""
    plain = {row.question: row for row in rows if row.way == PLAIN}
    found: dict[str, dict[str, float]] = {}
    for way in dict.fromkeys(row.way for row in rows):
        mine = [(row, plain[row.question]) for row in rows if row.way == way]
        middle = statistics.median
        times = middle(row.seconds / other.seconds for row, other in mine)
        longer = middle(row.words / other.words for row, other in mine)
        pace = middle(row.words / row.seconds * other.seconds / other.words for row, other in mine)
        found[way] = {
            "answers": len(mine),
            "split": sum(row.parts > 1 for row, _ in mine),
            "parts": middle(row.parts for row, _ in mine),
            "words": middle(row.words for row, _ in mine),
            "repeated": round(middle(row.repeated for row, _ in mine), 3),
            "time_to_plain": round(times, 2),
            "words_to_plain": round(longer, 2),
            "words_a_second_to_plain": round(pace, 2),
        }
    return found


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--large", required=True, metavar="URL")
    parser.add_argument("--small", metavar="URL", help="default: the large model writes all")
    parser.add_argument("--questions", type=Path, required=True, metavar="FILE", help="JSON lines")
    parser.add_argument("--limit", type=int, metavar="N", help="questions")
    parser.add_argument("--words", type=int, default=2000, help="default: %(default)s")
    parser.add_argument(
        "--expand",
        type=int,
        default=250,
        help="words of a part that is split; default: %(default)s",
    )
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    models = {
        name: resolve(url, what=name, timeout=PATIENCE_S)
        for name in ("large", "small")
        if (url := getattr(args, name))
    }
    asked = [each.turns[0] for each in read_questions(args.questions, limit=args.limit)]
    rows = asyncio.run(measure(models, asked, words=args.words, expand=args.expand))
    text = json.dumps({"figures": figures(rows), "rows": [asdict(row) for row in rows]}, indent=1)
    print(json.dumps(figures(rows), indent=1))
    if args.json:
        args.json.write_text(text)


if __name__ == "__main__":
    main()
