"""`python -m langchain_sgd.embedded.train`: from a seed to the bundled models.

    python -m langchain_sgd.embedded.train large --out build/large
    python -m langchain_sgd.embedded.train small --out build/small

Writes `log.jsonl`, `checkpoint.pt` and at the end `<model>.gguf`. Started again with the same folder it
goes on from the checkpoint.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody gives it

from langchain_sgd.embedded.train import tokenizer as pieces
from langchain_sgd.embedded.train.batches import Batch, batches
from langchain_sgd.embedded.train.export import write_gguf
from langchain_sgd.embedded.train.model import Llama, Shape
from langchain_sgd.embedded.train.optimizer import Muon
from langchain_sgd.embedded.train.probe import probe, probe_examples
from langchain_sgd.embedded.train.tasks import COPYING, EASY, ORDER, PAIRS, SUMS, Mix

VOCABULARY = 1920


@dataclass(frozen=True)
class Recipe:
    """How one model is trained; the schedule is in steps, so that every machine does the same."""

    shape: Shape
    cycles: tuple[tuple[int, float], ...]
    """Steps, and the share of the full learning rates at their height: a later cycle starts warm."""
    muon: float
    """Learning rate of the layers' matrices."""
    adam: float
    """Learning rate of everything else."""
    stages: tuple[tuple[int, Mix], ...]
    """What it is shown from which pool of examples on; a pool lasts 16 to 20 steps."""
    kind: str
    """Number format of the file: F16 or Q8_0."""
    tokens: int = 2048
    """Padded tokens in one batch."""
    batches: int = 2
    """Batches whose gradients make one step."""
    emphasis: float = 12.0
    """What a fact that can be known counts in the loss, beside 1 for other tokens.

    Without it the small model copied no invented fact in 8 M tokens, with 10 nine of ten after 1.5 M.
    """
    warm_up: int = 60
    decay: float = 0.5
    """Share of a cycle's steps, at its end, in which the rates fall to zero."""

    @property
    def steps(self) -> int:
        """Steps of all cycles."""
        return sum(steps for steps, _ in self.cycles)


RECIPES = {
    "large": Recipe(
        Shape(VOCABULARY, width=192, layers=5, heads=3, hidden=512),
        cycles=((3200, 1.0), (1200, 0.6)),
        muon=0.010,
        adam=6e-3,
        stages=((0, COPYING), (28, SUMS), (113, ORDER), (178, PAIRS)),
        kind="F16",
    ),
    "small": Recipe(
        Shape(VOCABULARY, width=96, layers=3, heads=3, hidden=256),
        cycles=((6000, 1.0),),
        muon=0.012,
        adam=8e-3,
        stages=((0, EASY),),
        kind="F16",
    ),
}


