from __future__ import annotations

import json
import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_sgd.tgi.sse import EventParser, EventTooLongError

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


def test_every_byte_of_an_event_is_looked_at_a_few_times() -> None:
    """16 MB in pieces of 64 bytes took 70 s when each piece was joined to all before."""
    parser = EventParser(longest=2**25)
    piece = b"x" * 64
    began = time.process_time()
    parser.feed(b"data: ")
    for _ in range(2**24 // 64):
        parser.feed(piece)
    assert len(parser.feed(b"\n\n")[0]) == 2**24
    assert time.process_time() - began < 20


def test_the_limit_is_for_one_event() -> None:
    parser = EventParser(longest=100)
    for _ in range(50):
        assert parser.feed(b"data: 0123456789\n\n" * 20) == [b"0123456789"] * 20
    with pytest.raises(EventTooLongError):
        parser.feed(b"data: x\n" * 40)


def test_line_ends_of_every_kind() -> None:
    for end in (b"\n", b"\r\n", b"\r"):
        text = b"\xef\xbb\xbfdata: a" + end * 2 + b"data: b" + end + b"data: c" + end * 2
        for cut in range(len(text) + 1):
            parser = EventParser()
            events = parser.feed(text[:cut]) + parser.feed(text[cut:]) + parser.feed(b":\n")
            assert events == [b"a", b"b\nc"]
