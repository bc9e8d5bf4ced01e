"""What SGD is compared with, as Runnables of the same interface and report.

Swap one in where an `SGDRunnable` stands, and the same chain, the same tracing and the same report show
the difference.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar, Literal

from langchain_sgd.planning.drafts import Draft
from langchain_sgd.planning.lines import parse_line
from langchain_sgd.planning.planner import Mode
from langchain_sgd.prompts import Prompts
from langchain_sgd.runnable import SGDRunnable
from langchain_sgd.skeleton import DEFAULT_DIFFICULTY

_POINT = re.compile(r"^\s*(\d{1,2})\s*[.):]\s*(.+?)\s*$")

SKELETON_OF_THOUGHT_PROMPTS = Prompts(
    planner="",
    examples=(),
    after="""

---
You organize the answer to the question above; you do not write it. Give only its skeleton: a numbered \
list of 3 to 10 points, each of 3 to 5 words and no sentence, one point a line.

Example question: What are the typical types of Chinese dishes?
1. Dumplings
2. Noodles
3. Dim Sum
4. Hot Pot

Now give the skeleton of the answer to the question at the top.
""",
    repair="\n\nThat was no numbered list of points: {problem}\nGive only the numbered list.\n",
    outline="\n\n---\nThe skeleton of the answer:",
    line="\n{id}. {heading}",
    dependencies="",
    dependency="",
    node="""

---
Continue with point {id}, "{heading}", and only with this point: write it in 1 or 2 short sentences, and \
do not go on to any other point.""",
)
"""After Skeleton-of-Thought (arXiv 2307.15337, ICLR 2024), whose ideas they keep: an organizer's role, 3-10
points of 3-5 words, each expanded shortly by itself. The words are ours."""


def read_point(line: str) -> Draft | None:
    """One point of a skeleton, `N. text` or a line of SGD's wire format, without dependencies."""
    if draft := parse_line(line):
        return Draft(draft.id, draft.heading, draft.scope, (), draft.difficulty)
    if match := _POINT.match(line):
        return Draft(match[1], match[2].strip("*_ "), "", (), DEFAULT_DIFFICULTY)
    return None


class PlainDecoding(SGDRunnable):
    """One model answers the question undivided: the large one, or whichever is given as `large`."""

    mode: Mode = "never"
    opening: bool = False


class SkeletonOfThought(SGDRunnable):
    """Skeleton-of-Thought: points planned first, then all expanded at once, none knowing another.

    The points come without dependencies, so what one decides no other learns; the whole skeleton stands
    in every point's prompt, and decoding begins when the plan is complete, as published. Give SGD's own
    `prompts=` to compare the missing dependencies alone. With `mode="auto"` the planner may choose plain
    decoding (SoT-R).
    """

    prompts: Prompts = SKELETON_OF_THOUGHT_PROMPTS
    mode: Mode = "always"
    constrain: bool = False
    execution: Literal["pipelined", "planned", "superstep"] = "planned"
    opening: bool = False

    read_line: ClassVar[Any] = staticmethod(read_point)
