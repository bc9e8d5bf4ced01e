from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_sgd.tgi.sse import EventParser

EVENTS = [{"text": "naïve 你好 🦙"}, {"text": "data: not a field"}, {"text": "a\nb"}]


def framed(framing: str) -> bytes:
    """The events as different servers write them."""
    parts = []
    for event in EVENTS:
        text = json.dumps(event, ensure_ascii=False)
        parts.append(framing.replace("JSON", text))
    return "".join(parts).encode()


FRAMINGS = ["data: JSON\n\n", "data:JSON\n\n", "data: JSON\r\n\r\n", ":\n\ndata: JSON\n\n:ping\n\n",
            "event: message\nid: 7\nretry: 5\ndata: JSON\n\n"]  # fmt: skip


@pytest.mark.parametrize("framing", FRAMINGS)
@given(data=st.data())
def test_where_the_bytes_are_cut_never_matters(framing: str, data: st.DataObject) -> None:
    whole = framed(framing)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(whole)), max_size=12)) | {0, len(whole)})
    parser = EventParser()
    events = [event for a, b in pairwise(cuts) for event in parser.feed(whole[a:b])]
    assert [json.loads(event) for event in events] == EVENTS


def test_an_event_without_its_blank_line_is_none() -> None:
    assert EventParser().feed(b'data: {"half": 1}\n') == []


def test_lines_of_one_event_are_joined() -> None:
    assert EventParser().feed(b"data: {\ndata: }\n\n") == [b"{\n}"]


def test_comments_carry_nothing() -> None:
    assert EventParser().feed(b":\n\n: keepalive\n\n") == []
