"""What is sent of a schema, and what is not sent at all."""

from __future__ import annotations

import datetime as dt
import enum
import json
import re
import time
import uuid
from typing import Any, Literal

import pytest
from langchain_core.exceptions import OutputParserException
from pydantic import BaseModel, Field, RootModel, ValidationError, create_model
from text_generation.types import Grammar, GrammarType

from langchain_sgd.errors import InvalidInputError
from langchain_sgd.expressions import states_of
from langchain_sgd.tgi import ChatTGI, TGIBadRequestError, TGIClient, TGIGrammarError
from langchain_sgd.tgi.fitting import fitted
from langchain_sgd.tgi.payloads import chat_payload
from langchain_sgd.tgi.schema_states import states_of_schema
from langchain_sgd.tgi.schemas import check, check_body, fitted_tool, sendable, sendable_tools
from tests.tgi_memory import URL, answering, response

TEXT = {"type": "string"}
NUMBER = {"type": "integer"}


def an_object(*required: str, **properties: Any) -> dict[str, Any]:
    names = list(required) or list(properties)
    return {"type": "object", "properties": properties, "required": names}


def texts(count: int) -> dict[str, Any]:
    return {f"name_{number}": TEXT for number in range(count)}


class Color(enum.Enum):
    red = "red"
    green = "green"


class Address(BaseModel):
    street: str = Field(max_length=80)
    zip_code: str = Field(pattern=r"^[0-9]{5}$")


class Person(BaseModel):
    """Somebody."""

    name: str = Field(min_length=1, max_length=80, description="The whole name.")
    age: int | None = Field(default=None, ge=0, le=150)
    rating: int = Field(ge=1, le=5)
    tags: list[str] = Field(min_length=2, max_length=9)
    color: Color
    kind: Literal["a", "b"] = "a"
    address: Address
    score: float = Field(gt=0, lt=1)
    since: dt.date
    email: str = Field(json_schema_extra={"format": "email"})
    note: str = Field(pattern="^.*$")


def test_an_ordinary_class_is_sent_without_what_counts() -> None:
    address = an_object("street", "zip_code", street=TEXT, zip_code={**TEXT, "pattern": "[0-9]{5}"})
    assert fitted(Person.model_json_schema()) == {
        "type": "object",
        "properties": {
            "name": {"type": "string", "minLength": 1},
            "age": {"anyOf": [NUMBER, {"type": "null"}]},
            "rating": {"enum": [1, 2, 3, 4, 5]},
            "tags": {"type": "array", "items": TEXT, "minItems": 1},
            "color": {"enum": ["red", "green"]},
            "kind": {"enum": ["a", "b"]},
            "address": address,
            "score": {"type": "number"},
            "since": {"type": "string", "format": "date"},
            "email": TEXT,
            "note": TEXT,  # its pattern would let a quotation mark through
        },
        "required": [
            *("name", "rating", "tags", "color", "address", "score", "since", "email", "note"),
        ],
    }


def test_an_ordinary_class_is_within_the_bound() -> None:
    check(fitted(Person.model_json_schema()), 300)


class Optional(BaseModel):
    a: str = ""
    b: str | None = None


def test_of_optional_properties_alone_all_are_asked_for() -> None:
    """TGI writes out every choice of them: eight take it minutes."""
    assert fitted(Optional.model_json_schema())["required"] == ["a", "b"]


