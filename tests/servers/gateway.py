"""Scale out: SGD in front of a gateway, two real model servers behind it, one of them killed in the middle.

    pip install sglang-router        # in an environment of its own
    python -m tests.servers.gateway --router "PYTHON -m sglang_router.launch_router"

For each policy of the gateway, plain decoding and SGD by as many users as are named, who share the questions
among themselves. Every run starts its servers anew, so that it finds nothing of another's prompts in their caches.
Prompt tokens that a cached prefix saved are counted by the servers. At last one server is killed while all
users wait: what is lost, and what was asked again, is counted in the reports.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import re
import shlex
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from langchain_sgd import SGDRunnable
from langchain_sgd.baselines import PlainDecoding
from langchain_sgd.bench._measure import ask
from langchain_sgd.bench.embedded import bundled_questions
from langchain_sgd.bundled import BRIEFS_PROMPTS
from langchain_sgd.embedded.server import bundled_models
from langchain_sgd.files import Row
from langchain_sgd.models import resolve
from langchain_sgd.planning.forms import bound
from langchain_sgd.report import Report

_SERVERS = 2
_START_S = 600.0


class Cluster:
    """A gateway and the servers behind it."""

    def __init__(self, gateway: str, urls: Sequence[str], processes: Sequence[Any]) -> None:
        self.gateway = gateway
        self._urls = list(urls)
        self._processes = list(processes)

    def counts(self) -> list[dict[str, float]]:
        """Each server's requests and prompt tokens so far."""
        return [_counts(url) for url in self._urls]

    def kill(self) -> None:
        """Kill the server that has done most: its connections break."""
        done = [each["requests"] for each in self.counts()]
        busiest = done.index(max(done))
        self._processes.pop(busiest).kill()
        self._urls.pop(busiest)


def _counts(url: str) -> dict[str, float]:
    text = _get(f"{url}/metrics")
    names = {
        "requests": "tgi_request_success",
        "prompt": "langchain_sgd_prompt_tokens",
        "cached": "langchain_sgd_cached_prompt_tokens",
    }
    return {
        key: sum(map(float, re.findall(rf"^{name}{{.*}} (\S+)$", text, re.MULTILINE)))
        for key, name in names.items()
    }


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - loopback
        text: str = answer.read().decode()
    return text


@contextlib.contextmanager
def cluster(args: argparse.Namespace, policy: str) -> Iterator[Cluster]:
    """Model servers and the gateway, while the block runs."""
    with contextlib.ExitStack() as stack:

        def started(command: Sequence[str], **options: Any) -> subprocess.Popen[str]:
            process = subprocess.Popen(command, text=True, stderr=subprocess.DEVNULL, **options)
            stack.callback(process.wait)
            stack.callback(process.kill)
            return process

        serve = [sys.executable, "-m", "langchain_sgd", "serve", "--port", "0"]
        serve += ["--model", f"large={args.model}", "--engine", args.engine, "--slots", "16"]
        servers = [started(serve, stdout=subprocess.PIPE) for _ in range(_SERVERS)]
        urls = [_url_of(process) for process in servers]
        port = _free_port()
        router = [*shlex.split(args.router), "--host", "127.0.0.1", "--port", str(port)]
        router += ["--policy", policy, "--worker-urls", *urls]
        # A server that is gone is to be noticed within a second or two.
        router += ["--health-check-interval-secs", "1", "--health-failure-threshold", "1"]
        router += ["--health-check-timeout-secs", "1", "--prometheus-port", str(_free_port())]
        started(router, stdout=subprocess.DEVNULL)
        gateway = f"http://127.0.0.1:{port}"
        _wait(f"{gateway}/v1/models")
        yield Cluster(gateway, urls, servers)


def _url_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.search(r"(http://\S+)/large", line):
            return found[1]
    msg = "a model server did not start"
    raise SystemExit(msg)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    return port


def _wait(url: str) -> None:
    until = time.monotonic() + _START_S
    while time.monotonic() < until:
        with contextlib.suppress(OSError):
            _get(url)
            return
        time.sleep(0.2)
    msg = f"the gateway did not answer {url}"
    raise SystemExit(msg)


def methods(gateway: str, limit: int) -> dict[str, SGDRunnable]:
    """Plain decoding and SGD through the gateway."""
    large = bound(resolve(gateway), temperature=0.0, max_tokens=limit)
    return {
        "plain": PlainDecoding(large=large),
        "SGD": SGDRunnable(large=large, prompts=BRIEFS_PROMPTS, constrain=False, retries=4),
    }


