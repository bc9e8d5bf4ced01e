"""The default engine on a real, tiny model."""

from __future__ import annotations

import asyncio
import gc
import json
import math
import threading
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import jsonschema
import pytest

from langchain_sgd.embedded import _llama
from langchain_sgd.embedded.engine import (
    Counters,
    EngineError,
    EngineInputError,
    GenerateRequest,
    Grammar,
    Sampling,
    Token,
)
from langchain_sgd.embedded.xllamacpp import XLlamaCppEngine
from tests.support.tiny_gguf import write_tiny_model

PREFIX = "Once upon a time there was a small model that knew nothing at all about the world. "
SCHEMA = {
    "type": "object",
    "properties": {
        "id": {"type": "integer", "minimum": 1, "maximum": 9},
        "heading": {"type": "string", "maxLength": 6, "pattern": "^[a-z]+$"},
        "deps": {"type": "array", "items": {"type": "integer", "maximum": 9}, "maxItems": 2},
    },
    "required": ["id", "heading", "deps"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.gguf")


@pytest.fixture
async def engine(model: Path) -> AsyncIterator[XLlamaCppEngine]:
    engine = XLlamaCppEngine(model)
    yield engine
    await engine.aclose()


async def run(engine: XLlamaCppEngine, request: GenerateRequest) -> tuple[list[Token], Counters]:
    counters = Counters()
    return [token async for token in engine.generate(request, counters)], counters


async def text_of(engine: XLlamaCppEngine, request: GenerateRequest) -> str:
    tokens, _ = await run(engine, request)
    return "".join(token.text for token in tokens if not token.special)


# --- what a model says


async def test_a_continuation_has_the_asked_length_and_known_tokens(
    engine: XLlamaCppEngine,
) -> None:
    tokens, counters = await run(engine, GenerateRequest("hello", 12))
    assert len(tokens) == 12 or tokens[-1].special
    assert counters == Counters(prompt_tokens=5, cached_tokens=0)  # <|bos|> he l l o
    text = "".join(token.text for token in tokens)
    if "\ufffd" not in text:
        again = await engine.tokenize(text)
        assert "".join(token.text for token in again if not token.special) == text


async def test_greedy_decoding_repeats_itself(engine: XLlamaCppEngine) -> None:
    request = GenerateRequest("the and", 16)
    assert await text_of(engine, request) == await text_of(engine, request)


async def test_tokens_that_may_wait_are_the_same(engine: XLlamaCppEngine) -> None:
    requests = [
        GenerateRequest("hello", 40 + n, Sampling(temperature=1.0, seed=n), may_wait=may_wait)
        for may_wait in (False, True)
        for n in range(3)
    ]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(text_of(engine, request)) for request in requests]
    texts = [task.result() for task in tasks]
    assert texts[:3] == texts[3:]


async def test_a_seed_repeats_a_text_and_another_one_changes_it(engine: XLlamaCppEngine) -> None:
    def drawn(seed: int) -> GenerateRequest:
        return GenerateRequest("hello", 16, Sampling(temperature=1.0, seed=seed))

    first = await text_of(engine, drawn(1))
    assert first == await text_of(engine, drawn(1))
    assert first != await text_of(engine, drawn(2))
    assert await text_of(engine, drawn(2**40 + 5)) != await text_of(engine, drawn(5))


@pytest.mark.parametrize(
    "sampling",
    [Sampling(temperature=1.5, top_k=1, seed=3), Sampling(temperature=1.0, top_p=1e-6, seed=3)],
    ids=["top_k", "top_p"],
)
async def test_the_narrowest_choice_is_greedy(engine: XLlamaCppEngine, sampling: Sampling) -> None:
    greedy = await text_of(engine, GenerateRequest("hello", 8))
    assert await text_of(engine, GenerateRequest("hello", 8, sampling)) == greedy


@pytest.mark.parametrize(
    "sampling",
    [Sampling(repetition_penalty=5.0), Sampling(frequency_penalty=2.0)],
    ids=["repetition", "frequency"],
)
async def test_penalties_make_a_text_repeat_less(
    engine: XLlamaCppEngine, sampling: Sampling
) -> None:
    plain, _ = await run(engine, GenerateRequest("hello", 48))
    penalised, _ = await run(engine, GenerateRequest("hello", 48, sampling))
    assert len({token.id for token in penalised}) > len({token.id for token in plain})


async def test_log_probabilities_come_when_asked_for_and_are_true(engine: XLlamaCppEngine) -> None:
    silent, _ = await run(engine, GenerateRequest("hello", 4))
    spoken, _ = await run(engine, GenerateRequest("hello", 4, logprobs=True))
    assert all(token.logprob is None for token in silent)
    assert [token.id for token in spoken] == [token.id for token in silent]
    # 272 tokens, so the most probable one has at least 1/272.
    assert all(token.logprob is not None and -math.log(300) < token.logprob < 0 for token in spoken)


# --- grammars


async def test_json_fits_its_schema_and_ends(engine: XLlamaCppEngine) -> None:
    sampling = Sampling(temperature=1.0, seed=7)
    request = GenerateRequest("plan", 100, sampling, Grammar("json", SCHEMA))
    tokens, _ = await run(engine, request)
    assert tokens[-1].special
    text = "".join(token.text for token in tokens[:-1])
    jsonschema.validate(json.loads(text), SCHEMA)
    assert " " not in text


async def test_a_regex_is_matched_in_full(engine: XLlamaCppEngine) -> None:
    request = GenerateRequest("x", 40, grammar=Grammar("regex", r'\{"id":[1-9]\}\n'))
    text = await text_of(engine, request)
    assert text[:6] == '{"id":'
    assert text[7:] == "}\n"


async def test_forced_tokens_cost_no_steps(engine: XLlamaCppEngine) -> None:
    before = engine.statistics
    grammar = Grammar("regex", "the quick brown fox jumps over [0-9] lazy dogs")
    tokens, _ = await run(engine, GenerateRequest("x", 60, grammar=grammar))
    after = engine.statistics
    assert after.forced_tokens - before.forced_tokens >= len(tokens) - 3
    assert after.steps - before.steps <= 3


async def test_a_forced_text_stops_at_the_asked_length(engine: XLlamaCppEngine) -> None:
    grammar = Grammar("regex", "abcdefghijklmnop")
    tokens, _ = await run(engine, GenerateRequest("x", 5, grammar=grammar))
    assert len(tokens) == 5
    assert "abcdefghijklmnop".startswith("".join(token.text for token in tokens))


async def test_forced_and_chosen_tokens_give_the_same_text(engine: XLlamaCppEngine) -> None:
    """With log-probabilities every token goes through the model, forced or not."""
    request = GenerateRequest("plan", 80, grammar=Grammar("json", SCHEMA))
    fast = await text_of(engine, request)
    slow, _ = await run(
        engine, GenerateRequest("plan", 80, grammar=Grammar("json", SCHEMA), logprobs=True)
    )
    jsonschema.validate(json.loads(fast), SCHEMA)
    jsonschema.validate(json.loads("".join(t.text for t in slow if not t.special)), SCHEMA)
    assert all(token.logprob is not None for token in slow)


@pytest.mark.parametrize(
    ("grammar", "reason"),
    [
        (Grammar("regex", "(unclosed"), "regular expression cannot be compiled.*unclosed group"),
        (Grammar("regex", "(?=ahead)x"), "regular expression cannot be compiled.*look-around"),
        (Grammar("json", {"$ref": "#/nowhere"}), "JSON schema cannot be compiled"),
        (Grammar("json", {"type": "objct"}), "Unknown type"),
    ],
)
async def test_a_bad_grammar_is_refused_and_harms_nobody(
    engine: XLlamaCppEngine, grammar: Grammar, reason: str
) -> None:
    for _ in range(2):  # the second time it might come from a cache
        with pytest.raises(EngineInputError, match=reason):
            await run(engine, GenerateRequest("x", 5, grammar=grammar))
    assert len((await run(engine, GenerateRequest("x", 5)))[0]) == 5


# --- many at once


async def test_more_requests_than_slots_are_all_answered(model: Path) -> None:
    engine = XLlamaCppEngine(model, slots=2, context=64)
    async with asyncio.TaskGroup() as group:
        runs = [
            group.create_task(run(engine, GenerateRequest(f"number {n}", 10 + n))) for n in range(9)
        ]
    await engine.aclose()
    for number, task in enumerate(runs):
        tokens, _ = task.result()
        assert len(tokens) == 10 + number or tokens[-1].special


async def test_requests_decode_in_one_batch(engine: XLlamaCppEngine) -> None:
    before = engine.statistics
    async with asyncio.TaskGroup() as group:
        runs = [
            group.create_task(run(engine, GenerateRequest(f"{n} and {n}", 250))) for n in range(8)
        ]
    after = engine.statistics
    tokens = sum(len(task.result()[0]) for task in runs)
    assert after.generated_tokens - before.generated_tokens == tokens
    assert after.steps - before.steps < tokens / 3
    assert sum(steps for steps, _ in after.by_size.values()) == after.steps
    assert max(after.by_size) >= 6
    assert sum(seconds for _, seconds in after.by_size.values()) == pytest.approx(after.busy_s)


async def test_a_fan_out_over_a_new_prefix_computes_it_once(engine: XLlamaCppEngine) -> None:
    shared = len(await engine.tokenize(PREFIX))
    async with asyncio.TaskGroup() as group:
        runs = [
            group.create_task(run(engine, GenerateRequest(f"{PREFIX}{n}", 8))) for n in range(6)
        ]
    cached = sorted(task.result()[1].cached_tokens for task in runs)
    assert cached == [0, *[shared] * 5]
    assert engine.statistics.cached_prompt_tokens == 5 * shared
    assert engine.statistics.computed_prompt_tokens == shared + 6


async def test_a_prompt_takes_over_from_a_request_that_is_still_running(
    engine: XLlamaCppEngine,
) -> None:
    shared = len(await engine.tokenize(PREFIX))
    planner = engine.generate(GenerateRequest(PREFIX + "plan", 400), Counters())
    async with aclosing(planner):
        await anext(planner)
        _, counters = await run(engine, GenerateRequest(PREFIX + "x", 4))
    assert counters.cached_tokens == shared


async def test_a_prompt_takes_over_what_a_model_wrote_itself(engine: XLlamaCppEngine) -> None:
    grammar = Grammar("regex", "the [0-9] rest of a plan that is quite long[.!]")
    question = PREFIX + "Plan:"
    text = await text_of(engine, GenerateRequest(question, 60, grammar=grammar))
    _, counters = await run(engine, GenerateRequest(question + text + " and more", 2))
    assert counters.cached_tokens > len(await engine.tokenize(question)) + 5


async def test_a_shared_prefix_changes_no_prediction(model: Path) -> None:
    """Kernels may round differently for other batch shapes, so close is as good as equal."""
    request = GenerateRequest(PREFIX + "Then", 6, logprobs=True)
    cold, warm = XLlamaCppEngine(model), XLlamaCppEngine(model)
    expected, _ = await run(cold, request)
    async with asyncio.TaskGroup() as group:
        group.create_task(run(warm, GenerateRequest(PREFIX + "While", 40)))
        shared = group.create_task(run(warm, request))
    await cold.aclose()
    await warm.aclose()
    tokens, counters = shared.result()
    assert counters.cached_tokens > 40
    for ours, theirs in zip(tokens, expected, strict=True):
        assert ours.logprob == pytest.approx(theirs.logprob, abs=0.05)
        if ours.id != theirs.id:
            break  # a near-tie; what follows differs rightly


async def test_share_prefix_computes_ahead(engine: XLlamaCppEngine) -> None:
    shared = await engine.share_prefix(PREFIX)
    assert shared == len(await engine.tokenize(PREFIX))
    _, counters = await run(engine, GenerateRequest(PREFIX + "x", 2))
    assert counters.cached_tokens == shared


async def test_old_prefixes_give_way(model: Path) -> None:
    engine = XLlamaCppEngine(model, context=128, slots=2, kept_tokens=100)
    for number in range(30):
        await run(engine, GenerateRequest(f"{number} " * 20, 20))
    async with asyncio.TaskGroup() as group:
        full = [
            group.create_task(run(engine, GenerateRequest(f"{n}{n} " * 20, 60))) for n in range(4)
        ]
    assert all(task.result()[0] for task in full)
    await engine.aclose()


# --- going away


async def test_closing_a_stream_frees_its_place(model: Path) -> None:
    engine = XLlamaCppEngine(model, slots=1)
    async with aclosing(engine.generate(GenerateRequest("long", 500), Counters())) as stream:
        await anext(stream)
    async with asyncio.timeout(5):
        tokens, _ = await run(engine, GenerateRequest("short", 3))
    assert tokens
    assert engine.statistics.generated_tokens < 400
    await engine.aclose()


async def test_a_cancelled_reader_frees_its_place(model: Path) -> None:
    engine = XLlamaCppEngine(model, slots=1)

    async def forever() -> None:
        while True:
            await run(engine, GenerateRequest("long", 500))

    for _ in range(20):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(forever(), 0.005)
    async with asyncio.timeout(5):
        assert (await run(engine, GenerateRequest("short", 3)))[0]
    await engine.aclose()


async def test_closing_the_engine_ends_what_runs_and_what_waits(model: Path) -> None:
    engine = XLlamaCppEngine(model, slots=1)
    outcomes = []

    async def ask() -> None:
        try:
            while True:
                await run(engine, GenerateRequest("long", 500))
        except EngineError as error:
            outcomes.append(str(error))

    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(ask())
        await asyncio.sleep(0.02)
        await engine.aclose()
    assert outcomes == ["The engine was closed"] * 3


async def test_a_closed_engine_says_so_and_can_be_closed_again(model: Path) -> None:
    engine = XLlamaCppEngine(model)
    await engine.aclose()
    await engine.aclose()
    for use in (run(engine, GenerateRequest("x", 1)), engine.tokenize("x")):
        with pytest.raises(EngineError, match="closed"):
            await use


def test_an_event_loop_that_dies_takes_only_its_own_requests_along(model: Path) -> None:
    engine = XLlamaCppEngine(model, slots=1)
    loop = asyncio.new_event_loop()
    stream = engine.generate(GenerateRequest("long", 500), Counters())
    loop.run_until_complete(anext(stream))
    loop.close()
    tokens, _ = asyncio.run(asyncio.wait_for(run(engine, GenerateRequest("x", 3)), 5))
    assert tokens
    engine.close()


def test_several_event_loops_share_an_engine(model: Path) -> None:
    engine = XLlamaCppEngine(model)
    texts: dict[int, str] = {}

    def ask(number: int) -> None:
        texts[number] = asyncio.run(text_of(engine, GenerateRequest("same", 20)))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    engine.close()
    assert len(texts) == 4


def test_a_forgotten_engine_frees_its_thread(model: Path) -> None:
    before = set(threading.enumerate())
    engine = XLlamaCppEngine(model)
    (thread,) = set(threading.enumerate()) - before
    assert thread.is_alive()
    del engine
    gc.collect()
    assert not thread.is_alive()


# --- limits and errors


async def test_what_does_not_fit_the_context_is_refused(engine: XLlamaCppEngine) -> None:
    limit = engine.info.max_total_tokens
    assert limit == 512  # the model's own, below the default of 1024
    with pytest.raises(EngineInputError, match=rf"3 prompt tokens and {limit} new ones exceed"):
        await run(engine, GenerateRequest("ab", limit))
    tokens, _ = await run(engine, GenerateRequest("ab", limit - 3))
    assert len(tokens) == limit - 3 or tokens[-1].special


async def test_half_a_surrogate_pair_is_no_crash(engine: XLlamaCppEngine) -> None:
    assert (await engine.tokenize("a\ud800b"))[2].text == "?"


@pytest.mark.parametrize("text", ["Grüße, 世界 🙂", "a\tb\n\nc", "<|end|>", "nul\0nul", ""])
async def test_tokens_give_the_text_back(engine: XLlamaCppEngine, text: str) -> None:
    tokens = await engine.tokenize(text)
    assert tokens[0] == Token(0, "<|bos|>", special=True)
    if text != "<|end|>":
        raw = b"".join(engine._text.vocabulary.piece(token.id) for token in tokens)
        assert raw.decode() == text
    else:
        assert tokens[1:] == [Token(2, "<|end|>", special=True)]


async def test_chats_are_rendered_by_the_models_template(engine: XLlamaCppEngine) -> None:
    messages = [{"role": "user", "content": "hi"}]
    prompt = await engine.render_chat(messages, None)
    assert prompt == "user: hi<|end|>\nassistant: "
    assert [token.id for token in await engine.tokenize(prompt)].count(0) == 1
    with pytest.raises(EngineInputError, match="no tools here"):
        await engine.render_chat([{"role": "tool", "content": ""}], None)


@pytest.mark.parametrize(
    ("template", "reason"), [(None, "has no chat template"), ("{% if %}", "is not valid")]
)
async def test_a_model_without_a_usable_template_still_generates(
    tmp_path: Path, template: str | None, reason: str
) -> None:
    engine = XLlamaCppEngine(write_tiny_model(tmp_path / "bare.gguf", template=template))
    with pytest.raises(EngineError, match=reason):
        await engine.render_chat([{"role": "user", "content": "hi"}], None)
    assert (await run(engine, GenerateRequest("x", 2)))[0]
    await engine.aclose()


async def test_what_a_model_says_of_itself(model: Path, engine: XLlamaCppEngine) -> None:
    info = engine.info
    assert (info.model_id, info.dtype, info.slots) == ("tiny-0", "float16", 8)
    assert info.eos_token == "<|eos|>"
    assert not info.template_uses_tools
    named = XLlamaCppEngine(model, model_id="mine", slots=1)
    assert named.info.model_id == "mine"
    await named.aclose()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "cannot be read: No such file"),
        (b"", "is not a GGUF model"),
        (b'{"a": 1}', "is not a GGUF model: it begins with b'{\"a\"'"),
        (b"GGUF\x03\0\0\0garbage", "llama.cpp could not load"),
    ],
)
def test_a_file_that_is_no_model_is_named(
    tmp_path: Path, content: bytes | None, reason: str
) -> None:
    path = tmp_path / "broken.gguf"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(EngineError, match=reason) as caught:
        XLlamaCppEngine(path)
    assert str(path) in str(caught.value)


