"""The bundled models: how they are recognized at a URL, and what they are asked.

They know no prompts but their own, the package's with templates of a few tokens.

Few-shot English would drown models of this size; order and content are those of every other model. A
node's prompt is the beginning of a text that the node goes on with: the question, the sections it needs,
its own heading. So the section that it needs first is, with everything before it, what another node has
just computed, and a prefix cache serves it whole. The models were trained on exactly these bytes, so
changing a template means training again.
"""

from __future__ import annotations

import asyncio
import math
import weakref
from collections.abc import Mapping
from contextlib import aclosing
from time import monotonic
from typing import Any, Final, TypeVar

from langchain_core.exceptions import (
    ModelAuthenticationError,
    ModelError,
    ModelInvalidRequestError,
    ModelNotFoundError,
    ModelTimeoutError,
)

from langchain_sgd.errors import SkeletonGraphError
from langchain_sgd.options import Options
from langchain_sgd.prompts import Prompts
from langchain_sgd.streams import as_completed
from langchain_sgd.tiers import innermost

T = TypeVar("T", bound=Options)

_NAMES: Final = "langchain-sgd-briefs-"
"""How the names begin that their servers tell."""


_LINE = r"[1-9][0-9]?\|[^|\s][^|\n]*\|[^|\n]*\|(-|[1-9][0-9]?(,[1-9][0-9]?)*)\|[1-5]"
"""The form that the models were trained on: number, heading, scope, needed, difficulty."""

BRIEFS_PROMPTS = Prompts(
    planner="",
    examples=(),
    after="\n\nPlan",
    repair="",
    writer="",
    outline="",
    line="",
    dependencies="",
    dependency="\n\n## {heading}\n\n{answer}",
    node="\n\n## {heading}\n\n",
    grammar=rf"(PLAIN|{_LINE}(\n{_LINE})+\n?)",
)

BUNDLED_OPTIONS: Final[Mapping[str, Any]] = {"prompts": BRIEFS_PROMPTS, "opening": False}
"""The options of an `SGDRunnable` whose models are the bundled ones."""

_LAMP: Final = (
    "Write a launch brief for a new lamp from Oakham for nurses, price under $60, delivery $4."
    " Include: design, delivery, invitation."
)
_HELMET: Final = (
    "I need a brief: new helmet, made in Yardley, below $80, $8 for delivery, meant for hikers."
    " It should have poster, reminder, invitation."
)
_PILLOW: Final = (
    "Draft a brief with care, delivery, slogan, bundle. It is about a new pillow for runners, from"
    " Upton, with delivery for $7 and a price below $60."
)
BUNDLED_QUESTIONS: Final = (
    (_LAMP, True),
    ("What is the capital of Portugal?", False),
    (_HELMET, True),
    ("Tell me a joke about cats.", False),
    (_PILLOW, True),
)
"""Questions that they can plan, and whether each should be split."""


async def fitted(options: T) -> T:
    """The options, with the bundled models' own where these serve and nobody gave other prompts.

    Asks who serves what the first model call would ask, all servers at once, and no longer than a run may
    take. A server that does not answer is left to that call, which knows what becomes of the run, and is
    not asked again with every run: see `_Unknown`.
    """
    if options.prompts != _GENERAL:
        return options
    models = [innermost(t.model) for t in (options.planning_tier, *options.tiers_by_size)]
    models = list({id(model): model for model in models}.values())
    if not all(hasattr(model, "aserved_model") and model not in _UNKNOWN for model in models):
        return options

    async def ask(index: int) -> bool:
        return await _is_bundled(models[index], options.deadline_s)

    async with aclosing(as_completed(ask, len(models), return_exceptions=False)) as told:
        async for _, is_bundled in told:
            if not is_bundled:
                return options
    given = options.model_fields_set
    own = {name: value for name, value in BUNDLED_OPTIONS.items() if name not in given}
    return options.model_copy(update={**own, "prompts": BRIEFS_PROMPTS})


_GENERAL: Final = Prompts()


_KEPT_S: Final = 60.0
"""How long a server that was silent is not asked again; it may have been starting."""


class _Unknown:
    """Models whose servers do not say what they serve.

    One that refuses to is asked no more; one that was silent, not for a while. One that nobody runs says so
    at once, and may be started at any moment: it is asked every time.
    """

    def __init__(self) -> None:
        self._until: dict[int, float] = {}

    def __contains__(self, model: object) -> bool:
        return monotonic() < self._until.get(id(model), 0.0)

    def add(self, model: object, error: Exception) -> None:
        """Note what came of asking."""
        if isinstance(error, TimeoutError | ModelTimeoutError):
            until = monotonic() + _KEPT_S
        elif isinstance(error, _REFUSALS):
            until = math.inf
        else:
            return
        if id(model) not in self._until:
            weakref.finalize(model, self._until.pop, id(model), None).atexit = False
        self._until[id(model)] = until


_REFUSALS: Final = (ModelAuthenticationError, ModelInvalidRequestError, ModelNotFoundError)
_UNKNOWN: Final = _Unknown()


async def _is_bundled(model: Any, deadline_s: float | None) -> bool:
    try:
        async with asyncio.timeout(deadline_s):
            return str(await model.aserved_model()).startswith(_NAMES)
    except (SkeletonGraphError, ModelError, TimeoutError) as error:
        _UNKNOWN.add(model, error)
        return False
