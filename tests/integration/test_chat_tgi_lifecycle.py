"""Event loops, threads and process ends: connections are shared, and nothing is left open."""

from __future__ import annotations

import asyncio
import copy
import gc
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from langchain_sgd.tgi import ChatTGI, TGIUnavailableError
from langchain_sgd.tgi.pool import _open_sessions
from langchain_sgd.tgi.sync import LoopThread, tgi_thread
from tests.tgi_server import TGITestServer


@pytest.fixture(scope="module")
def server() -> Iterator[TGITestServer]:
    thread = LoopThread("tgi-test-server")
    running = TGITestServer("Hello.")
    thread.run(running.accept())
    yield running
    thread.run(running.refuse())


@pytest.fixture(autouse=True)
def empty_log(server: TGITestServer) -> None:
    server.log.clear()


def sessions_of(loop: asyncio.AbstractEventLoop) -> list[object]:
    return [session for session, owner in _open_sessions.items() if owner is loop]


def test_each_asyncio_run_closes_what_it_opened(server: TGITestServer) -> None:
    model = ChatTGI(base_url=server.url)
    loops = []

    async def ask() -> str:
        loops.append(asyncio.get_running_loop())
        await model.ainvoke("Hi")
        assert len(sessions_of(loops[-1])) == 1
        return (await model.ainvoke("Hi")).text

    for _ in range(3):
        assert asyncio.run(ask()) == "Hello."
        assert sessions_of(loops[-1]) == []
    assert server.connections == 3  # one for each loop
    gc.collect()  # an unclosed session would be reported here, and reports are errors


async def test_a_collected_model_leaves_nothing_open(server: TGITestServer) -> None:
    await ChatTGI(base_url=server.url).ainvoke("Hi")
    gc.collect()
    for _ in range(10):
        await asyncio.sleep(0)
    assert sessions_of(asyncio.get_running_loop()) == []


async def test_a_closed_model_opens_again(server: TGITestServer) -> None:
    async with ChatTGI(base_url=server.url) as model:
        await model.ainvoke("Hi")
    assert sessions_of(asyncio.get_running_loop()) == []
    assert (await model.ainvoke("Hi")).content == "Hello."
    await model.aclose()
    await model.aclose()


def test_synchronous_calls_share_one_connection(server: TGITestServer) -> None:
    model = ChatTGI(base_url=server.url)
    assert model.invoke("Hi").content == "Hello."
    assert "".join(chunk.text for chunk in model.stream("Hi")) == "Hello."
    assert [message.content for message in model.batch(["a"])] == ["Hello."]
    assert server.connections == 1
    tgi_thread.run(model.aclose())


async def test_synchronous_calls_work_where_a_loop_runs(server: TGITestServer) -> None:
    """As in notebooks."""
    model = ChatTGI(base_url=server.url)
    assert model.invoke("Hi").content == "Hello."
    assert "".join(chunk.text for chunk in model.stream("Hi")) == "Hello."


def test_threads_share_the_pool(server: TGITestServer) -> None:
    model = ChatTGI(base_url=server.url)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: model.invoke("Hi").content, range(12)))
    assert answers == ["Hello."] * 12
    assert server.connections <= 4


async def test_a_copy_with_another_url_goes_there(server: TGITestServer) -> None:
    model = ChatTGI(base_url="http://127.0.0.1:9", max_retries=0)
    with pytest.raises(TGIUnavailableError):
        await model.ainvoke("Hi")
    for deep in (False, True):
        moved = model.model_copy(update={"base_url": server.url}, deep=deep)
        assert (await moved.ainvoke("Hi")).content == "Hello."
    assert copy.deepcopy(moved).base_url == server.url


PREAMBLE = """
import asyncio, gc, os
from langchain_sgd.tgi import ChatTGI
new = lambda: ChatTGI(base_url={url!r})
model = new()
"""
TIDY = """
model.invoke('Hi')
list(model.stream('Hi'))
for _ in range(2):
    asyncio.run(model.ainvoke('Hi'))
"""
UNTIDY = """
left = model.stream('Hi')
next(left)
collected, open_loop, closed_loop = new(), asyncio.new_event_loop(), asyncio.new_event_loop()
for loop in (open_loop, closed_loop):
    loop.run_until_complete(model.ainvoke('Hi'))
    loop.run_until_complete(collected.ainvoke('Hi'))
closed_loop.close()
del collected
gc.collect()
"""
FORK = """
model.invoke('Hi')
child = os.fork()
if child == 0:
    assert new().invoke('Hi').content == 'Hello.'
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
"""


@pytest.mark.parametrize(
    ("options", "body"),
    [
        pytest.param((), TIDY + UNTIDY, id="untidy"),
        pytest.param(("-X", "dev", "-W", "error::ResourceWarning"), TIDY, id="development mode"),
        pytest.param((), FORK, id="fork"),
    ],
)
def test_a_program_ends_well(server: TGITestServer, options: tuple[str, ...], body: str) -> None:
    program = PREAMBLE.format(url=server.url) + body
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, *options, "-c", program],
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    )
    assert "nclosed" not in done.stderr
    if not options:
        assert done.stderr == ""
