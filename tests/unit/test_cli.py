from __future__ import annotations

import argparse
import errno
import importlib
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import pytest

import langchain_sgd
from langchain_sgd.arguments import BENCHES, parser
from langchain_sgd.cli import main
from langchain_sgd.commands import asking, serving
from langchain_sgd.commands import check as checks
from langchain_sgd.commands.models import key_of, models_of, names_of
from langchain_sgd.commands.serving import remind
from langchain_sgd.errors import InvalidInputError, PlannerError, SkeletonError
from langchain_sgd.terminal.safe import one_line
from tests.support.models import Say, Stage

_HEAVY = {"aiohttp", "langchain_core", "langgraph", "pydantic", "rich", "text_generation", "torch"}


@pytest.fixture(autouse=True)
def _no_endpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    for tier in ("SMALL", "LARGE", "PLANNER"):
        for what in ("", "_URL", "_API_KEY"):
            monkeypatch.delenv(f"SGD_{tier}{what}", raising=False)
    monkeypatch.delenv("SGD_API_KEY", raising=False)


def fails(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def ask(_: Any) -> int:
        raise error

    monkeypatch.setattr(asking, "ask", ask)


# -- options


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["judge", "A", "--against", "x", "--json", "F", "--resume", "F"], "--resume and --json"),
        (["bench", "planner", "--large", "http://h", "--questions", "A", "--json", "A"],
         "--json and --questions"),
        (["bench", "endpoints", "--large", "http://h", "--questions", "A", "--resume", "./A"],
         "--resume and --questions"),
    ],
)  # fmt: skip
def test_a_file_that_is_written_has_no_other_part_to_play(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    given: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("A").write_text("{}")
    with pytest.raises(SystemExit):
        main(given)
    assert f"{said} name the same file" in capsys.readouterr().err


def test_options_that_the_live_page_does_not_know_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    demo = importlib.import_module("langchain_sgd.commands.demo")
    monkeypatch.setattr(demo, "_page", lambda _: 0)
    assert main(["demo", "--web"]) == 0
    assert main(["demo", "--web", "--seed", "3", "--plain"]) != 0
    assert "knows no --seed, --plain" in capsys.readouterr().err


def test_a_check_says_that_there_are_no_more_questions(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["check", "--large", "http://127.0.0.1:9", "--questions", "20"]) != 0
    assert "--questions 20: there are 5" in capsys.readouterr().err


# -- the package's names


def test_every_public_name_is_found_where_it_lives() -> None:
    assert {*langchain_sgd._HOMES, "__version__"} == set(langchain_sgd.__all__)
    for name in langchain_sgd.__all__:
        assert getattr(langchain_sgd, name) is not None
    assert dir(langchain_sgd) == sorted(langchain_sgd.__all__)


def test_an_unknown_name_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="no attribute 'SGD'"):
        langchain_sgd.SGD  # noqa: B018


@pytest.mark.parametrize("arguments", [["--help"], ["ask", "--help"], ["--version"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\n"
        "from langchain_sgd.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as end: assert end.code == 0, end.code\n"
        f"print('heavy:', sorted({_HEAVY!r} & set(sys.modules)))\n"
    )
    done = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, "-c", code, *arguments], check=True, capture_output=True, text=True
    )
    assert done.stdout.endswith("heavy: []\n")