def test_a_truncated_model_is_an_error(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "half.gguf"
    path.write_bytes(model.read_bytes()[:-5000])
    with pytest.raises(EngineError, match=r"could not load.*half"):
        XLlamaCppEngine(path)


@pytest.mark.parametrize("name", ["slots", "context", "threads"])
def test_numbers_below_one_are_refused(model: Path, name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at least 1, not 0"):
        XLlamaCppEngine(model, **{name: 0})  # type: ignore[arg-type]


# --- the library itself


def test_another_layout_of_the_library_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    library = _llama.library()
    changed = {**_llama._CONTEXT_DEFAULTS, "n_batch": 4096}
    monkeypatch.setattr(_llama, "_CONTEXT_DEFAULTS", changed)
    with pytest.raises(EngineError, match=r"fields: n_batch.*pip install xllamacpp=="):
        library.check_layout()


def test_a_missing_package_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(EngineError, match=r"pip install \"langchain-sgd\[embedded\]\""):
        _llama.library.__wrapped__()


def test_a_missing_libgomp_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Path) -> None:
        raise OSError("libgomp.so.1: cannot open shared object file: No such file or directory")

    monkeypatch.setattr(_llama, "Library", fail)
    with pytest.raises(EngineError, match="apt-get install -y libgomp1"):
        _llama.library.__wrapped__()


def test_a_release_without_a_function_names_the_tested_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(_llama._FAST, "llama_not_invented_yet", (None, []))
    with pytest.raises(EngineError, match=r"lacks a function.*llama_not_invented_yet"):
        _llama.library.__wrapped__()


def test_windows_is_told_what_works_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "win32")
    with pytest.raises(EngineError, match="use WSL"):
        _llama.library.__wrapped__()
