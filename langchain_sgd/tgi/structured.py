"""Answers in the form of a schema, read strictly: what was cut or breaks a bound is no answer."""

from __future__ import annotations

from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING

from langchain_core.language_models import LanguageModelInput
from langchain_core.runnables import Runnable, RunnableLambda, RunnableMap, RunnablePassthrough
from langchain_core.utils.function_calling import convert_to_json_schema, convert_to_openai_tool
from langchain_core.utils.pydantic import is_basemodel_subclass

from langchain_sgd.tgi import plain_json, schemas
from langchain_sgd.tgi.errors import TGIGrammarError
from langchain_sgd.tgi.fitting import Fit

if TYPE_CHECKING:
    from langchain_sgd.tgi.chat import ChatTGI

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, Final

from langchain_core.exceptions import OutputParserException
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.output_parsers.transform import BaseTransformOutputParser
from langchain_core.outputs import ChatGeneration, Generation
from langchain_core.utils.json import parse_partial_json
from pydantic import BaseModel, ConfigDict, ValidationError

_CHOICES: Final = frozenset({"anyOf", "oneOf", "allOf", "$ref"})
_VALUES: Final = frozenset({"enum", "const", "prefixItems"})
_KINDS: Final = frozenset({"object", "array", "string", "integer", "number", "boolean", "null"})
_SHOWN: Final = 500
"""Characters of an answer that a message repeats."""


class StructuredParser(BaseTransformOutputParser[Any]):
    """Makes a pydantic object or a dict of an answer, or raises an `OutputParserException`.

    TGI cannot be asked to keep bounds, and `max_tokens` may cut an answer, so both are looked at here. A
    stream gives growing dicts, of a pydantic class the whole object only, and raises at its end where
    the answer is none.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    model: Any = None
    """The pydantic class, if there is one."""
    json_schema: Mapping[str, Any] | None = None
    """What a dict is checked against, if there is none."""
    tool: bool = False
    """Whether the answer is a tool call's arguments."""
    growing: bool = True
    """Whether a stream gives what there is of a dict."""

    @property
    def _type(self) -> str:
        return "tgi-structured"

    def parse(self, text: str) -> Any:
        """Read an answer's text."""
        return self.parse_result([Generation(text=text)])

    def parse_result(self, result: list[Generation], *, partial: bool = False) -> Any:
        """Read an answer.

        Raises:
            OutputParserException: It was cut, is no JSON, or does not fit the schema.
        """
        generation = result[0]
        message = generation.message if isinstance(generation, ChatGeneration) else None
        if partial:
            return self._so_far(generation.text, message)
        return self._whole(generation.text, message)

    def _transform(self, input: Iterator[str | BaseMessage]) -> Iterator[Any]:
        growth = _Growth(self)
        for piece in input:
            yield from growth.add(piece)
        yield from growth.end()

    async def _atransform(self, input: AsyncIterator[str | BaseMessage]) -> AsyncIterator[Any]:
        growth = _Growth(self)
        async for piece in input:
            for value in growth.add(piece):
                yield value
        for value in growth.end():
            yield value

    def _so_far(self, text: str, message: BaseMessage | None) -> Any:
        if self.model is not None or not self.growing:
            return None
        if self.tool:
            calls = message.tool_calls if isinstance(message, AIMessage) else []
            return calls[0]["args"] if calls else None
        try:
            found = parse_partial_json(text.strip())
        except ValueError:
            return None
        return found if isinstance(found, dict) else None

    def _whole(self, text: str, message: BaseMessage | None) -> Any:
        text = self._call(message) if self.tool else text.strip()
        metadata = message.response_metadata if message is not None else {}
        try:
            found = json.loads(text, strict=False)
        except (ValueError, RecursionError):
            if metadata.get("finish_reason") == "length":
                msg = (
                    f"max_tokens cut the JSON: raise it, or ask for less. What came: {_short(text)}"
                )
            else:
                msg = f"The answer is no JSON. What came: {_short(text)}"
            raise OutputParserException(msg, llm_output=text) from None
        if self.model is not None:
            return self._object(text, found)
        if (broken := self._broken(found)) is not None:
            msg = f"The answer does not fit the schema: {broken}. What came: {_short(text)}"
            raise OutputParserException(msg, llm_output=text)
        return found

    def _call(self, message: BaseMessage | None) -> str:
        calls = message.tool_calls if isinstance(message, AIMessage) else []
        if calls:
            return json.dumps(calls[0]["args"])
        invalid = message.invalid_tool_calls if isinstance(message, AIMessage) else []
        return (invalid[0]["args"] or "") if invalid else ""

    def _object(self, text: str, found: Any) -> Any:
        try:
            if issubclass(self.model, BaseModel):
                return self.model.model_validate_json(json.dumps(found))
            return self.model.parse_obj(found)  # of pydantic's first version
        except ValueError as error:
            first = error.errors()[0] if isinstance(error, ValidationError) else None
            why = str(error) if first is None else f"{_place(first['loc'])}: {first['msg']}"
            msg = f"The answer does not fit {self.model.__name__}: {why}. What came: {_short(text)}"
            raise OutputParserException(msg, llm_output=text) from error

    def _broken(self, found: Any) -> str | None:
        """Say what of the schema an answer breaks."""
        if self.json_schema is None:
            return None
        from jsonschema import Draft202012Validator  # noqa: PLC0415 - only dicts need it
        from jsonschema.exceptions import best_match  # noqa: PLC0415

        worst = best_match(Draft202012Validator(self.json_schema).iter_errors(found))
        return None if worst is None else f"{_place(worst.absolute_path)}: {_short(worst.message)}"


