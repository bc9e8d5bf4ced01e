"""The command `langchain-sgd`: its options, its errors, its exit codes.

What the commands do is in `commands` and `bench`, which are imported when they are needed:
`--help` loads neither LangChain nor LangGraph.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import traceback
from collections.abc import Callable, Sequence

from langchain_sgd.arguments import FAILED, INTERRUPTED, USAGE, parser
from langchain_sgd.errors import InvalidInputError, SkeletonError

_INTERRUPTED = "interrupted"


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and give its exit code.

    Raises:
        SystemExit: For wrong options (2) and after `--help` (0), as argparse does.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # no answer is lost for one of its characters
    args = parser().parse_args(argv)
    run: Callable[[argparse.Namespace], int] = args.run
    try:
        return run(args)
    except KeyboardInterrupt:
        _complain(_INTERRUPTED)
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read us has gone. Python would complain again when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:  # noqa: BLE001 - the edge: a line for people, the trace with --debug
        if args.debug:
            sys.stderr.write(_shown(traceback.format_exc(), args))
        else:
            _complain(in_a_line(error, args))
        return USAGE if isinstance(_first(error), InvalidInputError | SkeletonError) else FAILED


def parsed(argv: Sequence[str]) -> argparse.Namespace:
    """A command's options with their defaults."""
    return parser().parse_args(argv)


def _complain(text: str) -> None:
    print(f"langchain-sgd: {text}", file=sys.stderr)


def _shown(text: str, args: argparse.Namespace) -> str:
    """An error's text without keys, and without what could steer the terminal: servers write in it."""
    from langchain_sgd.redaction import redacted  # noqa: PLC0415 - for errors only
    from langchain_sgd.terminal.safe import safe  # noqa: PLC0415 - loads Rich

    named = getattr(args, "api_key_env", None)
    given = os.environ.items()
    keys = [value.strip() for k, value in given if k == named or k.endswith("API_KEY")]
    return safe(redacted(text, keys))


def in_a_line(error: BaseException, args: argparse.Namespace) -> str:
    """An error as people read it, without keys; of one that tells nothing, its class too."""
    if isinstance(error, KeyboardInterrupt):
        return _INTERRUPTED
    return _shown(_explained(_first(error)), args)


def _first(error: BaseException) -> BaseException:
    """Of tasks that ran together, the first error says why."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _explained(error: BaseException) -> str:
    text = " ".join(str(error).split())
    expected = type(error).__module__.startswith("langchain_sgd") or isinstance(error, OSError)
    if expected and text:
        return text
    return f"{type(error).__name__}: {text} (--debug shows where)"


# -- commands
