"""What stands between this machine, or an endpoint, and a working run; as data.

Every check says what it found and, where that will not do, what to do about it. Nothing here raises for
what it finds.
"""

from __future__ import annotations

import asyncio
import ctypes
import importlib.metadata
import platform
import re
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import SecretStr

from langchain_sgd.embedded import llamacpp, openvino
from langchain_sgd.embedded.engine import Counters, Engine, EngineError, GenerateRequest
from langchain_sgd.embedded.load import SLOW, load
from langchain_sgd.embedded.server import bundled_models
from langchain_sgd.errors import InvalidInputError

__all__ = ["Check", "diagnose", "diagnose_endpoint", "diagnose_machine"]

_PYTHON: Final = (3, 11)
_PACKAGES: Final = {
    "langchain-core": "1.7",
    "langgraph": "1.2.19",
    "langchain-huggingface": "1.2",
    "pydantic": "2.11",
    "aiohttp": "3.11",
    "text-generation": "0.7",
}
_CPUINFO: Final = Path("/proc/cpuinfo")
_DIGITS: Final = "[0-9]{3}"
_PROBE_TOKENS: Final = 8


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    ok: bool
    detail: str
    """What was found, in a few words."""
    remedy: str = ""
    """What to do next; empty where nothing needs doing."""


async def diagnose(
    endpoints: Mapping[str, str] | None = None, *, api_key: SecretStr | str | None = None
) -> list[Check]:
    """Look at everything a run needs.

    Args:
        endpoints: TGI URLs by tier. Without them the bundled models are looked at instead.
        api_key: Sent to the endpoints as a bearer token.
    """
    checks = [*check_python(), *check_packages()]
    if not endpoints:
        return checks + await diagnose_machine()
    for tier, url in endpoints.items():
        checks += await diagnose_endpoint(url, name=tier, api_key=api_key)
    return checks


async def diagnose_machine() -> list[Check]:
    """Whether this machine can run the bundled models."""
    engines = list(check_engines())
    needed = check_libgomp() if engines[0].name != "engine OpenVINO" or not engines[0].ok else ()
    checks = [*needed, *check_processor(), *engines]
    if not any(check.ok for check in engines):
        return checks
    try:
        models = bundled_models()
    except EngineError as error:
        return [*checks, Check("bundled models", ok=False, detail=str(error), remedy=_REINSTALL)]
    return checks + [await check_model(name, path) for name, path in models.items()]


async def diagnose_endpoint(
    url: str,
    *,
    name: str = "endpoint",
    api_key: SecretStr | str | None = None,
    timeout_s: float = 20.0,
) -> list[Check]:
    """Whether a URL is a TGI server that a run can use.

    Costs the server one short chat and one short grammar call. A check that makes the next ones
    pointless is the last one.

    Args:
        url: The server's base URL.
        name: What the checks call it.
        api_key: Sent as a bearer token.
        timeout_s: For all checks together; a server that loads its model may need more.
    """
    checks: list[Check] = []
    try:
        async with asyncio.timeout(timeout_s):
            async for check in _endpoint_checks(url, name, api_key):
                checks.append(check)  # noqa: PERF401 - kept when the time is up
    except TimeoutError:
        checks.append(
            Check(
                f"{name}: time",
                ok=False,
                detail=f"{url} did not answer all checks within {timeout_s:g} s",
                remedy="Look at the server's log: it may be loading its model, or be overloaded.",
            )
        )
    return checks


def check_python() -> Iterator[Check]:
    """The interpreter's version."""
    found = ".".join(map(str, sys.version_info[:3]))
    ok = sys.version_info >= _PYTHON
    needed = ".".join(map(str, _PYTHON))
    yield Check("python", ok, found, "" if ok else f"Use Python {needed} or newer.")


def check_packages() -> Iterator[Check]:
    """The packages that a run imports."""
    for package, minimum in _PACKAGES.items():
        version = _version(package)
        if version is None:
            yield Check(package, ok=False, detail="not installed", remedy=f"pip install {package}")
            continue
        ok = _numbers(version) >= _numbers(minimum)
        remedy = "" if ok else f'pip install "{package}>={minimum}"'
        yield Check(package, ok, version, remedy)


def check_libgomp() -> Iterator[Check]:
    """The OpenMP library, which llama.cpp's Linux wheels need and do not carry."""
    if sys.platform != "linux":
        return
    try:
        ctypes.CDLL("libgomp.so.1")
    except OSError:
        yield Check("libgomp", ok=False, detail="not installed", remedy=llamacpp.LIBGOMP_HINT)
    else:
        yield Check("libgomp", ok=True, detail="found")