@pytest.mark.parametrize(
    ("schema", "measured"),
    [
        # The states of TGI's own automata, by outlines-core at ba10c619 and interegular 0.3.3.
        (an_object(a=TEXT), 16),
        (an_object(a=NUMBER), 15),
        (an_object(a={"type": "number"}), 22),
        (an_object(a={"type": "boolean"}), 20),
        (an_object(**texts(10)), 192),
        (an_object("name_0", **texts(9)), 173),
        ({"type": "object", "properties": texts(4)}, 224),
        ({"type": "object", "properties": texts(6)}, 920),
        (an_object(**{n: {"anyOf": [t, {"type": "null"}]} for n, t in texts(10).items()}), 232),
        (an_object(a={"type": "array", "items": TEXT}), 27),
        (an_object(a={"type": "array", "items": an_object(x=TEXT, y=NUMBER)}), 73),
        (an_object(a={"type": "array", "items": TEXT, "minItems": 2, "maxItems": 4}), 41),
        (an_object(a={"type": "array", "prefixItems": [TEXT, NUMBER]}), 27),
        (an_object(a={"type": "object", "additionalProperties": TEXT}), 44),
        (an_object(a={**TEXT, "format": "uuid"}), 49),
        (an_object(a={**TEXT, "format": "date-time"}), 50),
        (an_object(a={**TEXT, "maxLength": 30}), 103),
        (an_object(a={"enum": list(range(20))}), 31),
        (an_object(a={"enum": ["red", "green", "blue", "grey"]}), 29),
        ({"type": "object", "properties": {}}, 4),
    ],
)
def test_states_are_those_that_tgi_makes(schema: dict[str, Any], measured: int) -> None:
    assert abs(states_of_schema(schema) - measured) <= max(4, measured // 5)


Any_ = create_model("Any_", x=(Any, ...))
Bare = create_model("Bare", x=(list, ...))
Loose = create_model("Loose", x=(dict, ...))


class Tree(BaseModel):
    children: list[Tree] = []


@pytest.mark.parametrize(
    ("model", "words"),
    [(Any_, "str instead of Any"), (Bare, "list[str]"), (Loose, "dict[str, str]"), (Tree, "Tree")],
)
def test_a_class_that_tgi_cannot_take_is_refused_when_it_is_given(
    model: type[BaseModel], words: str
) -> None:
    for method in ("json_schema", "function_calling"):
        with pytest.raises(TGIGrammarError) as caught:
            ChatTGI(base_url=URL).with_structured_output(model, method=method)
        assert words in str(caught.value)
        assert isinstance(caught.value, InvalidInputError)
        assert isinstance(caught.value, TGIBadRequestError)


@pytest.mark.parametrize(
    "schema",
    [
        an_object(a={"type": "array", "items": NUMBER, "minItems": 3, "maxItems": 1}),
        an_object(a={**TEXT, "minLength": 3, "maxLength": 1}),
        an_object(a={**NUMBER, "minimum": 3, "maximum": 1}),
        an_object(a={}),
        an_object(a={"description": "anything"}),
        an_object(a={"type": "array"}),
        an_object(a={"type": "object"}),
        an_object(a={"$ref": "#"}),
        an_object(a={"$ref": "#/$defs/missing"}),
        an_object(a={"$ref": "https://example.org/schema"}),
        {
            "$defs": {"A": {"anyOf": [{"$ref": "#/$defs/A"}, TEXT]}},
            **an_object(a={"$ref": "#/$defs/A"}),
        },
        an_object(a={**TEXT, "pattern": "(?=a)b"}),
        an_object(a={**TEXT, "maxLength": 480}),
        an_object(a={"type": "array", "items": TEXT, "maxItems": 200}),
        an_object(**texts(40)),
        {"type": "object", "properties": texts(8)},
    ],
)
async def test_a_harmful_schema_is_never_sent(
    monkeypatch: pytest.MonkeyPatch, schema: dict[str, Any]
) -> None:
    with answering(monkeypatch, response(500, "")) as asked:
        for value in (schema, json.dumps(schema)):
            for mode in ("chat", "generate"):
                form = {"type": "json", "value": value}
                with pytest.raises(TGIGrammarError):
                    await ChatTGI(base_url=URL, mode=mode).ainvoke("Hi", response_format=form)
    assert asked == []


@pytest.mark.parametrize("expression", ["^ab$", "[0-9", "(?=a)b", "(a{1,999}){1,999}", "a{0,400}"])
async def test_a_harmful_expression_is_never_sent(
    monkeypatch: pytest.MonkeyPatch, expression: str
) -> None:
    form = {"type": "regex", "value": expression}
    with answering(monkeypatch, response(500, "")) as asked:
        with pytest.raises(TGIGrammarError) as caught:
            await ChatTGI(base_url=URL).ainvoke("Hi", response_format=form)
        with pytest.raises(TGIGrammarError):
            async for _ in ChatTGI(base_url=URL).astream("Hi", response_format=form):
                pass
    assert asked == []
    assert not caught.value.is_retryable


def test_the_bound_is_the_users() -> None:
    form = {"type": "regex", "value": "a{0,400}"}
    assert sendable(form, 500) == form
    assert sendable(form, None) == form
    with pytest.raises(TGIGrammarError, match="max_grammar_states"):
        sendable(form, 300)
    with pytest.raises(TGIGrammarError, match="anchor"):
        sendable({"type": "regex", "value": "^a"}, None)
    schema = an_object(**texts(40))
    assert sendable({"type": "json", "value": schema}, None) == {"type": "json", "value": schema}


def test_a_schema_in_tgis_own_form_goes_as_it_is_and_a_foreign_one_is_fitted() -> None:
    schema = {"type": "object", "title": "x", "properties": {"a": {**TEXT, "maxLength": 20}}}
    assert sendable({"type": "json", "value": schema}, 300) == {"type": "json", "value": schema}
    foreign = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    assert sendable(foreign, 300) == {"type": "json", "value": an_object(a=TEXT)}


def test_what_is_no_object_is_told_how_to_become_one() -> None:
    with pytest.raises(TGIGrammarError, match="no object with properties"):
        fitted({"type": "array", "items": TEXT})


def test_schemas_that_must_all_hold_become_one() -> None:
    schema = an_object(
        a={"allOf": [{"$ref": "#/$defs/B"}, an_object(c=NUMBER)], "description": "x"}
    )
    schema["$defs"] = {"B": an_object(b=TEXT)}
    assert fitted(schema)["properties"]["a"] == an_object(b=TEXT, c=NUMBER)


def test_references_that_double_with_each_level_end_soon() -> None:
    """1.7 KB of schema that would be two to the fortieth parts."""
    levels = {
        f"D{n}": an_object(a={"$ref": f"#/$defs/D{n + 1}"}, b={"$ref": f"#/$defs/D{n + 1}"})
        for n in range(40)
    }
    schema = {"$defs": {**levels, "D40": TEXT}, **an_object(a={"$ref": "#/$defs/D0"})}
    began = time.process_time()
    for refuse in (fitted, lambda s: check(s, 300)):
        with pytest.raises(TGIGrammarError):
            refuse(schema)
    assert time.process_time() - began < 10


def tool(name: str = "add", **parameters: Any) -> dict[str, Any]:
    function = {"name": name, "description": "x", "parameters": parameters}
    return {"type": "function", "function": function}


def test_a_tools_parameters_are_fitted_and_stay_described() -> None:
    given = {"type": "string", "description": "The city.", "maxLength": 400}
    made = fitted_tool(tool(type="object", properties={"city": given}))
    parameters = made["function"]["parameters"]
    assert parameters == {
        "type": "object",
        "properties": {"city": {"type": "string", "description": "The city."}},
    }
    assert made["function"]["description"] == "x"


def test_harmful_tools_are_named() -> None:
    untyped = tool("look", type="object", properties={"x": {}})
    with pytest.raises(TGIGrammarError, match="'look'"):
        sendable_tools([untyped], "auto", 300)
    many = [tool(f"tool_{n}", **an_object(**texts(4))) for n in range(5)]
    with pytest.raises(TGIGrammarError, match="tool_3"):
        sendable_tools(many, "auto", 300)
    named = {"type": "function", "function": {"name": "tool_3"}}
    assert sendable_tools(many, named, 300) == many
    assert sendable_tools([untyped], "none", 300) == [untyped]


# --- what is checked when the answer is there


async def asked_for(monkeypatch: pytest.MonkeyPatch, schema: Any, text: str, reason: str) -> Any:
    message = {"role": "assistant", "content": text}
    body = {"choices": [{"index": 0, "message": message, "finish_reason": reason}]}
    structured = ChatTGI(base_url=URL).with_structured_output(schema, include_raw=True)
    bare = ChatTGI(base_url=URL).with_structured_output(schema)
    with answering(monkeypatch, response(200, json.dumps(body))) as asked:
        raw: Any = await structured.ainvoke("Hi")
        if raw["parsing_error"] is not None:
            with pytest.raises(OutputParserException) as caught:
                await bare.ainvoke("Hi")
            assert str(caught.value) == str(raw["parsing_error"])
        sent = asked[0].json["response_format"]["value"]
    assert "maxLength" not in json.dumps(sent)
    return raw


class City(BaseModel):
    name: str = Field(max_length=5)
    people: int = Field(ge=0, le=10**9)


IN_BOUNDS, TOO_MANY = '{"name": "Rome", "people": 3}', '{"name": "Rome", "people": 3000000000000}'
SCHEMAS = pytest.mark.parametrize("schema", [City, City.model_json_schema()], ids=["class", "dict"])


@SCHEMAS
@pytest.mark.parametrize(
    ("text", "reason", "words"),
    [
        (IN_BOUNDS, "stop", None),
        (IN_BOUNDS, "length", None),
        (TOO_MANY, "stop", "people"),
        ('{"name": "Roma Antica", "people": 3}', "stop", "name"),
        ('{"name": "Rome", "people": 300', "length", "max_tokens"),
        ('{"name": "Rome", "people": 300', "stop", "no JSON"),
        ("", "length", "max_tokens"),
    ],
)
async def test_bounds_are_checked_and_what_was_cut_is_no_answer(
    monkeypatch: pytest.MonkeyPatch, schema: Any, text: str, reason: str, words: str | None
) -> None:
    raw = await asked_for(monkeypatch, schema, text, reason)
    if words is None:
        assert raw["parsing_error"] is None
        assert dict(raw["parsed"]) == {"name": "Rome", "people": 3}
    else:
        assert words in str(raw["parsing_error"])
        assert raw["parsed"] is None


def streamed(*pieces: str, reason: str = "stop") -> list[bytes]:
    events: list[Any] = [
        {"choices": [{"delta": {"content": piece}, "finish_reason": None}]} for piece in pieces
    ]
    events.append({"choices": [{"delta": {"content": ""}, "finish_reason": reason}]})
    body = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"
    return response(200, body, {"content-type": "text/event-stream"}, cut=50)


@SCHEMAS
async def test_a_stream_ends_in_the_whole_or_in_an_error(
    monkeypatch: pytest.MonkeyPatch, schema: Any
) -> None:
    def structured() -> Any:
        return ChatTGI(base_url=URL).with_structured_output(schema)

    with answering(monkeypatch, streamed('{"name": "Ro', 'me", ', '"people": 3}')):
        seen = [value async for value in structured().astream("Hi")]
    assert dict(seen[-1]) == {"name": "Rome", "people": 3}
    for broken in (streamed('{"name": "Ro', reason="length"), streamed('{"name" "Rome"}')):
        with answering(monkeypatch, broken), pytest.raises(OutputParserException):
            async for _ in structured().astream("Hi"):
                pass


async def test_a_dict_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    structured = ChatTGI(base_url=URL).with_structured_output(City.model_json_schema())
    with answering(monkeypatch, streamed('{"name": "Ro', 'me", ', '"people": 3}')):
        seen: list[Any] = [value async for value in structured.astream("Hi")]
    assert seen[-1] == {"name": "Rome", "people": 3}
    assert all(isinstance(value, dict) for value in seen)


async def test_a_cut_tool_call_is_a_parsing_error(monkeypatch: pytest.MonkeyPatch) -> None:
    call = {"index": 0, "id": "0", "function": {"name": "City", "arguments": '{"name": "Ro'}}
    event = {"choices": [{"delta": {"tool_calls": [call]}, "finish_reason": None}]}
    body = f"data: {json.dumps(event)}\n\ndata: [DONE]\n\n"
    cut = response(200, body, {"content-type": "text/event-stream"})
    chat = ChatTGI(base_url=URL, streaming=True)
    structured = chat.with_structured_output(City, method="function_calling", include_raw=True)
    with answering(monkeypatch, cut):
        raw: Any = await structured.ainvoke("Hi")
        assert "max_tokens" in str(raw["parsing_error"])
        assert raw["raw"].invalid_tool_calls
        with pytest.raises(OutputParserException):
            await chat.with_structured_output(City, method="function_calling").ainvoke("Hi")


def test_json_mode_without_a_schema_is_told_so() -> None:
    with pytest.raises(InvalidInputError, match="schema"):
        ChatTGI(base_url=URL).with_structured_output(None, method="json_mode")


def test_kinds_that_json_has_no_word_for() -> None:
    class Kinds(BaseModel):
        pair: tuple[int, str]
        id: uuid.UUID
        when: dt.datetime
        counts: dict[str, int]
        on: bool
        either: int | str

    made = fitted(Kinds.model_json_schema())["properties"]
    assert made["pair"] == {"type": "array", "prefixItems": [NUMBER, TEXT]}
    assert made["id"] == {**TEXT, "format": "uuid"}
    assert made["when"] == {**TEXT, "format": "date-time"}
    assert made["counts"] == {"type": "object", "additionalProperties": NUMBER}
    assert made["either"] == {"anyOf": [NUMBER, TEXT]}


def test_a_temperature_that_is_all_but_zero_is_refused() -> None:
    chat = ChatTGI(base_url=URL, temperature=1e-38)
    with pytest.raises(InvalidInputError, match="give 0"):
        chat_payload(chat, [], [], {})
    with pytest.raises(ValidationError):
        ChatTGI(base_url=URL, max_grammar_states=0)


RECURSIVE = {"properties": {"a": {"$ref": "#"}}}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"response_format": {"type": "json", "value": RECURSIVE}}, "refers to the schema"),
        ({"response_format": {"type": "json_object", "value": json.dumps(RECURSIVE)}}, "refers"),
        ({"response_format": {"type": "regex", "value": "^ab$"}}, "anchor"),
        ({"parameters": {"grammar": {"type": "regex", "value": "(?=a)b"}}}, "looks ahead"),
        ({"parameters": {"grammar": {"type": "regex", "value": r"[^\s\S]"}}}, "nothing matches"),
        ({"parameters": {"grammar": {"type": "regex", "value": "()|"}}}, "only the empty text"),
        ({"parameters": {"grammar": {"type": "regex", "value": "a{400}"}}}, "30 to 60 s for 300"),
        ({"parameters": {"grammar": {"type": "json", "value": RECURSIVE}}}, "refers to the schema"),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": RECURSIVE}}]},
            "refers to the schema",
        ),
    ],
)
@pytest.mark.parametrize("route", ["chat", "chat_stream", "generate_raw", "generate_batches"])
async def test_the_client_refuses_what_would_harm_the_server(
    monkeypatch: pytest.MonkeyPatch, body: dict[str, Any], words: str, route: str
) -> None:
    client = TGIClient("http://x:1")
    monkeypatch.setattr(client, "_transport", None)  # sends nothing

    async def ask() -> None:
        answer = getattr(client, route)(body)
        await (anext(answer) if hasattr(answer, "__anext__") else answer)

    with pytest.raises(TGIGrammarError, match=words):
        await ask()


