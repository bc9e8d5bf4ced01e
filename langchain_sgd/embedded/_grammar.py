"""Grammars that hold a model's output: compiled by llguidance, stepped token by token.

A grammar that cannot be compiled is an `EngineInputError` with llguidance's own reason: nothing is ever
decoded without the constraint that was asked for.
"""

from __future__ import annotations

import ctypes as c
import json
import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from langchain_sgd.embedded._llama import GrammarTokenizerInit, Library, TokenizeFunction
from langchain_sgd.embedded._vocabulary import Vocabulary
from langchain_sgd.embedded.engine import EngineError, EngineInputError, Grammar

_CACHED: Final = 32
_FORCED_LIMIT: Final = 64
_INIT_SIZE: Final = 1024
_SPECIAL_MARK: Final = b"\xff"


class Matcher:
    """One request's position in its grammar. Not thread-safe."""

    def __init__(self, lib: Library, pointer: int, compiler: Compiler) -> None:
        self._lib = lib
        self._pointer = pointer
        # The tokenizer must outlive every matcher made from it.
        self._compiler = compiler
        self._forced = (c.c_uint32 * _FORCED_LIMIT)()

    def __del__(self) -> None:
        self._lib.llg_free_matcher(self._pointer)

    def clone(self) -> Matcher:
        """A matcher at the same position; cheap, what was computed is shared."""
        return Matcher(self._lib, self._lib.llg_clone_matcher(self._pointer), self._compiler)

    def mask(self, logits: npt.NDArray[np.float32]) -> None:
        """Make every token that the grammar forbids here impossible.

        Raises:
            EngineError: The grammar has grown beyond llguidance's limits.
        """
        words = self._compiler.mask_words
        if self._lib.llg_matcher_compute_mask_into(self._pointer, words.ctypes.data, words.nbytes):
            self._fail()
        allowed = np.unpackbits(words.view(np.uint8), count=len(logits), bitorder="little")
        ends = self._compiler.end_tokens
        if len(ends) > 1 and allowed[ends[0]]:
            allowed[ends] = 1
        logits[allowed == 0] = -np.inf

    def consume(self, token: int) -> None:
        """Advance by one token.

        Raises:
            EngineError: The token does not fit.
        """
        if self._lib.llg_matcher_consume_token(self._pointer, token):
            self._fail()

    def forced(self) -> list[int]:
        """The tokens that must follow whatever the model thinks; empty where it has a choice."""
        count = self._lib.llg_matcher_compute_ff_tokens(self._pointer, self._forced, _FORCED_LIMIT)
        return list(self._forced[:count]) if count > 0 else []

    def finished(self) -> bool:
        """Whether only the end-of-sequence token may follow."""
        return bool(self._lib.llg_matcher_is_stopped(self._pointer))

    def _fail(self) -> None:
        reason = _reason(self._lib.llg_matcher_get_error(self._pointer))
        msg = f"The grammar could not be followed any further: {reason}"
        raise EngineError(msg)


