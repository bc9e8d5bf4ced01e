"""Both engines on a real, tiny model: what they say, refuse, count and survive."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import aiohttp
import gguf
import pytest

from langchain_sgd.embedded import _child
from langchain_sgd.embedded._child import Child
from langchain_sgd.embedded._gguf import as_q8_0, read_gguf
from langchain_sgd.embedded._tokenizer import TextDecoder
from langchain_sgd.embedded.app import make_app, serving
from langchain_sgd.embedded.engine import (
    Counters,
    EngineError,
    EngineInputError,
    GenerateRequest,
    Grammar,
    Sampling,
    Token,
)
from langchain_sgd.embedded.llamacpp import LlamaCppEngine
from langchain_sgd.embedded.load import EngineName, LocalEngine, choose, load
from langchain_sgd.embedded.openvino import OpenVINOEngine, unfit_machine
from tests.support.hostile import hostile_requests
from tests.support.tiny_gguf import SPECIAL, write_tiny_model

BOTH: tuple[EngineName, ...] = ("openvino", "llamacpp")
TEXTS = ["hello", "é 日本 🙂 and\ttabs\n", "", "<|end|>", "the and in"]
DIGITS = Grammar("regex", "[0-9]{3}")
GREEDY = GenerateRequest("hello and the", 12)

needs_openvino = pytest.mark.skipif(unfit_machine() is not None, reason=str(unfit_machine()))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny.gguf")


@pytest.fixture(scope="module", params=BOTH)
def engine(request: pytest.FixtureRequest, model: Path) -> Iterator[LocalEngine]:
    if request.param == "openvino" and (reason := unfit_machine()):
        pytest.skip(reason)
    made = load(model, engine=request.param, slots=4)
    yield made
    made.close()


@pytest.fixture(params=BOTH)
def own(request: pytest.FixtureRequest, model: Path) -> Iterator[LocalEngine]:
    """An engine that the test may close or kill."""
    if request.param == "openvino" and (reason := unfit_machine()):
        pytest.skip(reason)
    made = load(model, engine=request.param, slots=1)
    yield made
    made.close()


async def run(engine: LocalEngine, request: GenerateRequest) -> tuple[list[Token], Counters]:
    counters = Counters()
    return [token async for token in engine.generate(request, counters)], counters


async def text_of(engine: LocalEngine, request: GenerateRequest) -> str:
    return "".join(t.text for t in (await run(engine, request))[0] if not t.special)


async def test_both_engines_say_the_same(model: Path) -> None:
    if unfit_machine():
        pytest.skip("needs both")
    said = []
    for name in BOTH:
        engine = load(model, engine=name)
        tokens, counters = await run(engine, GREEDY)
        said.append(("".join(token.text for token in tokens), counters.prompt_tokens, len(tokens)))
        await engine.aclose()
    assert said[0] == said[1]


@needs_openvino
async def test_requests_that_begin_alike_do_not_disturb_each_other(model: Path) -> None:
    engine = load(model, engine="openvino", slots=4)
    requests = [GenerateRequest(f"{'the and in ' * 12}{n} {'x' * n}", 24) for n in range(8)]
    alone = [await text_of(engine, request) for request in requests]
    for _ in range(3):
        await engine.forget()
        async with asyncio.TaskGroup() as group:
            runs = [group.create_task(text_of(engine, request)) for request in requests]
        assert [each.result() for each in runs] == alone
    await engine.aclose()


async def test_a_seed_repeats_a_text_and_greedy_decoding_needs_none(engine: LocalEngine) -> None:
    warm = GenerateRequest("hello", 12, Sampling(temperature=1.0, seed=2**40 + 3))
    other = GenerateRequest("hello", 12, Sampling(temperature=1.0, seed=7))
    assert await text_of(engine, warm) == await text_of(engine, warm)
    assert await text_of(engine, warm) != await text_of(engine, other)
    assert await text_of(engine, GREEDY) == await text_of(engine, GREEDY)
    narrow = GenerateRequest(GREEDY.prompt, 12, Sampling(temperature=1.0, top_k=1, seed=1))
    assert await text_of(engine, narrow) == await text_of(engine, GREEDY)


async def test_log_probabilities_come_when_asked_for(engine: LocalEngine) -> None:
    tokens, _ = await run(engine, GenerateRequest("hello", 5, logprobs=True))
    assert all(token.logprob is not None and -20 < token.logprob <= 0 for token in tokens)


async def test_many_requests_are_answered_in_one_batch(engine: LocalEngine) -> None:
    before = engine.statistics
    async with asyncio.TaskGroup() as group:
        runs = [group.create_task(run(engine, GenerateRequest(f"{n} hello", 40))) for n in range(4)]
    made = sum(len(task.result()[0]) for task in runs)
    spent = engine.statistics - before
    assert spent.generated_tokens >= made - 4  # the ends of texts may be counted or not
    assert 0 < spent.steps < made


@pytest.mark.parametrize(
    ("grammar", "pattern"),
    [
        (DIGITS, r"\d{3}"),
        (Grammar("regex", "(yes|no)/[a-c]+\\."), r"(yes|no)/[a-c]+\."),
        (Grammar("regex", "[^a-z]é\n?x"), "[^a-z]é\n?x"),
        # What engines of their own would refuse, or read as something else.
        (Grammar("regex", "(|a)b{,2}[\r\n]"), "a?b{0,2}[\r\n]"),
        (Grammar("regex", r"\x41b\/"), "Ab/"),
        (Grammar("regex", "(?P<n>a)||"), "a?"),
        (Grammar("regex", "[\0-\t]{2}"), "[\1-\t]{2}"),
        (Grammar("regex", "(|)"), ""),
        (Grammar("json", {"properties": {"n": {"enum": [1, 2]}}, "required": ["n"]}), None),
    ],
)
async def test_grammars_hold(engine: LocalEngine, grammar: Grammar, pattern: str | None) -> None:
    request = GenerateRequest("hello", 60, Sampling(temperature=1.0, seed=5), grammar)
    text = await text_of(engine, request)
    if pattern is None:
        assert json.loads(text)["n"] in (1, 2)
    else:
        # One that may go on for ever can be cut.
        assert re.fullmatch(pattern, text) or len(text) > 30


@pytest.mark.parametrize(
    ("grammar", "reason"),
    [
        (Grammar("regex", "a{100000000}"), "states"),
        (Grammar("regex", "((a{99}){99}){99}"), "states"),
        (Grammar("regex", "[0-9"), "does not close it"),
        (Grammar("regex", "^ab$"), "anchor"),
        (Grammar("regex", "(?=a)b"), "looks ahead"),
        (Grammar("regex", r"(a)\1"), "refers back"),
        (Grammar("regex", "(?i)a"), "flags"),
        (Grammar("regex", "\0"), "nothing matches"),
        (Grammar("regex", r"a\x00b"), "nothing matches"),
        (Grammar("regex", r"[^\s\S]"), "nothing matches"),
        (
            Grammar(
                "json",
                {"properties": {"a": {"type": "string", "pattern": "\0"}}, "required": ["a"]},
            ),
            "nothing matches",
        ),
        (Grammar("regex", "(" * 500 + ")" * 500), "groups in one another"),
        (Grammar("regex", 3), "string"),  # type: ignore[arg-type]
        (Grammar("json", {"properties": {"a": {"$ref": "#"}}}), "recursive"),
        (Grammar("json", {"properties": {"a": {"type": "string", "maxLength": 10**8}}}), "states"),
        (Grammar("json", {"properties": {"a": {"const": "x" * 9000}}}), "states"),
        (Grammar("json", "{"), "not valid"),
        (Grammar("json", {"type": "object"}), "properties"),
    ],
)
async def test_a_bad_grammar_is_refused_and_harms_nobody(
    engine: LocalEngine, grammar: Grammar, reason: str
) -> None:
    async with asyncio.TaskGroup() as group:
        other = group.create_task(text_of(engine, GenerateRequest("hello", 30)))
        with pytest.raises(EngineInputError, match=reason):
            await run(engine, GenerateRequest("hello", 5, grammar=grammar))
    assert other.result()


async def test_a_schema_with_a_long_constant_is_followed(engine: LocalEngine) -> None:
    text = "This text is a fixed legal notice that every answer carries. " * 8
    grammar = Grammar("json", {"properties": {"n": {"const": text}}, "required": ["n"]})
    said = await text_of(engine, GenerateRequest("x", 30, grammar=grammar))
    assert text.startswith(said.partition('"n"')[2].lstrip(' :"')[:10])


async def test_what_does_not_fit_is_refused(engine: LocalEngine) -> None:
    with pytest.raises(EngineInputError, match="exceed the context of 512"):
        await run(engine, GenerateRequest("hello " * 300, 10))
    with pytest.raises(EngineInputError, match="exceed"):
        await run(engine, GenerateRequest("hello", 512))


async def test_a_prompt_can_be_cut_to_its_last_tokens(engine: LocalEngine) -> None:
    long = GenerateRequest("naïve 日本語 " * 60 + GREEDY.prompt, 12, truncate=9)
    _, counters = await run(engine, long)
    assert counters.prompt_tokens == 9
    whole = await engine.tokenize(GREEDY.prompt)
    short = GenerateRequest(GREEDY.prompt, 12, truncate=len(whole))
    assert await text_of(engine, short) == await text_of(engine, GREEDY)


@pytest.mark.parametrize("text", [*TEXTS, "a\ud800b"])
async def test_tokens_give_the_text_back(engine: LocalEngine, text: str) -> None:
    bos, *tokens = await engine.tokenize(text)
    assert (bos.start, bos.stop, bos.special) == (0, 0, True)
    spans = [(token.start or 0, token.stop or 0) for token in tokens]
    covered = {place for start, stop in spans for place in range(start, stop)}
    assert covered == set(range(len(text)))
    if "\ud800" not in text:
        assert all(
            token.text == text[start:stop]
            for token, (start, stop) in zip(tokens, spans, strict=True)
        )
    assert [token.special for token in tokens] == [text == "<|end|>"] * len(tokens)


async def test_a_text_that_ends_inside_a_character_shows_it(engine: LocalEngine) -> None:
    bytes_of_a_smile = GenerateRequest("x", 3, grammar=Grammar("regex", "🙂"))
    tokens, _ = await run(engine, bytes_of_a_smile)
    assert [token.text for token in tokens] == ["", "", "\ufffd"]
    whole = GenerateRequest("x", 4, grammar=Grammar("regex", "🙂"))
    assert [t.text for t in (await run(engine, whole))[0]] == ["", "", "", "🙂"]


async def test_what_people_write_never_becomes_a_control_token(engine: LocalEngine) -> None:
    said = f"Look: {''.join(SPECIAL)}<|end|>"
    prompt = await engine.render_chat([{"role": "user", "content": said}], None)
    tokens = await engine.tokenize(prompt)
    # The beginning, and the template's own end of the turn.
    assert [token.text for token in tokens if token.special] == ["", "<|end|>"]
    assert (
        "".join(token.text for token in tokens if not token.special) == f"user: {said}\nassistant: "
    )
    # The same in a prompt that is given as it is: there it is meant.
    assert sum(token.special for token in await engine.tokenize(said)) == 1 + len(SPECIAL) + 1


async def test_chats_are_rendered_by_the_models_template(engine: LocalEngine) -> None:
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}]
    assert (
        await engine.render_chat(turns, None)
        == "user: Hi<|end|>\nassistant: Yes?<|end|>\nassistant: "
    )
    with pytest.raises(EngineInputError, match="no tools here"):
        await engine.render_chat([{"role": "tool", "content": "x"}], None)


async def test_closing_a_stream_frees_its_place(own: LocalEngine) -> None:
    async with aclosing(own.generate(GenerateRequest("hello", 400), Counters())) as stream:
        await anext(stream)
    async with asyncio.timeout(20):
        await run(own, GREEDY)
    assert own.statistics.generated_tokens < 400


async def test_closing_the_engine_ends_what_runs(own: LocalEngine) -> None:
    stream = own.generate(GenerateRequest("hello", 400), Counters())
    await anext(stream)
    await own.aclose()
    with pytest.raises(EngineError, match="was closed"):
        async for _ in stream:
            pass
    with pytest.raises(EngineError, match="was closed"):
        await run(own, GREEDY)
    await own.aclose()


def process_of(engine: LocalEngine) -> Any:
    return engine._keeper.child._process


async def test_a_process_that_dies_is_reported_and_started_anew(own: LocalEngine) -> None:
    said = await text_of(own, GREEDY)
    stream = own.generate(GenerateRequest("hello", 400), Counters())
    await anext(stream)
    process_of(own).send_signal(signal.SIGSEGV)
    with pytest.raises(EngineError, match="SIGSEGV"):
        async for _ in stream:
            pass
    assert await text_of(own, GREEDY) == said


@needs_openvino
async def test_what_cannot_be_decoded_harms_its_own_request_only(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = load(model, engine="openvino")
    with monkeypatch.context() as patch:
        patch.setattr(TextDecoder, "push", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            await asyncio.wait_for(run(engine, GREEDY), 30)
    assert await asyncio.wait_for(run(engine, GREEDY), 30)
    await engine.aclose()


def test_a_process_that_says_what_is_no_message_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_child, "__file__", str(tmp_path / "_child.py"))
    lines = "print('{\"loaded\": true}\\nnothing of the kind', flush=True)"
    (tmp_path / "_worker.py").write_text(f"import time\n{lines}\ntime.sleep(600)\n")
    ended: list[str] = []

    def listen(child: Child) -> None:
        assert not list(child.lines())
        ended.append(child.last_words("in between"))

    child = Child({}, listen)
    child.close()
    assert ended == ["The engine's process ended in between (SIGKILL)"]


async def test_its_process_ends_with_it(own: LocalEngine) -> None:
    process = process_of(own)
    await own.aclose()
    assert process.poll() is not None


async def test_a_fork_is_told_at_once(engine: LocalEngine) -> None:
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            loop = asyncio.new_event_loop()
            loop.run_until_complete(asyncio.wait_for(run(engine, GREEDY), 5))
        except EngineError as error:
            os.write(writer, str(error).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as said:
        assert "belongs to the process that made it" in said.read()
    await asyncio.to_thread(os.waitpid, child, 0)
    assert await text_of(engine, GREEDY)


async def test_hostile_requests_end_neither_server_nor_engine(engine: LocalEngine) -> None:
    process = process_of(engine)
    headers = {"Content-Type": "application/json"}
    async with serving(make_app({"m": engine})) as url, aiohttp.ClientSession() as session:
        for path, data in hostile_requests(300):
            async with session.post(url + path, data=data, headers=headers) as response:
                await response.read()
                assert response.status < 500, (path, data[:200])
    assert process.poll() is None
    assert process_of(engine) is process
    assert await text_of(engine, GREEDY)


# -- which engine for which file


def without_file_type(source: Path, target: Path) -> Path:
    """The same file without `general.file_type`, as some converters write it."""
    raw = source.read_bytes()
    target.write_bytes(raw.replace(b"general.file_type", b"general.file_tipe"))
    return target


@needs_openvino
async def test_a_file_without_its_type_is_read_rightly_all_the_same(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    bare = without_file_type(model, tmp_path / "bare.gguf")
    said: list[str] = []
    engine = load(bare, progress=said.append)
    assert isinstance(engine, OpenVINOEngine)
    assert await run(engine, GREEDY)
    await engine.aclose()
    assert any("Q8_0" in line for line in said)
    # Made once, and found again.
    (made,) = (tmp_path / "langchain-sgd").iterdir()
    assert as_q8_0(read_gguf(bare)) == made


def test_weights_that_openvino_reads_wrongly_are_written_anew(model: Path, tmp_path: Path) -> None:
    wrong = requantized(model, tmp_path / "q4_1.gguf", gguf.GGMLQuantizationType.Q4_1)
    found = read_gguf(wrong)
    assert "Q4_1" in found.tensor_types
    made = as_q8_0(found, tmp_path / "cache")
    assert read_gguf(made).tensor_types == {"Q8_0", "F32"}
    before, after = gguf.GGUFReader(wrong), gguf.GGUFReader(made)
    for old, new in zip(before.tensors, after.tensors, strict=True):
        one = gguf.dequantize(old.data, old.tensor_type)
        two = gguf.dequantize(new.data, new.tensor_type)
        assert old.name == new.name
        assert abs(one - two).max() <= abs(one).max() / 100


def requantized(source: Path, target: Path, kind: gguf.GGMLQuantizationType) -> Path:
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, "llama")
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name == "general.architecture":
            continue
        inner = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), field.types[0], sub_type=inner)
    for tensor in reader.tensors:
        values = gguf.dequantize(tensor.data, tensor.tensor_type)
        if values.ndim == 1:
            writer.add_tensor(tensor.name, values)
        else:
            writer.add_tensor(tensor.name, gguf.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def test_files_that_openvino_does_not_know_run_on_llama_cpp(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("langchain_sgd.embedded.openvino.unfit_machine", lambda: None)
    other = write_tiny_model(tmp_path / "other.gguf", architecture="falcon")
    kind, reason = choose(other)
    assert kind is LlamaCppEngine
    assert reason is not None
    assert "falcon" in reason
    assert choose(other, "openvino") == (OpenVINOEngine, None)


def test_elsewhere_llama_cpp_runs_and_says_that_sgd_gains_little(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    said: list[str] = []
    engine = load(model, progress=said.append)
    engine.close()
    assert isinstance(engine, LlamaCppEngine)
    assert "SGD gains little there" in said[0]


@needs_openvino
async def test_a_folder_in_openvinos_format_is_served(model: Path, tmp_path: Path) -> None:
    import openvino_genai  # noqa: PLC0415 - only where it is installed

    from langchain_sgd.embedded._tokenizer import from_gguf  # noqa: PLC0415

    folder = tmp_path / "folder"
    folder.mkdir()
    shutil.copy(model, folder / "model.gguf")
    openvino_genai.LLMPipeline(folder / "model.gguf", "CPU", enable_save_ov_model=True)
    (folder / "model.gguf").unlink()
    described = read_gguf(model)
    tokenizer = from_gguf(described)
    splitter = tokenizer.splitter
    added = {"id": 2, "content": "<|end|>", "special": True}
    said = json.loads(splitter.to_str())
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    said["added_tokens"] = [{**added, **plain}]
    said["decoder"] = said["pre_tokenizer"]["pretokenizers"][-1]
    (folder / "tokenizer.json").write_text(json.dumps(said))
    (folder / "config.json").write_text('{"max_position_embeddings": 512, "eos_token_id": 2}')
    (folder / "chat_template.jinja").write_text("{{ messages[0].content }}!")
    engine = load(folder)
    assert engine.info.max_total_tokens == 512
    assert await engine.render_chat([{"role": "user", "content": "a<|end|>"}], None) != "a<|end|>!"
    tokens, _ = await run(engine, GREEDY)
    await engine.aclose()
    assert tokens
    with pytest.raises(EngineError, match="not the folder"):
        load(folder, engine="llamacpp")
    for wrong in ('{"eos_token_id": ["x"]}', '{"max_position_embeddings": "many"}'):
        (folder / "config.json").write_text(wrong)
        with pytest.raises(EngineError, match=re.escape(str(folder))):
            load(folder)


# -- files that are no models


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "no model file"),
        (b"", "cannot be read|damaged"),
        (b"PK\x03\x04", "begin with GGUF"),
        (b"GGUF\x03\0\0\0" + b"\xff" * 16, "do not fit"),
        (b"GGUF\x63\0\0\0" + b"\0" * 16, "version 99"),
        (b"GGUF\x03\0\0\0" + b"\0" * 16, "no tensors"),
    ],
)
def test_what_is_no_model_is_refused_in_words(
    tmp_path: Path, content: bytes | None, reason: str, name: EngineName
) -> None:
    path = tmp_path / "x.gguf"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(EngineError, match=reason):
        load(path, engine=name)


def test_crafted_files_never_end_the_process(model: Path, tmp_path: Path) -> None:
    raw = model.read_bytes()
    path = tmp_path / "crafted.gguf"
    loaded = 0
    refused: list[str] = []
    fields = [b"llama.block_count", b"llama.attention.head_count", b"llama.embedding_length"]
    cases = [raw[: len(raw) // 2]]
    for field in fields:
        at = raw.index(field) + len(field) + 4
        cases += [raw[:at] + number.to_bytes(4, "little") + raw[at + 4 :] for number in (0, 2**31)]
    for content in cases:
        path.write_bytes(content)
        try:
            load(path, engine="llamacpp").close()
            loaded += 1
        except EngineError as error:
            refused.append(str(error))
    assert all("crafted.gguf" in reason for reason in refused)
    assert len(refused) >= 5
    assert loaded + len(refused) == len(cases)


@pytest.mark.parametrize("name", ["slots", "context", "threads"])
def test_numbers_below_one_are_refused(model: Path, name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at least 1"):
        load(model, **{name: 0})  # type: ignore[arg-type]


async def test_a_template_that_is_missing_or_broken_hurts_chats_only(tmp_path: Path) -> None:
    for template, reason in ((None, "no chat template"), ("{% if %}", "not valid")):
        engine = load(
            write_tiny_model(tmp_path / "bare.gguf", template=template), engine="llamacpp"
        )
        with pytest.raises(EngineError, match=reason):
            await engine.render_chat([{"role": "user", "content": "x"}], None)
        assert (await run(engine, GREEDY))[0]
        await engine.aclose()