async def test_the_clients_own_interface_is_guarded_and_its_bound_is_the_models() -> None:
    grammar = Grammar(type=GrammarType.Regex, value="^ab$")
    with pytest.raises(TGIGrammarError, match="anchor"):
        await TGIClient("http://x:1").generate("x", grammar=grammar)
    check_body({"response_format": {"type": "xml", "value": 3}, "tools": {"a": 1}}, 300)
    free = ChatTGI(base_url="http://x:1", max_grammar_states=None).client
    check_body(
        {"parameters": {"grammar": {"type": "regex", "value": "a{400}"}}}, free._max_grammar_states
    )


class Cat(BaseModel):
    kind: Literal["cat"]
    claws: int


class Dog(BaseModel):
    kind: Literal["dog"]
    bark: float


class Pets(BaseModel):
    pet: Cat | Dog = Field(discriminator="kind")
    others: list[Cat | Dog]


class Farm(BaseModel):
    pets: list[Pets] = Field(min_length=1)
    best: Pets | None = None
    worst: Pets | None = None


class Numbers(RootModel[list[int]]):
    pass


class Either(RootModel[Cat | Dog]):
    pass


def made(name: str, **fields: Any) -> Any:
    """A model whose fields are computed."""
    return create_model(name, **fields)


Wide = made("Wide", **dict.fromkeys(texts(40), (str, ...)))
Optional_ = made("Optional_", first=(int, ...), **dict.fromkeys(texts(20), (str | None, None)))
CAT = {"kind": "cat", "claws": 4}
PETS = {"pet": CAT, "others": [CAT, {"kind": "dog", "bark": 0.5}]}
ONE_OF = {"title": "T", "oneOf": [an_object(a=TEXT), an_object(b=NUMBER)]}


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
@pytest.mark.parametrize(
    ("schema", "answer"),
    [
        (Wide, dict.fromkeys(texts(40), "x")),
        (Optional_, {"first": 3}),
        (Farm, {"pets": [PETS], "best": None, "worst": PETS}),
        (Numbers, [1, -2]),
        (Either, CAT),
        (ONE_OF, {"b": 3}),
        ({"title": "T", "enum": ["a", "b"]}, "b"),
        ({"enum": ["a", "b"]}, "b"),
        ({"title": "T", **TEXT}, "x"),
        ({"title": "T", "type": "array", "items": {"type": ["string", "null"]}}, ["x", None]),
        ({"title": "T", "type": "array", "prefixItems": [NUMBER, TEXT]}, [1, "x"]),
        ({"title": "T", "type": "object", "additionalProperties": TEXT}, {"a": "x"}),
    ],
)
async def test_a_schema_too_large_for_a_grammar_is_told_to_the_model(
    monkeypatch: pytest.MonkeyPatch, schema: Any, answer: Any, method: Any
) -> None:
    body = {"choices": [{"message": {"content": json.dumps(answer)}, "finish_reason": "stop"}]}
    model = ChatTGI(base_url=URL).with_structured_output(schema, method=method)
    with answering(monkeypatch, response(200, json.dumps(body))) as asked:
        found: Any = await model.ainvoke([("system", "Be brief."), ("human", "Say it.")])
    if isinstance(found, BaseModel):
        found = found.model_dump(exclude_unset=True)
    assert found == answer
    sent = asked[0].json
    assert sent["messages"][0] == {"role": "system", "content": "Be brief."}
    assert "Say it.\n\nAnswer with JSON" in sent["messages"][1]["content"]
    form = sent["response_format"]
    assert form["type"] == "regex"
    assert states_of(form["value"], 300) <= 96
    assert re.fullmatch(form["value"], json.dumps(answer))
    assert re.fullmatch(form["value"], json.dumps(answer)[:-1]) is None