class Run:
    """One training run in one folder."""

    def __init__(self, name: str, recipe: Recipe, out: Path, *, seed: int) -> None:
        self.name, self.recipe, self.out, self.seed = name, recipe, out, seed
        out.mkdir(parents=True, exist_ok=True)
        self.tokenizer = pieces.load()
        self.model = Llama(recipe.shape, seed=seed)
        layers = [p for p in self.model.blk.parameters() if p.dim() > 1]
        rest = [p for p in self.model.parameters() if all(p is not q for q in layers)]
        self.muon = Muon(layers)
        self.adam = torch.optim.AdamW(rest, lr=0.0, betas=(0.9, 0.98), weight_decay=0.0)
        self.step = self.pool = 0

    @property
    def _checkpoint(self) -> Path:
        return self.out / "checkpoint.pt"

    def save(self) -> None:
        """Write the checkpoint; a run that is killed while writing keeps the one before."""
        state = {
            "step": self.step,
            "pool": self.pool,
            "recipe": {"shape": asdict(self.recipe.shape)},
            "model": self.model.state_dict(),
            "muon": self.muon.state_dict(),
            "adam": self.adam.state_dict(),
        }
        part = self._checkpoint.with_suffix(".part")
        torch.save(state, part)
        part.replace(self._checkpoint)

    def resume(self) -> None:
        """Go on from the checkpoint of this folder, if there is one."""
        if not self._checkpoint.exists():
            return
        state = torch.load(self._checkpoint, weights_only=True)
        if state["recipe"]["shape"] != asdict(self.recipe.shape):
            msg = f"{self._checkpoint} is of a model of another shape; choose another --out"
            raise SystemExit(msg)
        self.model.load_state_dict(state["model"])
        self.muon.load_state_dict(state["muon"])
        self.adam.load_state_dict(state["adam"])
        self.step, self.pool = state["step"], state["pool"]
        self.log("resumed", step=self.step)

    def log(self, event: str, **values: Any) -> None:
        """One line of JSON into the log, and to the terminal."""
        line = json.dumps({"event": event, **values})
        with (self.out / "log.jsonl").open("a") as file:
            file.write(line + "\n")
        print(line, flush=True)  # noqa: T201 - a command's output

    def cycle(self) -> tuple[int, int, float]:
        """The cycle of this step: steps behind in it, steps in all, its height."""
        behind = self.step
        for steps, height in self.recipe.cycles:
            if behind < steps:
                return behind, steps, height
            behind -= steps
        return steps, steps, height

    def left(self) -> float:
        """How much of the decay is still ahead: 1 until it begins, 0 at a cycle's last step."""
        behind, steps, _ = self.cycle()
        return min(1.0, (steps - behind) / (steps * self.recipe.decay))

    def rate(self) -> float:
        """The share of the full learning rates that this step uses."""
        behind, _, height = self.cycle()
        return height * min(self.left(), (behind + 1) / self.recipe.warm_up)

    def emphasis(self) -> float:
        """What a known fact counts now: less and less in the last steps, which polish the wording."""
        return 1 + (self.recipe.emphasis - 1) * min(1.0, 2 * self.left())

    def mix(self, pool: int) -> Mix:
        """What a pool of examples is made of."""
        return next(mix for first, mix in reversed(self.recipe.stages) if pool >= first)

    def learn(self, group: list[Batch]) -> float:
        """One step on the answers of these batches; the mean loss of a token."""
        count = sum(batch.weights.sum().item() for batch in group)
        total = 0.0
        for batch in group:
            logits = self.model(batch.ids, batch.chosen)
            each = F.cross_entropy(logits, batch.targets, reduction="none")
            loss = (each * batch.weights).sum() / count
            loss.backward()
            total += loss.item()
        rate = self.rate()
        self.muon.step(self.recipe.muon * rate)
        for parameters in self.adam.param_groups:
            parameters["lr"] = self.recipe.adam * rate
        self.adam.step()
        self.adam.zero_grad(set_to_none=True)
        self.step += 1
        return total

    def train(self, *, until: int, probe_every: int) -> None:
        """Learn up to step `until`, with a log line every 20 steps and checkpoints at pool ends."""
        shown = probe_examples(16)
        started, cpu, tokens, losses = time.monotonic(), time.process_time(), 0, 0.0
        pending: list[Batch] = []
        logged = self.step
        for pool in batches(
            self.tokenizer,
            seed=self.seed,
            tokens=self.recipe.tokens,
            emphasis=self.emphasis,
            mix=self.mix,
            pool=self.pool,
        ):
            for batch in pool:
                pending.append(batch)
                if len(pending) < self.recipe.batches:
                    continue
                tokens += sum(b.ids.numel() for b in pending)
                losses += self.learn(pending)
                pending = []
                if self.step % 20 == 0:
                    self.log(
                        "step",
                        step=self.step,
                        loss=round(losses / (self.step - logged), 4),
                        rate=round(self.rate(), 3),
                        tokens=tokens,
                        wall_s=round(time.monotonic() - started, 1),
                        cpu_s=round(time.process_time() - cpu, 1),
                    )
                    losses, logged = 0.0, self.step
                if self.step % probe_every == 0 or self.step == until:
                    self.log("probe", step=self.step, **probe(self.model, self.tokenizer, shown))
                if self.step >= until:
                    self.save()
                    return
            self.pool += 1
            if not pending:
                # Only here does a resumed run see the same batches as one that was never stopped.
                self.save()

    def export(self) -> Path:
        """Write the GGUF file."""
        path = self.out / f"{self.name}.gguf"
        write_gguf(path, self.model, self.tokenizer, kind=self.recipe.kind, name=self.name)
        return path


def main(arguments: list[str]) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m langchain_sgd.embedded.train")
    parser.add_argument("model", choices=RECIPES)
    parser.add_argument("--out", type=Path, required=True, help="folder of this run")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--steps", type=int, help="stop (and export) after this step")
    parser.add_argument("--probe-every", type=int, default=100)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    recipe = RECIPES[options.model]
    run = Run(options.model, recipe, options.out, seed=options.seed)
    run.resume()
    run.log("started", parameters=sum(p.numel() for p in run.model.parameters()))
    run.train(
        until=min(options.steps or recipe.steps, recipe.steps), probe_every=options.probe_every
    )
    run.log("exported", path=str(run.export()))


if __name__ == "__main__":
    main(sys.argv[1:])