# -- options


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "COMMAND"),
        (["answer"], "invalid choice"),
        (["ask"], "QUESTION"),
        (["ask", "x", "--api-key", "secret"], "put it into SGD_API_KEY"),
        (["ask", "x", "--api-key=secret"], "put it into SGD_API_KEY"),
        (["bench", "planner", "--api-key", "secret", "--questions", __file__], "SGD_API_KEY"),
        (["ask", "x", "--threshold", "9"], "must be 1 to 6, not 9"),
        (["ask", "x", "--threshold", "high"], "invalid whole number"),
        (["ask", "x", "--max-nodes", "1"], "must be 2 to 99, not 1"),
        (["ask", "x", "--deadline", "0"], "must be more than 0"),
        (["ask", "x", "--deadline", "nan"], "must be more than 0"),
        (["ask", "x", "--mode", "sometimes"], "invalid choice"),
        (["ask", "x", "--json", "/no/such/folder/x.json"], "there is no folder"),
        (["ask", "x", "--json", "/"], "/ is a folder; name a file in it"),
        (["plan", "x", "--format", "png"], "invalid choice"),
        (["serve", "--model", "large"], "NAME=PATH"),
        (["serve", "--port", "-1"], "must be 0 to 65535"),
        (["serve", "--model", f"a={__file__}", "--model", f"a={__file__}"], "'a' is given twice"),
        (["bench", "nothing"], "invalid choice"),
        (["judge", __file__], "--against"),
        (["judge", "none.jsonl", "--against", "x"], "there is no file none.jsonl"),
        (["check", "--questions", "-1"], "must be 0 or more, not -1"),
        (["judge", __file__, "--against", "x", "--price", "1", "-1"], "must be 0 or more, not -1"),
    ],
)
def test_wrong_usage_is_told_with_code_2(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert complaint in said
    assert "secret" not in said


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["ask", " "], "the question is empty"),
        (["ask", "x", "--small", "http://127.0.0.1:1"], "no large model"),
        (["ask", "x", "--large", "ftp://x"], "is no URL of a model server"),
        (["ask", "x", "--large", "http:/x:80"], "is no URL of a model server"),
        (["mcp", "--port", "5", "--allow-host", "x"], "--port, --allow-host: only with --http"),
        (["ask", "x", "--large", "localhost:8000"], "give a URL such as http://localhost:8000"),
        (["plan", "x", "--large", "nobody:x"], "makes no model of 'nobody:x'"),
        (["ask", "x", "--large", "http://x", "--api-key-env", "NO_SUCH"], "NO_SUCH"),
        (["serve", "--host", "0.0.0.0"], "opens the models to the network"),  # noqa: S104
    ],
)
def test_unusable_input_is_told_in_one_line_with_code_2(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert complaint in said.err
    assert said.err.count("\n") == 1
    assert said.out == ""


# -- errors


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (InvalidInputError("give a question"), 2, "langchain-sgd: give a question"),
        (SkeletonError("no nodes"), 2, "langchain-sgd: no nodes"),
        (PlannerError("it failed\n  badly"), 1, "langchain-sgd: it failed badly"),
        (OSError(98, "Address in use"), 1, "langchain-sgd: [Errno 98] Address in use"),
        (KeyError("x"), 1, "langchain-sgd: KeyError: 'x' (--debug shows where)"),
        (PlannerError(), 1, "langchain-sgd: PlannerError:  (--debug shows where)"),
        (KeyboardInterrupt(), 130, "langchain-sgd: interrupted"),
    ],
)
def test_errors_are_one_line_and_a_code(
    error: BaseException,
    code: int,
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fails(monkeypatch, error)
    assert main(["ask", "x"]) == code
    assert capsys.readouterr().err == f"{line}\n"


def test_debug_shows_where_an_error_came_from(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fails(monkeypatch, PlannerError("it failed"))
    assert main(["ask", "x", "--debug"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("Traceback")
    assert said.endswith("PlannerError: it failed\n")


@pytest.mark.parametrize("debug", [[], ["--debug"]])
def test_a_servers_words_neither_steer_the_terminal_nor_show_a_key(
    debug: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SGD_API_KEY", "own secret")
    monkeypatch.setenv("MINE", "my secret")
    words = "bad \x1b]0;PWN\x07\x9b31m \u202e\ud83d own secret, my secret, http://user:PW@host"
    fails(monkeypatch, PlannerError(words))
    assert main(["ask", "x", "--api-key-env", "MINE", *debug]) == 1
    said = capsys.readouterr().err
    assert "bad" in said
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\ud83d]|secret|PW@", said)


# -- benchmarks


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_benchmarks_are_listed(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *arguments]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in BENCHES)


@pytest.mark.parametrize("name", BENCHES)
def test_every_listed_benchmark_exists(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["bench", name, "--help"])
    assert end.value.code == 0
    assert f"langchain-sgd bench {name}" in capsys.readouterr().out


def test_a_benchmark_gets_its_own_options(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[list[str]] = []
    module = importlib.import_module("langchain_sgd.bench.schedule")
    monkeypatch.setattr(module, "main", given.append)
    assert main(["bench", "schedule", "--skeletons", "3", "--json", "x"]) == 0
    assert given == [["--skeletons", "3", "--json", "x"]]


# -- where the models are


def names(*arguments: str) -> dict[str, str]:
    return names_of(parser().parse_args(["ask", "x", *arguments]))


def key(tier: str, *arguments: str) -> str | None:
    found = key_of(parser().parse_args(["ask", "x", *arguments]), tier)
    return found.get_secret_value() if found else None


def test_options_go_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert names() == {}
    monkeypatch.setenv("SGD_LARGE_URL", "http://a")
    monkeypatch.setenv("SGD_SMALL_URL", "http://b")
    assert names() == {"small": "http://b", "large": "http://a"}
    monkeypatch.setenv("SGD_LARGE", "openai:gpt-5-nano")
    assert names() == {"small": "http://b", "large": "openai:gpt-5-nano"}
    assert names("--large", "http://c") == {"small": "http://b", "large": "http://c"}


def test_names_become_models_each_with_the_key_that_is_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SGD_API_KEY", "for urls")
    monkeypatch.setenv("OPENAI_API_KEY", "for openai")
    monkeypatch.setenv("MINE", "mine")
    arguments = ["ask", "x", "--large", "openai:gpt-4o-mini", "--small", "http://gpu:8000#a"]
    args = parser().parse_args(arguments)
    models: Any = models_of(args, names_of(args), temperature=0.5)
    assert models["large"].openai_api_key.get_secret_value() == "for openai"
    assert models["small"].key.get_secret_value() == "for urls"
    assert (models["large"].temperature, models["small"].options) == (0.5, {"temperature": 0.5})
    args = parser().parse_args([*arguments, "--api-key-env", "MINE"])
    models = models_of(args, names_of(args))
    assert models["large"].openai_api_key.get_secret_value() == "mine"
    assert models["small"].key.get_secret_value() == "mine"


def test_keys_come_from_the_environment_only(monkeypatch: pytest.MonkeyPatch) -> None:
    assert key("large") is None
    monkeypatch.setenv("SGD_API_KEY", "one for all")
    monkeypatch.setenv("SGD_SMALL_API_KEY", "for the small")
    monkeypatch.setenv("MINE", "mine")
    assert key("large") == "one for all"
    assert key("small") == "for the small"
    assert key("small", "--api-key-env", "MINE") == "mine"


def test_the_question_may_be_several_words_or_standard_input(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parse = parser().parse_args
    assert asking._question(parse(["ask", "What", "is", "this?"])) == "What is this?"
    monkeypatch.setattr(sys, "stdin", io.StringIO("a long\nquestion\n"))
    assert asking._question(parse(["ask", "-"])) == "a long\nquestion"
    monkeypatch.setattr(sys, "stdin", io.StringIO("\ufeffas Windows writes it\r\n"))
    assert asking._question(parse(["ask", "-"])) == "as Windows writes it"


def test_a_file_that_cannot_be_written_is_told_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path or mode != os.W_OK)
    with pytest.raises(SystemExit):
        main(["ask", "x", "--json", str(tmp_path / "x.json")])
    assert "x.json cannot be written" in capsys.readouterr().err


# -- what is asked


@contextmanager
def _answered_by(monkeypatch: pytest.MonkeyPatch, stage: Stage) -> Iterator[None]:
    @contextmanager
    def models(*_: object) -> Iterator[dict[str, Any]]:
        yield stage.pair()

    with monkeypatch.context() as patch:
        patch.setattr(asking, "_models", models)
        yield


@pytest.mark.parametrize("options", [[], ["--plain"], ["--json", "-"]])
@pytest.mark.parametrize("reply", [Say([], error=ValueError("no \x1b[31mmore")), Say("")])
def test_an_undivided_answer_that_failed_is_one_sentence_and_nothing_else(
    reply: Say,
    options: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with _answered_by(monkeypatch, Stage({"planner": Say("PLAIN"), "plain": reply})):
        assert main(["ask", "Why?", *options]) == 1
    said = capsys.readouterr()
    if options[:1] == ["--json"]:
        assert one_line(json.loads(said.out)["error"]) in said.err
    else:
        assert said.out == ""
    assert said.err.count("\n") == 1
    assert said.err.startswith("langchain-sgd: ")
    assert "\x1b" not in said.err


@pytest.mark.parametrize("reply", [Say(["Be", "gun"], error=ValueError("no more")), Say("")])
def test_json_tells_why_there_is_no_answer_and_nothing_of_an_earlier_one(
    reply: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "answer.json"
    path.write_text("of another question")
    with _answered_by(monkeypatch, Stage({"planner": Say("PLAIN"), "plain": reply})):
        assert main(["ask", "Why?", "--json", str(path)]) == 1
    found = json.loads(path.read_text())
    assert (found["question"], found["answer"]) == ("Why?", "")
    assert "no more" in found["error"] if reply.error else found["error"]
    [node] = found["report"]["nodes"]
    assert node["answer"] == "".join(reply.text or ())


def test_json_tells_why_no_model_was_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "answer.json"
    monkeypatch.setenv("SGD_API_KEY", "hush-hush")

    for error in (OSError("no models for hush-hush"), KeyboardInterrupt()):

        def answer(*_: object, error: BaseException = error) -> None:
            raise error

        monkeypatch.setattr(asking, "_answer", answer)
        main(["ask", "Why?", "--json", str(path)])
        found = json.loads(path.read_text())
        assert (found["answer"], found["report"]) == ("", None)
        assert found["error"] in capsys.readouterr().err
        assert "hush" not in found["error"]


def test_json_of_an_answer_has_no_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with _answered_by(monkeypatch, Stage({"planner": Say("PLAIN"), "plain": Say("Because.")})):
        assert main(["ask", "Why?", "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["answer"], found["error"]) == ("Because.", None)


HOSTILE = "A\x1b]0;PWN\x07\x9b31m\u202e\x7f"


@pytest.mark.parametrize("kind", ["tree", "json", "mermaid", "svg"])
def test_a_hostile_plan_cannot_steer_the_terminal(
    kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = f"1|{HOSTILE}|s [link=http://evil]click[/link] {HOSTILE}|-|2\n2|B[/b]|s|1|2\n"
    with _answered_by(monkeypatch, Stage({"planner": Say(lines)})):
        assert main(["plan", "Why?", "--format", kind]) == 0
    said = capsys.readouterr().out
    assert "A" in said
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", said)
    if kind == "json":
        assert json.loads(said)["nodes"][0]["scope"].startswith("s [link=http://evil]")


def test_a_hostile_answer_cannot_steer_the_terminal_as_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with _answered_by(monkeypatch, Stage({"planner": Say("PLAIN"), "plain": Say(HOSTILE)})):
        assert main(["ask", "Why?", "--json", "-"]) == 0
    said = capsys.readouterr().out
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", said)
    assert json.loads(said)["answer"] == HOSTILE


@pytest.mark.parametrize("kind", ["tree", "json", "mermaid", "svg"])
def test_no_plan_has_one_exit_code(
    kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with _answered_by(monkeypatch, Stage({"planner": Say("PLAIN")})):
        assert main(["plan", "What is 2+2?", "--format", kind]) == 0
    assert (capsys.readouterr().out == "") is (kind != "json")


def test_a_model_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "x=y.gguf"
    file.touch()
    args = parser().parse_args(["serve", "--model", f"large={file}"])
    assert args.model == {"large": file}


def test_models_that_load_for_long_are_not_silent() -> None:
    class ThirdTime:
        waits = 0

        def wait(self, timeout: float) -> bool:
            assert timeout == 10
            self.waits += 1
            return self.waits == 3

    said: list[str] = []
    remind(said.append, ThirdTime(), {"large": "loading it (676 MB) with OpenVINO"})
    assert said == [
        f"large is not ready: loading it (676 MB) with OpenVINO, for {seconds} s or more"
        for seconds in (10, 20)
    ]


@pytest.mark.parametrize("kind", ["tree", "json"])
def test_a_planner_that_failed_is_a_failure(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with _answered_by(monkeypatch, Stage({"planner": Say("", error=ValueError("gone"))})):
        assert main(["plan", "Why?", "--format", kind]) == 1


@pytest.mark.parametrize("how", [["--plain"], ["--json", "-"]])
def test_no_answer_is_lost_where_output_is_not_utf_8(
    how: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="latin-1"))
    stage = Stage({"planner": Say("PLAIN"), "plain": Say("Caf\xe9 \U0001f600")})
    with _answered_by(monkeypatch, stage):
        assert main(["ask", "Why?", *how]) == 0
    sys.stdout.flush()
    said = raw.getvalue().decode("latin-1")
    if how == ["--plain"]:
        assert "Caf\xe9 ?" in said
    else:
        assert json.loads(said)["answer"] == "Caf\xe9 \U0001f600"


def test_a_question_that_is_no_text_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ask", "Write \udcff"]) == 2
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"caf\xe9 a"), encoding="utf-8"))
    assert main(["ask", "-"]) == 2
    assert capsys.readouterr().err.count("the question is not UTF-8 text") == 2


def test_what_tasks_raised_together_is_told_by_its_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fails(monkeypatch, ExceptionGroup("x", [ExceptionGroup("y", [OSError(28, "No space left")])]))
    assert main(["ask", "Why?"]) == 1
    assert capsys.readouterr().err == "langchain-sgd: [Errno 28] No space left\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["serve", "--port", "99999"],
        ["bench", "faces", "--json", "-"],
        ["bench", "faces", "--json", "/"],
        ["bench", "faces", "--repeats", "0"],
        ["bench", "schedule", "--skeletons", "0"],
        ["bench", "planner", "--questions", __file__, "--max-nodes", "1"],
        ["bench", "embedded", "--html", "/"],
        ["bench", "embedded", "--svg", "/"],
        ["bench", "embedded", "--methods", "nothing"],
        ["bench", "embedded", "--questions", "0", "--short-questions", "0"],
        ["bench", "calibrate", "--save", "/"],
        ["demo", "--svg", "-"],
        ["bench", "endpoints", "--questions", __file__, "--html", "/"],
        ["bench", "endpoints", "--questions", __file__, "--temperature", "nan"],
        ["bench", "planner", "--questions", __file__, "--large", "http://x", "--plain-above", "0"],
        [
            "bench",
            "planner",
            "--questions",
            __file__,
            "--large",
            "http://x",
            "--plain-above",
            "1.1",
        ],
        ["bench", "endpoints", "--questions", __file__, "--prices", "large=1,2", "large=2,3"],
        ["bench", "load", "--lengths", __file__, "--users", "0"],
        ["judge", __file__, "--against", "x", "--resume", "-"],
        ["judge", __file__, "--against", "x", "--resume", "/"],
    ],
)
def test_what_would_fail_late_is_refused_early(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2


@pytest.mark.parametrize("name", [name for name in BENCHES if name != "resume"])
def test_every_number_and_file_of_a_benchmark_is_looked_at_before_it_begins(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[argparse.ArgumentParser] = []

    def caught(self: argparse.ArgumentParser, _: Any = None) -> Any:
        made.append(self)
        raise SystemExit

    module = importlib.import_module(f"langchain_sgd.bench.{name}")
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", caught)
    with pytest.raises(SystemExit):
        module.main([])
    kinds = {action.dest: action.type for action in made[0]._actions}
    assert {d: k for d, k in kinds.items() if k in {int, float, Path}} == {}


def test_a_port_that_is_taken_is_told_before_models_are_loaded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Taken:
        """A socket whose address is in use."""

        def __init__(self, *_: object) -> None:
            pass

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def setsockopt(self, *_: object) -> None:
            pass

        def bind(self, address: tuple[str, int]) -> None:
            assert address == ("127.0.0.1", 8400)
            raise OSError(errno.EADDRINUSE, "Address already in use")

    monkeypatch.setattr("socket.socket", Taken)
    monkeypatch.setattr(serving, "EmbeddedServer", pytest.fail)
    assert main(["serve", "--port", "8400"]) == 2
    told = "nothing can listen at 127.0.0.1, port 8400: Address already in use; give another --port"
    assert told in capsys.readouterr().err


def test_findings_cannot_steer_the_terminal_or_end_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = Stage(default=Say("", error=ValueError(f"{HOSTILE} \ud83d")))
    models = {"small": stage.model("small"), "large": stage.model("large")}
    monkeypatch.setattr(checks, "names_of", lambda _: {"large": "x"})
    monkeypatch.setattr(checks, "models_of", lambda *_: models)
    main(["check", "--json", "-", "--questions", "1"])
    said = capsys.readouterr().out
    assert "PWN" in json.dumps(json.loads(said))
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", said)