async def answers(
    runnable: SGDRunnable, users: int, questions: Sequence[str], done: Any = lambda: None
) -> list[Row]:
    """All questions, each user's one after the other."""
    rows: list[Row] = []

    async def user(own: Sequence[str]) -> None:
        for text in own:
            rows.append(await ask(runnable, text))
            done()

    async with asyncio.TaskGroup() as group:
        for number in range(users):
            group.create_task(user(questions[number::users]))
    return rows


def figures(rows: Sequence[Row], wall_s: float) -> dict[str, Any]:
    """Of one run."""
    reports = [Report.model_validate(row["report"]) for row in rows if row["report"]]
    attempts = [len(node.attempts) for report in reports for node in report.nodes]
    return {
        "answers": len(rows),
        "whole": sum(report.status in ("complete", "plain") for report in reports),
        "errors": sorted({row["error"] for row in rows if row["error"]}),
        "asked_again": sum(attempts) - len(attempts),
        "answers_a_minute": 60 * len(rows) / wall_s,
        "wall_s": statistics.median(row["wall_s"] for row in rows),
        "first_text_s": statistics.median(row["ttft_s"] or row["wall_s"] for row in rows),
    }


async def measured(args: argparse.Namespace, policy: str, method: str, users: int) -> Row:
    """One run, on servers of its own."""
    questions = [q.text for q in bundled_questions(max(args.answers, users), 0, args.seed)]
    with cluster(args, policy) as running:
        runnable = methods(running.gateway, args.max_tokens)[method]
        await ask(runnable, "Warm up.")
        before = running.counts()
        began = time.perf_counter()
        rows = await answers(runnable, users, questions)
        wall_s = time.perf_counter() - began
        spent = [
            {key: now[key] - old[key] for key in now}
            for now, old in zip(running.counts(), before, strict=True)
        ]
    prompt = sum(each["prompt"] for each in spent)
    return {
        "policy": policy,
        "method": method,
        "users": users,
        **figures(rows, wall_s),
        "prefix_hits": sum(each["cached"] for each in spent) / prompt,
        "requests": [each["requests"] for each in spent],
    }


async def killed(args: argparse.Namespace, policy: str, method: str, users: int) -> Row:
    """One server is killed when a third of the answers is there."""
    questions = [q.text for q in bundled_questions(max(args.answers, users), 0, args.seed)]
    left = len(questions) // 3
    with cluster(args, policy) as running:
        runnable = methods(running.gateway, args.max_tokens)[method]
        await ask(runnable, "Warm up.")

        def done() -> None:
            nonlocal left
            left -= 1
            if left == 0:
                running.kill()

        began = time.perf_counter()
        rows = await answers(runnable, users, questions, done)
        found = figures(rows, time.perf_counter() - began)
    return {"policy": policy, "method": method, "users": users, **found}


def _shown(row: Row) -> str:
    hits = f"{row['prefix_hits']:5.0%}" if "prefix_hits" in row else "     "
    requests = "/".join(f"{n:.0f}" for n in row.get("requests", ()))
    return (
        f"{row['policy']:<12} {row['method']:<6} {row['users']:>3} users  "
        f"{row['answers_a_minute']:7.1f} answers/min  {row['wall_s']:6.2f} s  first {row['first_text_s']:5.2f} s  "
        f"hits {hits}  whole {row['whole']} of {row['answers']}  again {row['asked_again']}  {requests}"
        f"  {' '.join(row['errors'])}"
    )


async def main() -> None:
    """Print the figures, and save them."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--router", required=True, help="the command that starts the gateway")
    options.add_argument("--model", type=Path, default=None, help="GGUF; default: bundled large")
    options.add_argument(
        "--engine", default="llamacpp", help="default: llamacpp, which counts hits"
    )
    options.add_argument("--policies", nargs="+", default=["cache_aware", "round_robin", "random"])
    options.add_argument("--users", nargs="+", type=int, default=[1, 4, 16])
    options.add_argument(
        "--answers", type=int, default=32, help="of a run, at least one for each user; default 32"
    )
    options.add_argument("--max-tokens", type=int, default=640)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--json", type=Path, default=None)
    args = options.parse_args()
    args.model = args.model or bundled_models()["large"]
    rows: list[Row] = []
    for policy in args.policies:
        for users in args.users:
            for method in ("plain", "SGD"):
                rows.append(await measured(args, policy, method, users))
                print(_shown(rows[-1]), flush=True)
    lost = [await killed(args, args.policies[0], m, max(args.users)) for m in ("plain", "SGD")]
    print("\nOne server killed when a third of the answers was there:")
    print("\n".join(map(_shown, lost)))
    if args.json:
        args.json.write_text(json.dumps({"runs": rows, "killed": lost}, indent=2))


if __name__ == "__main__":
    asyncio.run(main())