class Compiler:
    """Compiles grammars for one vocabulary and remembers the last ones. Thread-safe."""

    def __init__(self, lib: Library, vocabulary: Vocabulary, separators: tuple[str, str]) -> None:
        self._lib = lib
        self._vocabulary = vocabulary
        self._separators = separators
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[str, str], Matcher] = OrderedDict()
        self.end_tokens: Final = np.array(vocabulary.end_tokens)
        self.mask_words: Final = np.zeros((len(vocabulary) + 31) // 32, np.uint32)
        self._tokenize = TokenizeFunction(self._tokenize_bytes)
        self._tokenizer = self._new_tokenizer()
        self._init = c.create_string_buffer(_INIT_SIZE)
        lib.llg_constraint_init_set_defaults(self._init, self._tokenizer)

    def __del__(self) -> None:
        tokenizer = getattr(self, "_tokenizer", None)
        if tokenizer:
            self._lib.llg_free_tokenizer(tokenizer)

    def compile(self, grammar: Grammar) -> Matcher:
        """A matcher at the grammar's start; the first one of a grammar takes milliseconds and more.

        Raises:
            EngineInputError: The grammar cannot be compiled; the message says why.
        """
        kind, text = grammar_text(grammar, self._separators)
        with self._lock:
            known = self._known.get((kind, text))
            if known is None:
                known = self._known[kind, text] = self._new_matcher(kind, text)
                if len(self._known) > _CACHED:
                    self._known.popitem(last=False)
            self._known.move_to_end((kind, text))
            return known.clone()

    def _new_matcher(self, kind: str, text: str) -> Matcher:
        pointer = self._lib.llg_new_matcher(self._init, kind.encode(), text.encode())
        matcher = Matcher(self._lib, pointer, self)
        error = self._lib.llg_matcher_get_error(pointer)
        if error:
            what = "regular expression" if kind == "regex" else "JSON schema"
            msg = f"The {what} cannot be compiled: {_reason(error)}"
            raise EngineInputError(msg)
        return matcher

    def _new_tokenizer(self) -> int:
        pieces = [
            self._vocabulary.piece(token)
            or _SPECIAL_MARK + self._vocabulary.special_text(token).encode()
            for token in range(len(self._vocabulary))
        ]
        lengths = np.array([len(piece) for piece in pieces], np.uint32)
        init = GrammarTokenizerInit(
            vocab_size=len(pieces),
            tok_eos=self._vocabulary.end_tokens[0],
            token_lens=lengths.ctypes.data,
            token_bytes=b"".join(pieces),
            tokenize_assumes_string=True,
            tokenize_fn=c.cast(self._tokenize, c.c_void_p),
        )
        complaint = c.create_string_buffer(_INIT_SIZE)
        tokenizer: int | None = self._lib.llg_new_tokenizer(c.byref(init), complaint, _INIT_SIZE)
        if tokenizer is None:
            msg = f"llguidance refuses this model's vocabulary: {_reason(complaint.value)}"
            raise EngineError(msg)
        return tokenizer

    def _tokenize_bytes(
        self, _data: int | None, text: int | None, size: int, out: int | None, room: int
    ) -> int:
        tokens = self._vocabulary.tokenize(c.string_at(text, size) if text else b"", special=False)
        if out and room:
            kept = tokens[:room]
            c.memmove(out, kept.ctypes.data, kept.nbytes)
        return len(tokens)


def grammar_text(grammar: Grammar, separators: tuple[str, str]) -> tuple[str, str]:
    """Say a grammar in llguidance's words: the name of its kind, and its text.

    JSON is written without optional whitespace, with the given item and key separators, because
    small models drown in whitespace where it is legal; a schema's own `x-guidance` is kept. As in
    TGI, objects hold the properties that their schema names unless it allows others.

    Raises:
        EngineInputError: The schema is no JSON object, or not JSON at all.
    """
    if grammar.kind == "regex":
        if not isinstance(grammar.value, str):
            msg = f"A regex grammar needs a string, not {type(grammar.value).__name__}"
            raise EngineInputError(msg)
        if "\0" in grammar.value:
            msg = "A regex grammar cannot hold a NUL character"
            raise EngineInputError(msg)
        return "regex", grammar.value
    schema: Any = grammar.value
    if isinstance(schema, str):
        try:
            schema = json.loads(schema)
        except ValueError as error:
            msg = f"The JSON schema is not valid JSON: {error}"
            raise EngineInputError(msg) from error
    if not isinstance(schema, Mapping):
        msg = f"A JSON schema must be an object, not {type(schema).__name__}"
        raise EngineInputError(msg)
    item, key = separators
    style = {"whitespace_flexible": False, "item_separator": item, "key_separator": key}
    try:
        closed = {"x-guidance": style, **_closed(schema, "the schema")}
        return "json", json.dumps(closed, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:
        msg = f"The JSON schema cannot be written as JSON: {error}"
        raise EngineInputError(msg) from error


_TYPES: Final = frozenset({"object", "array", "string", "integer", "number", "boolean", "null"})


def _closed(schema: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The schema as TGI reads it: what has properties is an object, and has no others.

    Raises:
        EngineInputError: Something is unknown that llguidance would quietly read as "anything".
    """
    named = schema.get("type")
    for name in named if isinstance(named, list) else [] if named is None else [named]:
        if name not in _TYPES:
            msg = f"Unknown type {name!r} in {where}; JSON schema knows {', '.join(sorted(_TYPES))}"
            raise EngineInputError(msg)

    closed = dict(schema)
    for keyword in ("properties", "$defs", "definitions"):
        if keyword in schema:
            inner = schema[keyword]
            if not isinstance(inner, Mapping):
                msg = f"{keyword!r} in {where} must be an object, not {type(inner).__name__}"
                raise EngineInputError(msg)
            closed[keyword] = {
                name: _closed(each, f"{keyword} {name!r}") if isinstance(each, Mapping) else each
                for name, each in inner.items()
            }
    if isinstance(schema.get("items"), Mapping):
        closed["items"] = _closed(schema["items"], f"items of {where}")
    for keyword in ("anyOf", "oneOf", "prefixItems"):
        if isinstance(schema.get(keyword), list):
            closed[keyword] = [
                _closed(each, f"{keyword} of {where}") if isinstance(each, Mapping) else each
                for each in schema[keyword]
            ]
    if "properties" in schema:
        closed.setdefault("type", "object")
        # Parts of an allOf add to each other's properties.
        if "allOf" not in schema:
            closed.setdefault("additionalProperties", False)
    return closed


def _reason(text: bytes | None) -> str:
    """The complaint in one line; a regex parser's own stands after "error:"."""
    lines = (text or b"unknown error").decode(errors="replace").strip().splitlines()
    named = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return (named or lines or ["unknown error"])[0]
