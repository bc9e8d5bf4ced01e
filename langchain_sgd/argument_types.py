"""Options of the command line read into values, or refused in words."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

_WRITTEN: Final = ("json", "resume", "html", "svg", "write_pairs")
"""Options that name a file which is written."""


class Parser(argparse.ArgumentParser):
    """Refuses a key, which others would see among the processes, and shows it nowhere.

    Also a file that is to be written and has another part to play: one would spoil the other.
    """

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse has it."""
        found, rest = super().parse_known_args(args, namespace)
        if any(each.partition("=")[0] in {"--api-key", "--key"} for each in rest):
            self.error(
                "keys come from the environment: put it into SGD_API_KEY (see langchain-sgd --help)"
            )
        parts: dict[Path, str] = {}
        for name, value in sorted(vars(found).items(), key=lambda each: each[0] not in _WRITTEN):
            if not isinstance(value, Path) or value == Path("-"):
                continue
            before = parts.setdefault(value.resolve(), name)
            if before != name and before in _WRITTEN:
                both = " and ".join(f"--{each.replace('_', '-')}" for each in (before, name))
                self.error(f"{both} name the same file {value}")
        return found, rest


def count(least: int, most: int | None = None) -> Callable[[str], int]:
    """Reads a whole number within bounds."""

    def count(text: str) -> int:
        number = int(text)
        if number < least or (most is not None and number > most):
            wanted = f"{least} to {most}" if most is not None else f"{least} or more"
            msg = f"must be {wanted}, not {number}"
            raise argparse.ArgumentTypeError(msg)
        return number

    count.__name__ = "whole number"
    return count


def seconds(text: str) -> float:
    """A time that is not 0."""
    value = float(text)
    if not 0 < value < float("inf"):
        msg = f"must be more than 0, not {text}"
        raise argparse.ArgumentTypeError(msg)
    return value


seconds.__name__ = "number"


def number(text: str) -> float:
    """A number from 0 on."""
    value = float(text)
    if not 0 <= value < float("inf"):
        msg = f"must be 0 or more, not {text}"
        raise argparse.ArgumentTypeError(msg)
    return value


number.__name__ = "number"


def probability(text: str) -> float:
    """A number above 0, and at most 1."""
    value = float(text)
    if not 0 < value <= 1:
        msg = f"must be above 0 and at most 1, not {text}"
        raise argparse.ArgumentTypeError(msg)
    return value


probability.__name__ = "number"


def file_to_write(text: str) -> Path:
    """A file that can be written, known before the models have worked for it; or `-`."""
    path = Path(text)
    if text == "-":
        return path
    msg = ""
    if path.is_dir():
        msg = f"{path} is a folder; name a file in it"
    elif not path.parent.is_dir():
        msg = f"there is no folder {path.parent}"
    elif not os.access(path if path.exists() else path.parent, os.W_OK):
        msg = f"{path} cannot be written"
    if msg:
        raise argparse.ArgumentTypeError(msg)
    return path


def new_file(text: str) -> Path:
    """A file that can be written, in a folder that is made if need be; no `-`."""
    if text == "-":
        msg = "name a file; standard output has the rest"
        raise argparse.ArgumentTypeError(msg)
    try:
        Path(text).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return file_to_write(text)


def existing_file(text: str) -> Path:
    """A file that is there."""
    path = Path(text)
    if not path.is_file():
        msg = f"there is no file {path}"
        raise argparse.ArgumentTypeError(msg)
    return path


def existing_path(text: str) -> Path:
    """A file or folder that is there."""
    path = Path(text)
    if not path.exists():
        msg = f"there is no {path}"
        raise argparse.ArgumentTypeError(msg)
    return path


def named_file(text: str) -> tuple[str, Path]:
    """`NAME=PATH`, of a file or folder that is there."""
    name, equals, path = text.partition("=")
    if not (name and equals and Path(path).exists()):
        msg = f"{text!r} is not NAME=PATH with a file or a folder that exists"
        raise argparse.ArgumentTypeError(msg)
    return name, Path(path)


class Named(argparse.Action):
    """Collects names and their values into a mapping; a name that stands twice is refused."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """As argparse wants it."""
        del parser, option_string
        found = dict(getattr(namespace, self.dest))
        for name, value in values if isinstance(values, list) else [values]:
            if name in found:
                msg = f"{name!r} is given twice"
                raise argparse.ArgumentError(self, msg)
            found[name] = value
        setattr(namespace, self.dest, found)
