"""What may be asked for as a schema; LangChain fails on other types with an `AttributeError`."""

from __future__ import annotations

from typing import Any, Final, get_origin, is_typeddict

from langchain_sgd.errors import InvalidInputError

_NO_SCHEMAS: Final = {"builtins", "collections", "collections.abc", "types", "typing"}
"""Where types are from that say nothing of fields, such as `list[Item]` and `Item | None`."""


def check_schema(schema: Any) -> None:
    """See to it that models can be told a schema.

    Raises:
        InvalidInputError: It is a list, a union or another type without fields.
    """
    kind = get_origin(schema) or schema
    if isinstance(schema, dict) or is_typeddict(kind):
        return
    values = isinstance(schema, list | tuple | set | str)
    if values or getattr(kind, "__module__", None) in _NO_SCHEMAS:
        msg = (
            f"{schema.__name__ if isinstance(schema, type) else schema} is no schema: use a pydantic class,"
            " a TypedDict or a JSON schema. For a list or a choice, give a class a field"
            " of that type, such as `items: list[Item]`"
        )
        raise InvalidInputError(msg)
