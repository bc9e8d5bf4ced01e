"""`plain_above` with OpenAI's own client: what its planner is asked for, and what comes of the answer."""

from __future__ import annotations

import json
import math
from typing import Any

import httpx
import pytest
from langchain_openai import ChatOpenAI

from langchain_sgd import Report, SGDRunnable

QUESTION = "How do I plan a garden?"
LINES = ("1", " Site\n", "2 Plants\n", "3 Care\n")


class Server:
    """An OpenAI-style server that plans with doubt, and writes one sentence to whatever else it is asked."""

    def __init__(self, plain: float | None) -> None:
        self._plain = plain
        self.asked: list[dict[str, Any]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        if body.get("logprobs"):
            self.asked.append(body)
            pieces: tuple[str, ...] = LINES
        else:
            pieces = ("It is well described.",)
        events = [
            {
                "choices": [
                    {"index": 0, "delta": {"content": piece}, "logprobs": self._logprobs(piece)}
                ]
            }
            for piece in pieces
        ]
        ends = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
        said = "".join(f"data: {json.dumps(event)}\n\n" for event in (*events, ends))
        headers = {"content-type": "text/event-stream"}
        return httpx.Response(200, headers=headers, text=f"{said}data: [DONE]\n\n")

    def _logprobs(self, piece: str) -> Any:
        if self._plain is None:
            return None
        others = {"1": math.log(1 - self._plain), "PL": math.log(self._plain)}
        tops = [{"token": text, "logprob": value, "bytes": None} for text, value in others.items()]
        first = {"token": piece, "logprob": others.get(piece, 0.0), "bytes": None}
        return {
            "content": [{**first, "top_logprobs": tops if piece == "1" else []}],
            "refusal": None,
        }

    def report(self, plain_above: float | None) -> Report:
        model = ChatOpenAI(
            model="m",
            api_key="k",
            base_url="http://gpu/v1",
            http_async_client=httpx.AsyncClient(transport=httpx.MockTransport(self)),
            http_client=httpx.Client(transport=httpx.MockTransport(self)),
        )
        sgd = SGDRunnable(large=model, constrain=False, opening=False, plain_above=plain_above)
        return Report.from_message(sgd.invoke(QUESTION))


@pytest.mark.parametrize(("above", "parts"), [(0.2, 0), (0.3, 0), (0.5, 3), (1, 3)])
def test_the_probability_of_the_plain_word_decides(above: float, parts: int) -> None:
    server = Server(plain=0.3)
    report = server.report(above)
    assert len(report.skeleton.nodes if report.skeleton else ()) == parts
    assert [(body["logprobs"], body["top_logprobs"]) for body in server.asked] == [(True, 5)]
    assert (report.reason is None) == bool(parts)
    assert parts or "plain_above" in str(report.reason)


def test_a_server_that_gives_none_has_its_word_taken() -> None:
    report = Server(plain=None).report(0.2)
    assert report.skeleton is not None
    assert len(report.skeleton.nodes) == 3


def test_nothing_is_asked_for_without_the_option() -> None:
    server = Server(plain=0.9)
    server.report(None)
    assert server.asked == []
