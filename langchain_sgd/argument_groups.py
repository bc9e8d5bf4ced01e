"""Options that several commands have, or that belong together, each group by a function."""

from __future__ import annotations

import argparse

from langchain_sgd.argument_types import (
    count,
    existing_file,
    file_to_write,
    new_file,
    number,
    seconds,
)

_THRESHOLD = "difficulty from which the large model writes; default: %(default)s"


def add_question(parser: argparse.ArgumentParser) -> None:
    """What is asked."""
    parser.add_argument("question", nargs="+", metavar="QUESTION", help="- reads standard input")


def add_endpoints(parser: argparse.ArgumentParser) -> None:
    """Who answers."""
    group = parser.add_argument_group("models, each a URL or provider:model")
    group.add_argument("--small", metavar="MODEL", help="writes the easy parts")
    group.add_argument("--large", metavar="MODEL", help="writes the hard parts, and whole answers")
    group.add_argument("--planner", metavar="MODEL", help="plans; default: the large model")
    add_key(group)


def add_key(
    parser: argparse._ActionsContainer, what: str = "environment variable that holds the key"
) -> None:
    """Where the key is."""
    parser.add_argument("--api-key-env", metavar="NAME", help=what)


def add_listening(parser: argparse.ArgumentParser, *, port: int) -> None:
    """Of a server: where it listens, and to whom."""
    group = parser.add_argument_group("who may connect")
    group.add_argument("--host", default="127.0.0.1", help="default: %(default)s")
    group.add_argument(
        "--port",
        type=count(0, 65535),
        default=port,
        help="0 takes a free one; default: %(default)s",
    )
    group.add_argument(
        "--require-key-env",
        metavar="NAME",
        help="environment variable with the key that clients must send; default: SGD_PROXY_API_KEY."
        " Needed beyond loopback",
    )
    group.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="another host name to answer to on loopback, such as that of a reverse proxy",
    )


def add_proxying(parser: argparse.ArgumentParser) -> None:
    """Of the proxy."""
    group = parser.add_argument_group("serving")
    group.add_argument(
        "--cors-origin",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="another web page that may use the server, such as https://chat.example; default: none",
    )
    group.add_argument(
        "--concurrent",
        type=count(1),
        default=64,
        metavar="N",
        help="questions at once; default: %(default)s",
    )
    group.add_argument(
        "--timeout",
        type=seconds,
        default=600.0,
        metavar="SECONDS",
        help="of one answer; default: %(default)g",
    )
    group.add_argument(
        "--history",
        type=count(0),
        default=50,
        metavar="N",
        help="runs kept in memory; default: %(default)s",
    )
    group.add_argument(
        "--progress",
        choices=("off", "reasoning", "think"),
        default="off",
        help="tell the plan in reasoning_content or <think>; default: %(default)s",
    )
    add_most_nodes(group)
    group.add_argument("--threshold", type=count(1, 6), default=3, metavar="1-6", help=_THRESHOLD)


def add_planning(parser: argparse._ActionsContainer) -> None:
    """Whether and how far a question is split."""
    modes = ("auto", "always", "never")
    parser.add_argument(
        "--mode",
        choices=modes,
        default="auto",
        help="whether to split; default: the planner decides",
    )
    add_most_nodes(parser)


def add_most_nodes(parser: argparse._ActionsContainer) -> None:
    """How long a plan may be."""
    parser.add_argument(
        "--max-nodes",
        type=count(2, 99),
        default=12,
        metavar="N",
        help="most parts of a plan; default: %(default)s",
    )


def add_decoding(parser: argparse.ArgumentParser) -> None:
    """How an answer comes about."""
    group = parser.add_argument_group("decoding")
    add_planning(group)
    group.add_argument(
        "--threshold",
        type=count(1, 6),
        default=3,
        metavar="1-6",
        help=_THRESHOLD,
    )
    group.add_argument("--deadline", type=seconds, metavar="SECONDS", help="of the whole answer")
    group.add_argument("--seed", type=count(0), metavar="N", help="passed to the models")


def add_judging(parser: argparse.ArgumentParser) -> None:
    """Of `judge`."""
    parser.add_argument(
        "answers",
        type=existing_file,
        metavar="ANSWERS.jsonl",
        help="what bench --resume keeps: lines with question_id, category, question, method, answer",
    )
    parser.add_argument(
        "--against", required=True, metavar="METHOD", help="what the others are compared with"
    )
    parser.add_argument("--methods", nargs="+", metavar="METHOD", help="only these; default: all")
    parser.add_argument("--options", metavar="ID", help="only lines measured with these options")
    parser.add_argument("--limit", type=count(1), metavar="N", help="questions, of all categories")
    parser.add_argument(
        "--references", type=existing_file, metavar="FILE", help="JSONL of right answers"
    )
    parser.add_argument(
        "--resume", type=new_file, metavar="FILE", help="JSONL of verdicts to go on from"
    )
    parser.add_argument(
        "--json",
        type=file_to_write,
        metavar="FILE",
        help="write the figures; - for standard output",
    )
    parser.add_argument("--yes", action="store_true", help="do not ask whether to go on")
    people = parser.add_argument_group("people as judges")
    which = people.add_mutually_exclusive_group()
    which.add_argument(
        "--write-pairs",
        type=file_to_write,
        metavar="FILE",
        help="write the pairs, blind, for people to read",
    )
    which.add_argument(
        "--read-pairs",
        type=existing_file,
        metavar="FILE",
        help="take the verdicts that stand in it",
    )
    people.add_argument(
        "--reader", default="1", metavar="NAME", help="who reads; each has a file of their own"
    )
    group = parser.add_argument_group("judge")
    group.add_argument(
        "--judge",
        "--judge-model",
        metavar="MODEL",
        help="URL or provider:model; default: SGD_JUDGE",
    )
    add_key(group)
    group.add_argument(
        "--temperature", type=number, metavar="T", help="default: 0 on a server named by its URL"
    )
    group.add_argument("--max-tokens", type=count(1), default=1024, help="of a verdict")
    group.add_argument("--concurrency", type=count(1), default=8, help="calls in flight")
    group.add_argument(
        "--prompts", type=existing_file, metavar="FILE", help="JSON of other templates"
    )
    group.add_argument(
        "--price", type=number, nargs=2, metavar=("IN", "OUT"), help="per million tokens"
    )
