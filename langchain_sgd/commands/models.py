"""The models of a command: named by options or environment, or the bundled ones."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from langchain_core.runnables import Runnable
from pydantic import SecretStr

from langchain_sgd.bundled import BUNDLED_OPTIONS
from langchain_sgd.errors import InvalidInputError
from langchain_sgd.keys import key_from_environment
from langchain_sgd.models import TIERS, name_from_environment, resolve
from langchain_sgd.models.urls import own_key


@contextmanager
def bundled() -> Iterator[dict[str, Any]]:
    """The bundled models, served while they are used, as options of `SGDRunnable`."""
    from langchain_sgd.embedded.server import EmbeddedServer  # noqa: PLC0415 - an engine

    with EmbeddedServer() as server:
        yield {**server.urls, **BUNDLED_OPTIONS}


def add_models(options: argparse.ArgumentParser, **tiers: str) -> None:
    """Options that name models, and the key's variable.

    Args:
        options: Where to.
        tiers: What is said of each.
    """
    for tier, what in tiers.items():
        options.add_argument(f"--{tier}", metavar="MODEL", help=f"URL or provider:model; {what}")
    options.add_argument(
        "--api-key-env", metavar="NAME", help="environment variable that holds the key"
    )


def names_of(args: argparse.Namespace) -> dict[str, str]:
    """The models that options, or else the environment, name.

    Raises:
        InvalidInputError: Some are named, but not the large one.
    """
    tiers = [tier for tier in TIERS if hasattr(args, tier)]
    named = {tier: getattr(args, tier) or name_from_environment(tier) for tier in tiers}
    names = {tier: name for tier, name in named.items() if name}
    if names and "large" not in names:
        msg = f"{' and '.join(names)} given, but no large model: name it with --large MODEL or SGD_LARGE"
        raise InvalidInputError(msg)
    return names


def models_of(
    args: argparse.Namespace, names: Mapping[str, str], **options: Any
) -> dict[str, Runnable[Any, Any]]:
    """The named models by tier; `options` are fields of each that is made here."""
    key = given_key(args)
    return {tier: resolve(name, what=tier, api_key=key, **options) for tier, name in names.items()}


def given_key(args: argparse.Namespace) -> SecretStr | None:
    """The key in the variable that `--api-key-env` names; keys never stand on the command line."""
    if args.api_key_env is None:
        return None
    if (key := key_from_environment(args.api_key_env)) is not None:
        return key
    msg = f"--api-key-env {args.api_key_env}: this environment variable is not set"
    raise InvalidInputError(msg)


def key_of(args: argparse.Namespace, what: str) -> SecretStr | None:
    """The key that a server of ours is to ask for."""
    if (given := given_key(args)) is not None:
        return given
    return own_key(what)
