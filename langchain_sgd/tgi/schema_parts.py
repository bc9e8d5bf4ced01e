"""What the parts of a JSON schema say, with words for what TGI cannot take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from langchain_sgd.tgi.errors import TGIGrammarError

Schema = Mapping[str, Any]

FORMATS: Final[Mapping[str, int]] = {"uuid": 36, "date-time": 37, "date": 16, "time": 15}
"""The formats that TGI knows, and the states of each."""
_LONGEST_PLACE: Final = 60
"""Characters by which a message names a part."""
_BOUNDS: Final = (
    ("minLength", "maxLength"),
    ("minItems", "maxItems"),
    ("minProperties", "maxProperties"),
    ("minimum", "maximum"),
)


class References:
    """Follows the references of a schema and finds those that come back."""

    def __init__(self, root: Schema) -> None:
        self._root = root

    def target(self, reference: str, where: str, open_: tuple[str, ...]) -> Schema:
        """Give what a reference refers to.

        Raises:
            TGIGrammarError: It is inside what it refers to (`open_`), or refers to nothing.
        """
        if reference in open_:
            name = "the schema" if reference == "#" else reference.rpartition("/")[2]
            msg = (
                f"{place(where)} refers to {name} inside {name}, which aborts a TGI server. Write the "
                "levels out that you need, or give a flat list with the number of each entry's parent."
            )
            raise TGIGrammarError(msg)
        found: Any = self._root
        if reference != "#":
            for part in reference.removeprefix("#/").split("/"):
                name = part.replace("~1", "/").replace("~0", "~")
                found = found.get(name) if isinstance(found, Mapping) else None
        if not reference.startswith("#") or not isinstance(found, Mapping):
            msg = f"{place(where)} refers to {reference!r}, which is not in the schema: put it under $defs."
            raise TGIGrammarError(msg)
        return found


def place(where: str) -> str:
    """Name a place that may lie deep."""
    return where if len(where) <= _LONGEST_PLACE else f"...{where[-_LONGEST_PLACE:]}"


def typed(schema: Any, where: str) -> Schema:
    """Give a part that says what it is, and whose bounds leave something.

    Raises:
        TGIGrammarError: It does not.
    """
    if not isinstance(schema, Mapping) or not (
        schema.keys()
        & {"type", "enum", "const", "anyOf", "oneOf", "allOf", "$ref", "properties", "prefixItems"}
    ):
        msg = (
            f"{place(where)} has no type, which TGI writes out as every JSON value there is. Give it one: "
            "str instead of Any, list[str] instead of list, dict[str, str] instead of dict."
        )
        raise TGIGrammarError(msg)
    for least, most in _BOUNDS:
        low, high = number(schema, least), number(schema, most)
        if low is not None and high is not None and low > high:
            msg = (
                f"{place(where)} has {least} {low} above {most} {high}, so nothing fits: swap them."
            )
            raise TGIGrammarError(msg)
    return schema


def number(schema: Schema, name: str) -> int | float | None:
    """Give a number that a schema says; None if it says none."""
    value = schema.get(name)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
