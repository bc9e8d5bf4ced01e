"""Keys as they are given: read from the environment, and checked before they go into a header."""

from __future__ import annotations

import os

from pydantic import SecretStr

from langchain_sgd.errors import InvalidInputError


def key_from_environment(name: str) -> SecretStr | None:
    """The key that a variable of the environment holds; None if it holds none.

    Raises:
        InvalidInputError: No header can carry it; the message does not show it.
    """
    return checked_key(os.environ.get(name), f"the environment variable {name}")


def checked_key(key: SecretStr | str | None, where: str) -> SecretStr | None:
    """A key without the blanks and line ends around it, which files add; None if nothing is left.

    Args:
        key: As it was given.
        where: Where it came from, for the message.

    Raises:
        InvalidInputError: No header can carry it; the message does not show it.
    """
    text = (key if isinstance(key, str) else key.get_secret_value() if key else "").strip()
    if not text:
        return None
    if not is_sendable(text):
        msg = f"{where} holds no key: it has a line end in it, or what else no header can carry"
        raise InvalidInputError(msg)
    return SecretStr(text)


def is_sendable(text: str) -> bool:
    """Whether a header can carry a text."""
    return all(" " <= character <= "~" or character == "\t" for character in text)
