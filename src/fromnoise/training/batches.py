"""The batches of a training: rows of the data, taken through the codec and drawn by the task."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

from torch import Tensor

from fromnoise.data.source import Batch
from fromnoise.data.stored import Stored
from fromnoise.errors import ConfigError
from fromnoise.training.config import TrainConfig
from fromnoise.training.draws import PARTS, Draws
from fromnoise.training.task import AnyTask, Drawn

_TOGETHER = 2**16
"""About how many numbers the noisy batches of a round of steps have together, where one batch has fewer."""


def clean_batch(source: Stored, rows: Sequence[Tensor], draws: Draws) -> Batch:
    """Return what the denoiser sees of some rows, `[K N, *S]`, and their conditions, on the device of the draws.

    Args:
        source: of the training.
        rows: `[K n']` of each part.
        draws: the round's random numbers.
    """
    parts = draws.each("codec", lambda generator, part: source.z(rows[part], generator), source.device)
    cond = source.cond(draws.assemble(rows))
    return Batch(draws.assemble(parts).to(draws.device), None if cond is None else cond.to(draws.device))


def passes(batch_size: int, parts_together: int) -> int:
    """Return in how many forward and backward passes a step computes a batch.

    Raises:
        ConfigError: if the batch's parts cannot be computed so many at a time.
    """
    parts = math.gcd(batch_size, PARTS)
    if parts_together and parts % parts_together:
        raise ConfigError(
            f"train: parts_together must divide the {parts} parts in which a batch of {batch_size} is drawn, "
            f"and {parts_together} does not"
        )
    return parts // (parts_together or parts)


class Batches:
    """The batches of steps 0, 1, ..., made a round at a time.

    Args:
        task: of the training.
        source: the rows to train on.
        config: the settings of the training.

    Attributes:
        waited: the seconds in which steps waited for samples to be read and taken through the codec.
    """

    def __init__(self, task: AnyTask, source: Stored, config: TrainConfig) -> None:
        self.task, self.source = task, source
        numbers = config.batch_size * math.prod(task.model.shape)
        self.round = min(max(_TOGETHER // numbers, 1), 64)
        self.draws = Draws(config.seed, config.batch_size, self.round, device=task.model.device)
        self.passes = passes(config.batch_size, config.parts_together)
        self._number, self._drawn, self.waited = -1, list[Drawn](), 0.0

    def at(self, step: int) -> list[Drawn]:
        """Return the batch of a step, in as many pieces as it takes passes."""
        number, place = divmod(step, self.round)
        if number != self._number:
            if place == 0:  # a training that is resumed inside a round draws this as it was drawn
                self.task.turn()
            self._number, self._drawn = number, self._make(number)
        return self._drawn[place * self.passes : (place + 1) * self.passes]

    def _make(self, number: int) -> list[Drawn]:
        draws, began = self.draws.at(number), time.perf_counter()
        clean = clean_batch(self.source, draws.rows(len(self.source)), draws)
        self.waited += time.perf_counter() - began
        return self.task.draw(clean, draws).split(self.round * self.passes)
