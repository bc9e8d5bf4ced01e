"""A request's body as JSON, refused as TGI's deserializer refuses it."""

from __future__ import annotations

import json
from typing import Any, Final, NoReturn

from langchain_sgd.embedded._errors import RejectionError

PREFIX: Final = "Failed to deserialize the JSON body into the target type: "
_INTEGER_DIGITS: Final = 20
"""Of the longest integer; beyond, JSON's numbers are read as floating."""


# --- JSON


def parse_json(raw: bytes, content_type: str | None) -> Any:
    """Parse a request's body.

    Raises:
        RejectionError: 415 for another content type, 400 for what is not JSON, 422 for a field that stands
            there twice.
    """
    kind, _, subtype = (content_type or "").partition(";")[0].strip().lower().partition("/")
    if kind != "application" or not (subtype == "json" or subtype.endswith("+json")):
        raise RejectionError(415, "Expected request with `Content-Type: application/json`")
    try:
        # What stands after the first value is not read.
        value, _ = _DECODER.raw_decode(raw.decode().lstrip(" \t\r\n"))
        if b"\\u" in raw:
            # Python lets an escaped half of a surrogate pair through; it could not be encoded.
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        reason = "recursion limit exceeded"
    except ValueError as error:
        reason = str(error)
    else:
        return value
    raise RejectionError(400, f"Failed to parse the request body as JSON: {reason}")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise RejectionError(422, f"{PREFIX}duplicate field `{twice}`")
    return found


def _no_constant(name: str) -> NoReturn:
    msg = f"expected value, not {name}"
    raise ValueError(msg)


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_once,
    parse_constant=_no_constant,
    parse_int=lambda digits: int(digits) if len(digits) <= _INTEGER_DIGITS else float(digits),
)