class _Growth:
    """Adds up a stream and reads it as it grows."""

    def __init__(self, parser: StructuredParser) -> None:
        self._parser = parser
        self._texts: list[str] = []
        self._messages: list[BaseMessage] = []
        self._last: Any = None

    def add(self, piece: str | BaseMessage) -> Iterator[Any]:
        """Take a piece and give what there is now, if it is more than before."""
        if isinstance(piece, str):
            self._texts.append(piece)
        else:
            self._messages.append(piece)
        if self._parser.model is None and self._parser.growing:
            found = self._parser.parse_result([self._generation()], partial=True)
            if found is not None and found != self._last:
                self._last = found
                yield found

    def end(self) -> Iterator[Any]:
        """Give the whole, if it has not been given."""
        found = self._parser.parse_result([self._generation()])
        if found != self._last or self._parser.model is not None:
            yield found

    def _generation(self) -> Generation:
        if not self._messages:
            return Generation(text="".join(self._texts))
        first, *others = self._messages
        if others and isinstance(first, AIMessageChunk):
            first = first + others
        self._messages = [first]
        return ChatGeneration(message=first)


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _place(path: Any) -> str:
    return ".".join(map(str, path)) or "the answer"


def _bound(
    model: ChatTGI, schema: Any, fit: dict[str, Any], shown: dict[str, Any], *, tool: bool
) -> Runnable[LanguageModelInput, BaseMessage]:
    """The model bound to the schema's own grammar; a `TGIGrammarError` where that is too large."""
    if not tool:
        schemas.check(fit, model.max_grammar_states)
        form = {"type": "json", "value": fit}
        return model.bind(response_format=form, ls_structured_output_format=shown)
    offered = convert_to_openai_tool(schema)
    schemas.sendable_tools([offered], None, model.max_grammar_states)
    name = offered["function"]["name"]
    return model.bind_tools([schema], tool_choice=name, ls_structured_output_format=shown)


def _told(
    model: ChatTGI, schema: Any, fit: dict[str, Any], shown: dict[str, Any]
) -> Runnable[LanguageModelInput, BaseMessage]:
    """The model bound to JSON of any form, and told the schema."""
    levels = min(plain_json.depth(fit), plain_json.DEEPEST)
    is_object = fit.get("type") == "object" or "properties" in fit
    form = {"type": "regex", "value": plain_json.expression(levels, is_object=is_object)}
    schemas.sendable(form, model.max_grammar_states)
    llm = model.bind(response_format=form, ls_structured_output_format=shown)
    return RunnableLambda(partial(plain_json.ask, schema=schema)) | llm


def _is_lost(schema: dict[str, Any]) -> bool:
    """Whether LangChain's conversion, which is made for objects with properties, would lose what it says."""
    if schema.keys() & _CHOICES:
        return True
    kind = schema.get("type")
    is_value = bool(schema.keys() & _VALUES) or (isinstance(kind, str) and kind in _KINDS)
    return is_value and "properties" not in schema


def structured(
    model: ChatTGI,
    schema: dict[str, Any] | type,
    *,
    include_raw: bool,
    method: str,
    tool: bool,
) -> Runnable[LanguageModelInput, Any]:
    """The model bound to a schema, and what reads its answers; see `ChatTGI.with_structured_output`."""
    is_class = isinstance(schema, type) and is_basemodel_subclass(schema)
    json_schema = (
        schema if isinstance(schema, dict) and _is_lost(schema) else convert_to_json_schema(schema)
    )
    shown = {"kwargs": {"method": method}, "schema": json_schema}
    # The converted schema has lost what a class says of itself, such as that it holds itself.
    own = getattr(schema, "model_json_schema", None) if is_class else None
    whole = json_schema if own is None else own()
    fit = Fit(whole, descriptions=False).any(whole, "the schema", ())
    llm: Runnable[LanguageModelInput, BaseMessage] | None = None
    if "properties" in fit:
        try:
            llm = _bound(model, schema, fit, shown, tool=tool)
        except TGIGrammarError:
            if plain_json.depth(fit) > plain_json.DEEPEST:
                raise
    if llm is None:
        tool = False
        llm = _told(model, whole, fit, shown)
    parser = StructuredParser(
        model=schema if is_class else None,
        json_schema=None if is_class else json_schema,
        tool=tool,
        growing=not include_raw,
    )
    if not include_raw:
        return llm | parser
    parsed = RunnablePassthrough.assign(
        parsed=itemgetter("raw") | parser, parsing_error=lambda _: None
    )
    failed = RunnablePassthrough.assign(parsed=lambda _: None)
    return RunnableMap(raw=llm) | parsed.with_fallbacks([failed], exception_key="parsing_error")
