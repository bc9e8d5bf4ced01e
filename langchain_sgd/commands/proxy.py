"""What `langchain-sgd proxy` and `mcp` do."""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pydantic import SecretStr

from langchain_sgd.arguments import DONE, parser
from langchain_sgd.commands.models import bundled, models_of, names_of
from langchain_sgd.commands.ports import check_port
from langchain_sgd.errors import InvalidInputError
from langchain_sgd.keys import key_from_environment
from langchain_sgd.runnable import SGDRunnable

_SAMPLES = (
    "Compare trains, planes and cars for a family trip from Paris to Rome.",
    "How do tides work, and what do they mean for ships, coasts and animals?",
    "Write a guide for somebody who moves into their first own flat.",
)
_KEY = "SGD_PROXY_API_KEY"
_SERVER = ("starlette", "uvicorn", "prometheus_client", "markdown_it")
"""Modules of the extra `server`."""


def proxy(
    args: argparse.Namespace,
    *,
    opened: Callable[[str], object] | None = None,
    is_demo: bool = False,
) -> int:
    """Serve OpenAI's protocol and the live page until interrupted.

    Args:
        args: The command's options.
        opened: Gets the page's address once it can be opened.
        is_demo: The bundled models are what is to be seen, whatever the environment names.
    """
    with _extra("server", *_SERVER):
        from langchain_sgd.proxy import Limits, make_app  # noqa: PLC0415 - the extra
        from langchain_sgd.proxy.guard import origin_of  # noqa: PLC0415
        from langchain_sgd.proxy.serve import serve  # noqa: PLC0415
    key, hosts = _exposure(args)
    origins = [*map(origin_of, args.cors_origin)]
    with _models({} if is_demo else names_of(args), args, is_demo=is_demo) as (models, samples):
        app = make_app(
            SGDRunnable(**models, threshold=args.threshold, max_nodes=args.max_nodes),
            key=key,
            hosts=hosts,
            cors_origins=origins,
            limits=Limits(concurrent=args.concurrent, answer_s=args.timeout, history=args.history),
            progress=args.progress,
            samples=samples,
        )

        def tell(url: str) -> None:
            lines = [
                f"page      {url}/",
                f"base_url  {url}/v1    models: sgd, sgd-large, plain",
                f"api_key   {'any' if key is None else f'the value of {_key_name(args)}'}",
                "",
                "Ctrl-C ends it.",
                "",
            ]
            sys.stdout.write("\n".join(lines))
            sys.stdout.flush()
            if opened is not None:
                opened(f"{url}/")

        serve(app, args.host, args.port, tell)
    return DONE


def mcp(args: argparse.Namespace) -> int:
    """Serve the tool `write_long_answer` over standard input and output, or over HTTP."""
    if not args.http:
        _refuse_listening(args)
    with _extra("mcp", "mcp", *_SERVER):
        from langchain_sgd.mcp import http_app, make_server  # noqa: PLC0415 - the extra
    key, hosts = _exposure(args) if args.http else (None, None)
    with _models(names_of(args), args) as (models, _):
        server = make_server(SGDRunnable(**models))
        if not args.http:
            server.run("stdio")
            return DONE
        from langchain_sgd.proxy.serve import serve  # noqa: PLC0415

        def tell(url: str) -> None:
            sys.stdout.write(f"MCP at {url}/mcp\nCtrl-C ends it.\n")
            sys.stdout.flush()

        serve(http_app(server, key=key, hosts=hosts), args.host, args.port, tell)
    return DONE


@contextmanager
def _extra(name: str, *modules: str) -> Iterator[None]:
    """Say what to install where a library is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in modules:
            raise
        msg = f"this command needs {error.name}: pip install 'langchain-sgd[{name}]'"
        raise InvalidInputError(msg) from None


def _refuse_listening(args: argparse.Namespace) -> None:
    """Over standard input and output, nobody connects."""
    usual = vars(parser().parse_args(["mcp"]))
    names = ("host", "port", "require_key_env", "allow_host")
    given = [f"--{n.replace('_', '-')}" for n in names if vars(args)[n] != usual[n]]
    if given:
        msg = f"{', '.join(given)}: only with --http; without it nobody connects"
        raise InvalidInputError(msg)


def _key_name(args: argparse.Namespace) -> str:
    return args.require_key_env or _KEY


def _exposure(args: argparse.Namespace) -> tuple[SecretStr | None, set[str] | None]:
    """The key that clients must send, and the host names that are answered to.

    Raises:
        InvalidInputError: The models would be open to the network, or the port is taken.
    """
    from langchain_sgd.proxy.guard import (  # noqa: PLC0415 - the extra
        LOOPBACK,
        check_exposure,
        host_name,
    )

    name = _key_name(args)
    key = key_from_environment(name)
    if args.require_key_env and key is None:
        msg = f"--require-key-env {name}: this environment variable is not set"
        raise InvalidInputError(msg)
    check_exposure(
        args.host, key, f"put one into {name}, or name another variable with --require-key-env"
    )
    check_port(args.host, args.port)
    return key, {*LOOPBACK, *map(host_name, args.allow_host)} if args.host in LOOPBACK else None


@contextmanager
def _models(
    names: Mapping[str, str], args: argparse.Namespace, *, is_demo: bool = False
) -> Iterator[tuple[dict[str, Any], list[str]]]:
    """The models as options of `SGDRunnable`, and questions that suit them."""
    if names:
        yield dict(models_of(args, names)), [*_SAMPLES]
        return
    with bundled() as models:
        from langchain_sgd.embedded.briefs.domain import briefs  # noqa: PLC0415 - an engine

        asked = itertools.islice(briefs(7, held_out=True), 40)
        long = sorted((brief.question for brief in asked), key=len)[-3:]
        why = "" if is_demo else "no model is named (--large MODEL or SGD_LARGE), so "
        sys.stderr.write(
            f"note: {why}the bundled demonstration models answer. They know launch briefs only.\n"
        )
        yield models, long
