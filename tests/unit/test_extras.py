"""The base install: what runs without any extra, and how a missing one is told."""

from __future__ import annotations

import pickle
import subprocess
import sys

import pytest

from langchain_sgd._extras import MissingExtraError, require

_EXTRAS = ("aiohttp", "text_generation", "langchain_huggingface", "huggingface_hub", "langchain_openai",
           "openai", "langchain_ollama", "langchain", "xllamacpp", "openvino_genai", "numpy", "jinja2")  # fmt: skip

_BLOCK = f"""
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {_EXTRAS!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocked())
"""


def without_extras(code: str) -> str:
    done = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, "-c", _BLOCK + code], check=True, capture_output=True, text=True
    )
    return done.stdout


def test_a_run_needs_no_extra() -> None:
    assert "complete 2" in without_extras("""
from langchain_sgd import ChatSGD, Report, SGDRunnable
from langchain_sgd import platform, checking, baselines, judging, drawing, terminal
from langchain_sgd.models import resolve
from tests.support.models import PLANNER, Stage, planning
from tests.support.skeletons import skeleton

resolve("http://gpu:8000")
stage = Stage({PLANNER: planning(skeleton("1", "2"))})
report = Report.from_message(SGDRunnable(**stage.pair()).invoke("Why?"))
ChatSGD(SGDRunnable(**stage.pair()))
print(report.status, len(report.nodes))
""")


@pytest.mark.parametrize(
    ("code", "extra"),
    [
        ("from langchain_sgd.tgi import ChatTGI", "tgi"),
        ("from langchain_sgd.embedded.server import EmbeddedServer", "embedded"),
        ("from langchain_sgd.models import resolve; resolve('openai:gpt-5-nano')", "providers"),
    ],
)
def test_a_missing_extra_is_named(code: str, extra: str) -> None:
    said = without_extras(f"""
try:
    {code}
except ImportError as error:
    print(error)
""")
    assert f'pip install "langchain-sgd[{extra}]"' in said


def test_the_command_line_names_it_too() -> None:
    said = without_extras("""
from langchain_sgd.cli import main
sys.stderr = sys.stdout
print(main(["ask", "x"]))
""")
    assert said.endswith('pip install "langchain-sgd[embedded]"\n2\n')


def test_the_error_travels() -> None:
    error = MissingExtraError("This", "tgi", "aiohttp")
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert (str(again), again.extra, again.name) == (str(error), "tgi", "aiohttp")
    require("tgi", "json")
    with pytest.raises(MissingExtraError, match="no_such_module"):
        require("tgi", "no_such_module")
