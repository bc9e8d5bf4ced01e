"""Answers compared in pairs by a judge model: both orders, lengths watched, shares with intervals."""

from langchain_sgd.judging.asked import Cost
from langchain_sgd.judging.judge import JudgeError, Judging
from langchain_sgd.judging.pairs import Answer, Pair, make_pairs, read_answers, read_references
from langchain_sgd.judging.prompts import JudgePrompts
from langchain_sgd.judging.tally import (
    Interval,
    Judged,
    Rates,
    Tally,
    by_category,
    by_method,
    tally,
)
from langchain_sgd.judging.verdicts import Outcome, Verdict, outcome_of, parse_verdict

__all__ = [
    "Answer",
    "Cost",
    "Interval",
    "JudgeError",
    "JudgePrompts",
    "Judged",
    "Judging",
    "Outcome",
    "Pair",
    "Rates",
    "Tally",
    "Verdict",
    "by_category",
    "by_method",
    "make_pairs",
    "outcome_of",
    "parse_verdict",
    "read_answers",
    "read_references",
    "tally",
]
