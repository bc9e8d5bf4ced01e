"""Answers as a benchmark wrote them, made into the pairs that a judge compares."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from langchain_sgd.errors import InvalidInputError
from langchain_sgd.files import RowFile, json_rows

T = TypeVar("T")
_FIELDS: Final = ("question_id", "question", "method", "answer")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a method answered."""

    question_id: str
    category: str
    question: str
    method: str
    text: str
    """Empty if the method failed."""
    options: str | None = None
    """What a benchmark's rows must agree in to be compared: models, sampling."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A question and the two answers to compare; an empty one is missing and loses."""

    question_id: str
    category: str
    question: str
    _: KW_ONLY
    method: str
    answer: str
    against: str
    other: str
    """The answer of the method `against`."""
    reference: str | None = None


def read_answers(path: Path, *, options: str | None = None) -> list[Answer]:
    """Read a JSONL file with one answer a line.

    A line has `question_id`, `question`, `method`, `answer`, and perhaps `category`, `error` (not null:
    the method failed) and `options` (what a benchmark's row was measured with). Further fields are left
    alone. Of several answers of a method to a question the first that did not fail counts. A last line
    that a killed benchmark has begun is left out.

    Args:
        path: The file.
        options: Only lines with these.

    Raises:
        InvalidInputError: A line is not like that, there is none, or the lines were measured with
            different options and none was named.
    """
    found: dict[tuple[str | None, str, str], Answer] = {}
    for place, row in RowFile(path, must_exist=True).rows:
        if lacking := [name for name in _FIELDS if row.get(name) is None]:
            msg = f"{place} lacks {', '.join(lacking)}"
            raise InvalidInputError(msg)
        answer = Answer(
            str(row["question_id"]),
            str(row.get("category") or "all"),
            str(row["question"]),
            str(row["method"]),
            "" if row.get("error") is not None else str(row["answer"]).strip(),
            None if row.get("options") is None else str(row["options"]),
        )
        if options in {None, answer.options}:
            key = (answer.options, answer.method, answer.question_id)
            # A benchmark that is gone on with tries what failed again, and adds the answer below.
            if key not in found or (answer.text and not found[key].text):
                found[key] = answer
    if not found:
        wanted = "" if options is None else f" with options {options!r}"
        msg = f"{path} holds no answers{wanted}"
        raise InvalidInputError(msg)
    if len(kinds := list(dict.fromkeys(answer.options for answer in found.values()))) > 1:
        msg = (
            f"{path} holds answers that were measured with different options:"
            f" {', '.join(map(str, kinds))}. Name one of them"
        )
        raise InvalidInputError(msg)
    return list(found.values())


def read_references(path: Path) -> dict[str, str]:
    """Read reference answers by question from a JSONL file, MT-bench's own among them.

    A line has `question_id` and `reference` (a text, or a list with a text a turn), or `choices` with
    `turns` as MT-bench keeps answers. The first turn counts. Lines without any are left alone.

    Raises:
        InvalidInputError: A line is no JSON object, or there is no reference at all.
    """
    found = {
        str(row["question_id"]): text
        for _, row in json_rows(path)
        if row.get("question_id") is not None and (text := _reference(row))
    }
    if not found:
        msg = f"{path} holds no references: a line needs question_id and reference, or choices"
        raise InvalidInputError(msg)
    return found


def _reference(row: Mapping[str, Any]) -> str | None:
    match row:
        case {"reference": str(text)} | {"reference": [str(text), *_]}:
            return text
        case {"choices": [{"turns": [str(text), *_]}, *_]}:
            return text
    return None


def make_pairs(
    answers: Iterable[Answer],
    against: str,
    *,
    methods: Sequence[str] | None = None,
    references: Mapping[str, str] | None = None,
    limit: int | None = None,
) -> list[Pair]:
    """Pair every method's answers with those of one method, where both answered or failed.

    Args:
        answers: One for each method and question.
        against: The method that the others are compared with.
        methods: Only these; None is all others.
        references: Right answers by question, where known.
        limit: At most so many questions, taken from the categories in turn.

    Raises:
        InvalidInputError: There is no such method, nothing to compare it with, or no reference fits.
    """
    by_method: dict[str, dict[str, Answer]] = {}
    for answer in answers:
        by_method.setdefault(answer.method, {})[answer.question_id] = answer
    others = [name for name in by_method if name != against]
    for name in [against, *(methods or [])]:
        if name not in by_method:
            msg = f"there are no answers of {name!r}; there are those of {_quoted(by_method)}"
            raise InvalidInputError(msg)
    base = by_method[against]
    chosen = [name for name in others if methods is None or name in methods]
    asked = [a for a in base.values() if any(a.question_id in by_method[m] for m in chosen)]
    if not asked:
        msg = f"no method but {against!r} has an answer to the same questions"
        raise InvalidInputError(msg)
    if references is not None and not any(a.question_id in references for a in asked):
        msg = (
            f"no reference fits: they are for questions {_some(references)}, the answers are to"
            f" {_some(a.question_id for a in asked)}"
        )
        raise InvalidInputError(msg)
    return [
        Pair(
            one.question_id,
            one.category,
            one.question,
            method=name,
            answer=by_method[name][one.question_id].text,
            against=against,
            other=one.text,
            reference=(references or {}).get(one.question_id),
        )
        for one in in_turns(asked, lambda answer: answer.category, limit)
        for name in chosen
        if one.question_id in by_method[name]
    ]


def in_turns(items: Sequence[T], category: Callable[[T], str], limit: int | None) -> list[T]:
    """So many of them, from the categories in turn, for files are sorted by category."""
    if limit is None:
        return list(items)
    groups: dict[str, list[T]] = {}
    for item in items:
        groups.setdefault(category(item), []).append(item)
    turns = itertools.chain.from_iterable(itertools.zip_longest(*groups.values()))
    return list(itertools.islice((item for item in turns if item is not None), limit))


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))


def _some(ids: Iterable[str]) -> str:
    return ", ".join(itertools.islice(ids, 3)) + ", ..."