@pytest.mark.parametrize(
    ("schema", "answer"),
    [
        ({"title": "T", "enum": ["a", "b"]}, "c"),
        ({"title": "T", "type": "array", "items": {"type": ["string", "null"]}}, [1]),
    ],
)
async def test_what_is_no_object_is_checked_too(
    monkeypatch: pytest.MonkeyPatch, schema: Any, answer: Any
) -> None:
    body = {"choices": [{"message": {"content": json.dumps(answer)}, "finish_reason": "stop"}]}
    model = ChatTGI(base_url=URL).with_structured_output(schema)
    with (
        answering(monkeypatch, response(200, json.dumps(body))),
        pytest.raises(OutputParserException, match="does not fit"),
    ):
        await model.ainvoke("Say it.")


@pytest.mark.parametrize(
    "schema",
    [
        {"title": "T", "type": "array", "prefixItems": [True, TEXT]},
        {"title": "T", "type": "array"},
        {"title": "T", "type": "object"},
    ],
)
def test_a_part_whose_type_is_open_is_named(schema: Any) -> None:
    with pytest.raises(TGIGrammarError, match=r"the schema\S+ has no type"):
        ChatTGI(base_url=URL).with_structured_output(schema)


async def test_an_answer_that_breaks_a_schema_that_was_told_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    body = {"choices": [{"message": {"content": '{"first":"x"}'}, "finish_reason": "stop"}]}
    model = ChatTGI(base_url=URL).with_structured_output(Optional_)
    with (
        answering(monkeypatch, response(200, json.dumps(body))),
        pytest.raises(OutputParserException),
    ):
        await model.ainvoke("Say it.")


def test_one_nested_too_deep_to_be_told_is_refused() -> None:
    deep: dict[str, Any] = an_object(**texts(30))
    for _ in range(6):
        deep = an_object(inner=deep)
    with pytest.raises(TGIGrammarError, match="max_grammar_states"):
        ChatTGI(base_url=URL).with_structured_output({"title": "T", **deep})
