"""The model of random weights: its file, and where it is kept."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import gguf
import pytest

from langchain_sgd.bench import _random_model as random_model
from langchain_sgd.bench._random_model import Kind
from langchain_sgd.embedded._gguf import read_gguf
from langchain_sgd.embedded._tokenizer import from_gguf
from langchain_sgd.embedded.briefs import domain

SMALL: dict[str, Any] = {"width": 64, "layers": 2, "hidden": 96, "heads": 2}


def written(path: Path, kind: Kind = "Q8_0", **changed: int) -> Path:
    random_model.write_random_model(path, kind=kind, **{**SMALL, **changed})
    return path


@pytest.mark.parametrize(
    ("kind", "matrices"),
    [
        ("F32", gguf.GGMLQuantizationType.F32),
        ("F16", gguf.GGMLQuantizationType.F16),
        ("Q8_0", gguf.GGMLQuantizationType.Q8_0),
    ],
)
def test_the_file_has_the_shape_that_was_asked_for(
    tmp_path: Path, kind: Kind, matrices: object
) -> None:
    reader = gguf.GGUFReader(written(tmp_path / "m.gguf", kind))
    found = {tensor.name: tensor for tensor in reader.tensors}
    assert len(found) == 3 + 2 * 9
    vocabulary = len(reader.fields["tokenizer.ggml.tokens"].data)
    assert list(found["blk.1.ffn_up.weight"].shape) == [64, 96]
    assert list(found["blk.0.ffn_down.weight"].shape) == [96, 64]
    assert list(found["token_embd.weight"].shape) == [64, vocabulary]
    for name, tensor in found.items():
        expected = gguf.GGMLQuantizationType.F32 if "norm" in name else matrices
        assert tensor.tensor_type == expected, name


def test_the_same_arguments_give_the_same_file(tmp_path: Path) -> None:
    one, two = (written(tmp_path / name).read_bytes() for name in ("one", "two"))
    assert one == two
    assert written(tmp_path / "three", hidden=64).read_bytes() != one


def test_only_words_can_be_drawn(tmp_path: Path) -> None:
    reader = gguf.GGUFReader(written(tmp_path / "m.gguf", "F32"))
    output = next(t for t in reader.tensors if t.name == "output.weight").data
    parts = reader.fields["tokenizer.ggml.tokens"]
    tokens = [bytes(parts.parts[index]).decode() for index in parts.data]
    drawn = [token for token, row in zip(tokens, output, strict=True) if row.any()]
    assert len(drawn) == 26 * 26
    assert all(len(token) == 3 and token[0] == "Ġ" for token in drawn)


def test_a_question_takes_the_tokens_that_it_takes_elsewhere(tmp_path: Path) -> None:
    tokenizer = from_gguf(read_gguf(written(tmp_path / "m.gguf")))
    question = next(domain.briefs(3, held_out=True)).question
    pieces = [token.text for token in tokenizer.tokens(question)]
    assert "".join(pieces[1:]) == question
    assert len(pieces) <= len(re.findall(r"\w+|[^\w\s]", question)) * 1.2


def test_the_large_one_has_about_sixty_million_weights(tmp_path: Path) -> None:
    tokens = gguf.GGUFReader(written(tmp_path / "m.gguf")).fields["tokenizer.ggml.tokens"].data
    width, hidden, vocabulary = random_model._WIDTH, random_model._HIDDEN, len(tokens)
    layer = 4 * width * width + 3 * width * hidden
    weights = random_model._LAYERS * layer + 2 * vocabulary * width
    assert 50e6 < weights < 70e6


def test_it_is_written_once_and_kept_in_the_users_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[Path, Kind]] = []

    def write(path: Path, *, kind: Kind) -> None:
        calls.append((path, kind))
        assert not path.with_suffix(".gguf").exists()
        path.write_text("weights")

    monkeypatch.setattr(random_model, "write_random_model", write)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = random_model.cached_model("F16")
    assert random_model.cached_model("F16") == path
    assert path.read_text() == "weights"
    assert tmp_path in path.parents
    assert random_model.cached_model("F32") != path
    assert [kind for _, kind in calls] == ["F16", "F32"]


def test_a_file_that_was_not_finished_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path, **_: Any) -> None:
        path.write_text("half of the")
        raise OSError(28, "No space left on device")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(random_model, "write_random_model", fail)
    with pytest.raises(OSError, match="No space left"):
        random_model.cached_model()
    monkeypatch.setattr(
        random_model, "write_random_model", lambda path, **_: path.write_text("all of it")
    )
    assert random_model.cached_model().read_text() == "all of it"
