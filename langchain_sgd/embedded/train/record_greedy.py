"""`python -m langchain_sgd.embedded.train.record_greedy`: what transformers makes of the bundled files.

Needs transformers 5, which cannot stand in one environment with text-generation:

    python -m langchain_sgd.embedded.train.record_greedy --out tests/data/greedy_prompts.json

Writes prompts with transformers' greedy continuations, for a test that holds the engine to them.
"""
# torch is no part of the environment in which types are checked.
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import argparse
import itertools
import json
import random
import sys
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, logging

from langchain_sgd.embedded.briefs import domain
from langchain_sgd.embedded.train import tokenizer as pieces
from langchain_sgd.embedded.train.tasks import Example, node, plain_answer, plan

_COUNT = 20
_NEW_TOKENS = 64
_SEED = 20


def prompts() -> list[str]:
    """User turns of every kind, held out from training."""
    rng = random.Random(_SEED)  # noqa: S311 - texts, not secrets
    briefs = domain.briefs(_SEED, held_out=True)
    plains = domain.plains(_SEED, held_out=True)
    examples: list[Example] = []
    for heading in domain.NEEDS:
        brief = next(b for b in briefs if heading in b.headings)
        examples.append(node(brief, heading, rng))
    examples += [plan(brief, rng) for brief in itertools.islice(briefs, 3)]
    examples += [plain_answer(plain, rng) for plain in itertools.islice(plains, 3)]
    return [example.prompt for example in examples][:_COUNT]


@torch.no_grad()
def continuations(path: Path, tokenizer: Tokenizer, turns: list[str]) -> list[dict[str, Any]]:
    """The greedy continuation of every turn by the GGUF file's weights, in float32."""
    model = AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32
    )
    out: list[dict[str, Any]] = []
    for turn in turns:
        ids, _, _ = pieces.encode(tokenizer, Example("", turn, ""))
        made = model.generate(
            torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids), dtype=torch.long),
            max_new_tokens=_NEW_TOKENS,
            do_sample=False,
            eos_token_id=pieces.EOS,
            pad_token_id=pieces.PAD,
        )
        new = made[0, len(ids) :].tolist()
        text = tokenizer.decode([i for i in new if i != pieces.EOS], skip_special_tokens=False)
        out.append({"turn": turn, "prompt_ids": ids, "ids": new, "text": text})
    return out


def main(arguments: list[str]) -> None:
    """The command."""
    models = Path(__file__).parent.parent / "models"
    parser = argparse.ArgumentParser(prog="python -m langchain_sgd.embedded.train.record_greedy")
    parser.add_argument("--models", type=Path, default=models, help="folder of the GGUF files")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    logging.disable_progress_bar()
    tokenizer = pieces.load()
    turns = prompts()
    recorded = {
        name: continuations(options.models / f"{name}.gguf", tokenizer, turns)
        for name in ("small", "large")
    }
    options.out.write_text(json.dumps(recorded, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
