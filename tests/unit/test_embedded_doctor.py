"""What the doctor finds, without engine or network."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pytest

from langchain_sgd.embedded import doctor, llamacpp, openvino
from langchain_sgd.embedded.doctor import Check
from langchain_sgd.embedded.engine import EngineError


def test_this_python_is_new_enough() -> None:
    (check,) = doctor.check_python()
    assert check.ok
    assert not check.remedy


def test_an_old_python_is_told_what_to_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.version_info", (3, 9, 1))
    (check,) = doctor.check_python()
    assert check == Check("python", ok=False, detail="3.9.1", remedy="Use Python 3.11 or newer.")


def test_old_and_missing_packages_get_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(package: str) -> str:
        if package == "aiohttp":
            raise importlib.metadata.PackageNotFoundError(package)
        return {"langgraph": "1.2.9", "pydantic": "2.11.0rc1+local"}.get(package, "99.0")

    monkeypatch.setattr(importlib.metadata, "version", version)
    failed = {check.name: check.remedy for check in doctor.check_packages() if not check.ok}
    assert failed == {
        "langgraph": 'pip install "langgraph>=1.2.19"',
        "aiohttp": "pip install aiohttp",
    }


@pytest.mark.parametrize(
    ("flags", "ok"), [("fpu avx avx2 fma", True), ("fpu avx", False), ("fpu avx512", False)]
)
def test_avx2_is_looked_for(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    flags: str,
    ok: bool,  # noqa: FBT001
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\nflags\t\t: {flags}\n")
    (check,) = doctor.check_processor(cpuinfo)
    assert check.ok is ok
    assert bool(check.remedy) is not ok


def test_other_processors_need_no_avx2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert [check.detail for check in doctor.check_processor()] == ["aarch64"]


def test_a_missing_libgomp_gets_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr("ctypes.CDLL", fail)
    (check,) = doctor.check_libgomp()
    assert check.remedy == "apt-get install -y libgomp1"


async def test_without_an_engine_no_model_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino, "unfit_machine", lambda: "openvino-genai is not installed: x")
    monkeypatch.setattr(llamacpp, "installed_version", lambda: None)
    checks = await doctor.diagnose_machine()
    assert [(check.name, check.remedy) for check in checks[-2:]] == [
        ("engine OpenVINO", 'pip install "langchain-sgd[embedded]"'),
        ("engine llama.cpp", "pip install xllamacpp==2026.10.11549"),
    ]


def test_a_machine_without_the_default_engine_is_told_what_it_loses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    monkeypatch.setattr(llamacpp, "installed_version", lambda: "2030.1")
    default, other = doctor.check_engines()
    assert default.ok
    assert "SGD gains little" in default.detail
    assert "tested with 2026.10" in other.detail


async def test_missing_models_are_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise EngineError("missing at x")

    monkeypatch.setattr(doctor, "bundled_models", fail)
    monkeypatch.setattr(doctor, "check_engines", lambda: [Check("engine", ok=True, detail="1")])
    checks = await doctor.diagnose_machine()
    assert (checks[-1].name, checks[-1].ok, checks[-1].detail) == (
        "bundled models",
        False,
        "missing at x",
    )
