"""What the bundled models are asked: the package's own prompts with templates of a few tokens.

Few-shot English would drown models of this size; order and content are those of every other model. A
node's prompt is the beginning of a text that the node goes on with: the question, the sections it needs,
its own heading. So the section that it needs first is, with everything before it, what another node has
just computed, and a prefix cache serves it whole. The models were trained on exactly these bytes, so
changing a template means training again.
"""

from __future__ import annotations

from langchain_sgd.prompts import Prompts

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