def check_processor(cpuinfo: Path = _CPUINFO) -> Iterator[Check]:
    """AVX2, without which the x86-64 wheels die of an illegal instruction."""
    machine = platform.machine()
    if machine not in {"x86_64", "AMD64"} or not cpuinfo.is_file():
        yield Check("processor", ok=True, detail=machine)
        return
    ok = re.search(r"^flags\s*:.*\bavx2\b", cpuinfo.read_text(), re.MULTILINE) is not None
    remedy = "" if ok else "Use endpoints (--small, --large): this processor cannot run the engine."
    yield Check("processor", ok, f"{machine}, {'' if ok else 'no '}AVX2", remedy)


def check_engines() -> Iterator[Check]:
    """Which engines are there: the default one, and the one for what it cannot do."""
    if (reason := openvino.unfit_machine()) is None:
        yield Check("engine OpenVINO", ok=True, detail=_version("openvino-genai") or "found")
    elif "not installed" in reason:
        yield Check(
            "engine OpenVINO", ok=False, detail="not installed", remedy=openvino.INSTALL_HINT
        )
    else:
        yield Check("engine OpenVINO", ok=True, detail=f"{reason}; llama.cpp it is. {SLOW}")
    version = llamacpp.installed_version()
    if version is None:
        yield Check(
            "engine llama.cpp", ok=False, detail="not installed", remedy=llamacpp.INSTALL_HINT
        )
        return
    tested = (
        "" if version == llamacpp.TESTED_VERSION else f", tested with {llamacpp.TESTED_VERSION}"
    )
    yield Check("engine llama.cpp", ok=True, detail=f"xllamacpp {version}{tested}")


async def check_model(name: str, path: Path) -> Check:
    """Whether a GGUF file loads and says something."""
    title = f"model {name}"
    started = time.perf_counter()
    try:
        engine = await asyncio.to_thread(load, path)
    except EngineError as error:
        return Check(title, ok=False, detail=str(error), remedy=_REINSTALL)
    loaded_s = time.perf_counter() - started
    try:
        count = await _count_tokens(engine)
    except EngineError as error:
        return Check(title, ok=False, detail=str(error), remedy=_REINSTALL)
    finally:
        await engine.aclose()
    answered_s = time.perf_counter() - started - loaded_s
    size = (await asyncio.to_thread(path.stat)).st_size / 1e6
    detail = (
        f"{path.name}, {size:.1f} MB, loaded in {loaded_s * 1e3:.0f} ms,"
        f" {count} tokens in {answered_s * 1e3:.0f} ms"
    )
    return Check(title, count > 0, detail, "" if count else _REINSTALL)


async def _count_tokens(engine: Engine) -> int:
    request = GenerateRequest("Hello", _PROBE_TOKENS)
    async with aclosing(engine.generate(request, Counters())) as tokens:
        return len([token async for token in tokens])


async def _endpoint_checks(
    url: str, name: str, api_key: SecretStr | str | None
) -> AsyncIterator[Check]:
    # Only here: who runs local models needs no TGI client.
    from langchain_sgd.tgi.client import TGIClient  # noqa: PLC0415
    from langchain_sgd.tgi.errors import TGIAuthError, TGIError  # noqa: PLC0415
    from langchain_sgd.tgi.transport import Patience  # noqa: PLC0415

    def failed(what: str, error: TGIError) -> Check:
        return Check(f"{name}: {what}", ok=False, detail=error.detail, remedy=error.remedy)

    try:
        client = TGIClient(url, api_key=api_key, patience=Patience(max_retries=0))
    except InvalidInputError as error:
        yield Check(f"{name}: url", ok=False, detail=str(error), remedy="Correct the URL.")
        return
    async with client:
        try:
            info = await client.info()
        except TGIError as error:
            yield failed("info", error)
            return
        yield Check(f"{name}: info", ok=True, detail=f"{info.model_id} at {client.base_url}")

        try:
            healthy = await client.health()
        except TGIError as error:
            yield failed("health", error)
            return
        yield Check(
            f"{name}: health",
            healthy,
            "healthy" if healthy else "the server says that its model does not work",
            "" if healthy else "Look at the server's log and restart it.",
        )

        message = {"role": "user", "content": "Hello"}
        try:
            await client.chat({"messages": [message], "max_tokens": 1})
        except TGIAuthError as error:
            yield failed("key", error)
            return
        except TGIError as error:
            yield failed("chat", error)
        else:
            yield Check(f"{name}: chat", ok=True, detail="answers")

        grammar = {"type": "regex", "value": _DIGITS}
        try:
            text = (
                await client.generate("A number:", max_new_tokens=8, grammar=grammar)
            ).generated_text
        except TGIError as error:
            yield failed("grammar", error)
            return
        ok = re.fullmatch(_DIGITS, text) is not None
        yield Check(
            f"{name}: grammar",
            ok,
            "followed" if ok else f"asked for three digits, got {text!r}",
            "" if ok else "The planner then relies on its parser; plans may need more repairs.",
        )


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _numbers(version: str) -> tuple[int, ...]:
    """A version's leading numbers, for comparison."""
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("+")[0])[:3])


_REINSTALL: Final = 'pip install --force-reinstall "langchain-sgd[embedded]"'
