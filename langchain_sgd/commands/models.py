"""Where the models of a command are: endpoints by options or environment, or the bundled ones."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pydantic import SecretStr

from langchain_sgd.errors import InvalidInputError

TIERS = ("small", "large", "planner")


@contextmanager
def bundled() -> Iterator[dict[str, Any]]:
    """The bundled models, served while they are used, as options of `SGDRunnable`."""
    from langchain_sgd.embedded.briefs.prompts import BRIEFS_PROMPTS  # noqa: PLC0415 - an engine
    from langchain_sgd.embedded.server import EmbeddedServer  # noqa: PLC0415

    with EmbeddedServer() as server:
        yield {**server.urls, "prompts": BRIEFS_PROMPTS}


def urls_of(args: argparse.Namespace) -> dict[str, str]:
    """The endpoints that options, or else the environment, name."""
    urls = {
        tier: getattr(args, tier) or os.environ.get(f"SGD_{tier.upper()}_URL") for tier in TIERS
    }
    return {tier: url for tier, url in urls.items() if url}


def key_of(args: argparse.Namespace, tier: str) -> SecretStr | None:
    """The key for a tier's server: from the environment, never from the command line."""
    if args.api_key_env is not None:
        if key := os.environ.get(args.api_key_env):
            return SecretStr(key)
        msg = f"--api-key-env {args.api_key_env}: this environment variable is not set"
        raise InvalidInputError(msg)
    key = os.environ.get(f"SGD_{tier.upper()}_API_KEY") or os.environ.get("SGD_API_KEY")
    return SecretStr(key) if key else None
