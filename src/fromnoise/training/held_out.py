"""Held-out rows: the loss on samples that no step is trained on, and stopping when it no longer falls."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from fromnoise.data.source import Source, held_apart
from fromnoise.data.stored import Stored
from fromnoise.errors import CheckpointDamaged, shown
from fromnoise.model import Model
from fromnoise.rng import stream
from fromnoise.training.batches import clean_batch
from fromnoise.training.config import TrainConfig
from fromnoise.training.draws import Draws
from fromnoise.training.task import AnyTask

_DRAWS, _LEVELS = 1024, 8
"""How many noisy samples the held-out loss is the mean of, and in how many groups of noise levels."""

_DECAY = 0.2
"""The length of the learning rate's decay after an early stop, in parts of the steps done before it.

Source: Haegele et al. 2024, "Scaling laws and compute-optimal training beyond fixed training durations", figure 5:
a fifth does as well as a decay over the whole training.
"""


class HeldOutLoss(NamedTuple):
    """The loss on held-out samples, of the averaged weights.

    Attributes:
        loss: its mean, comparable to the training loss.
        levels: noise levels sigma/alpha, from the lowest to the highest, each the median of its group.
        losses: the mean loss in each group.
    """

    loss: float
    levels: tuple[float, ...]
    losses: tuple[float, ...]

    @classmethod
    def last_of(cls, rows: Sequence[Mapping[str, Any]]) -> HeldOutLoss | None:
        """Return the last that lines of metrics.jsonl keep; None where none does."""
        for row in reversed(rows):
            match row.get("held_out"):
                case {"loss": int() | float() as loss, "levels": list() as levels, "losses": list() as losses}:
                    return cls(loss, tuple(levels), tuple(losses))
        return None


class HeldOut:
    """Noisy held-out samples, the same ones every time: 1,024 of them, in 8 groups by their noise level.

    Args:
        task: of the training.
        source: the held-out rows.
        seed: of the training.
    """

    def __init__(self, task: AnyTask, source: Stored, seed: int) -> None:
        self.task = task
        draws = Draws(seed, _DRAWS, device=task.model.device, name="held out")
        order = torch.randperm(_DRAWS, generator=stream(seed, "held out/order"))
        rows = (order * len(source)) // _DRAWS  # every row as often as the others, within one
        drawn = task.draw(clean_batch(source, rows.chunk(draws.parts), draws), draws)
        self.groups, self.levels = task.by_level(drawn, _LEVELS)

    def loss(self) -> HeldOutLoss:
        """Return the loss of the network as it is."""
        with torch.no_grad():
            losses = torch.stack([self.task.loss(group) for group in self.groups]).tolist()
        return HeldOutLoss(sum(losses) / len(losses), self.levels, tuple(losses))


def held_out_loss_of(model: Model, data: Source, train: Mapping[str, Any]) -> HeldOutLoss | None:
    """Return the held-out loss of a model as its training takes it; None where no samples were held out.

    Args:
        model: with the weights to be looked at.
        data: all the samples.
        train: the settings of the training (`TrainConfig` as data).
    """
    config = TrainConfig(**train)
    held = held_apart(data, config.held_out, config.seed)[1]
    if held is None:
        return None
    stored = Stored(held, model.codec, model.conditioners)
    return HeldOut(config.task(model), stored, config.seed).loss()


@dataclass
class Patience:
    """Early stopping: when the held-out loss has had no new minimum for some checks, the learning rate decays to 0.

    Attributes:
        checks: for how many checks to wait for a new minimum; 0 for ever.
        best: the least loss so far.
        waited: the checks since.
        stopped_at: the step after which the decay began.
    """

    checks: int
    best: float = math.inf
    waited: int = 0
    stopped_at: int | None = None

    def hear(self, step: int, loss: float) -> None:
        """Take note of the held-out loss after a step."""
        if not self.checks or self.stopped_at is not None:
            return
        self.waited = 0 if loss < self.best else self.waited + 1
        self.best = min(self.best, loss)
        if self.waited >= self.checks:
            self.stopped_at = step

    def end(self, steps: int) -> int:
        """Return the last step of a training of at most so many."""
        if self.stopped_at is None:
            return steps
        return min(steps, self.stopped_at + max(1, round(_DECAY * self.stopped_at)))

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps of it."""
        best = self.best if math.isfinite(self.best) else None
        return {"best": best, "waited": self.waited, "stopped_at": self.stopped_at}

    def restore(self, state: Mapping[str, Any], step: int) -> None:
        """Take what a checkpoint after `step` steps kept.

        Raises:
            CheckpointDamaged: if it cannot be that.
        """
        best, waited, stopped_at = (state.get(key) for key in ("best", "waited", "stopped_at"))
        fine = (best is None or (type(best) is float and math.isfinite(best))) and all(
            number is None or (type(number) is int and 0 <= number <= step) for number in (waited, stopped_at)
        )
        if not fine or waited is None:
            raise CheckpointDamaged(f"state.json: early_stopping cannot be {shown(dict(state))}")
        self.best, self.waited, self.stopped_at = math.inf if best is None else best, waited, stopped_at
