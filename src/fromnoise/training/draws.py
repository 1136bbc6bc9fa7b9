"""The random numbers of a training.

A batch of N rows is drawn in P = 8 equal parts (in 4, 2 or 1 where 8 does not divide N), each with a stream of its own
for each purpose: rows, codec, times, noise, drop. How many parts are computed together, or where, changes no number.

Small batches are drawn many steps at a time, a *round* of K steps: one by one, their many small operations would cost
a small network a tenth of its speed. Inside a round a part is `[K n', ...]` with n' = N/P, its first n' rows being the
first step's, and the whole is `[K N, ...]`: step after step, and part after part inside a step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from fromnoise.rng import Streams
from fromnoise.schedule import Schedule
from fromnoise.training.times import TimeLaw

PARTS = 8
"""In how many parts a batch is drawn, where their number divides it."""


class Draws:
    """The random numbers of one round after another.

    Args:
        seed: of the training.
        batch_size: N, the rows of one step.
        steps: K, the steps of a round.
        device: where noise is drawn; rows and times are drawn on the CPU, so that every device has the same.
        name: of the streams; others share nothing.
    """

    def __init__(
        self, seed: int, batch_size: int, steps: int = 1, *, device: torch.device | str = "cpu", name: str = "train"
    ) -> None:
        self.steps, self.batch_size, self.parts = steps, batch_size, math.gcd(batch_size, PARTS)
        self.count = steps * batch_size // self.parts
        self.device = torch.device(device)
        self._seed, self._name, self._round = seed, name, 0
        self._streams: dict[tuple[str, str], Streams] = {}
        k, p, j = torch.meshgrid(
            torch.arange(steps), torch.arange(self.parts), torch.arange(batch_size // self.parts), indexing="ij"
        )
        self._stratum = ((j * self.parts + p) * steps + k).flatten()

    def at(self, number: int) -> Draws:
        """Go to the start of round 0, 1, ...; return the same object."""
        self._round = number
        return self

    def each(
        self, purpose: str, draw: Callable[[torch.Generator, int], Tensor], device: torch.device | str = "cpu"
    ) -> list[Tensor]:
        """Draw every part from its own stream of a purpose; `draw` is given the generator and the part's number."""
        key = (purpose, str(device))
        if key not in self._streams:
            self._streams[key] = Streams(self._seed, f"{self._name}/{purpose}", device)
        streams, first = self._streams[key], self._round * self.parts
        return [draw(streams.at(first + part), part) for part in range(self.parts)]

    def assemble(self, parts: Sequence[Tensor]) -> Tensor:
        """Return parts `[K n', ...]` as the rows of the round's steps, `[K N, ...]`."""
        if self.steps == 1:
            return torch.cat(list(parts))
        return torch.stack(list(parts)).unflatten(1, (self.steps, -1)).transpose(0, 1).flatten(0, 2)

    def progress(self, in_all: int) -> Tensor:
        """Return which part of a training of so many steps was done before each row's step, `[K N]` in [0, 1].

        It is 1 for draws that are not those of a training's steps.
        """
        if self._name != "train":
            return torch.ones(self.steps * self.batch_size, dtype=torch.float64)
        step = self._round * self.steps + torch.arange(self.steps, dtype=torch.float64)
        return (step / max(in_all, 1)).clamp(max=1).repeat_interleave(self.batch_size)

    def rows(self, count: int) -> list[Tensor]:
        """Draw rows 0, 1, ..., count - 1 with replacement, `[K n']` int64 for each part."""
        return self.each("rows", lambda generator, _: torch.randint(count, (self.count,), generator=generator))

    def normal(self, purpose: str, like: Tensor) -> Tensor:
        """Draw standard normal numbers of the shape, type and device of `like`, `[K N, *S]`."""
        shape, dtype = (self.count, *like.shape[1:]), like.dtype
        return self.assemble(self.each(
            purpose, lambda generator, _: torch.randn(shape, generator=generator, dtype=dtype, device=like.device),
            like.device,
        ))  # fmt: skip

    def signs(self, purpose: str, like: Tensor) -> Tensor:
        """Draw -1 or 1 for each number of `like`, `[K N, *S]`."""
        shape = (self.count, *like.shape[1:])
        bits = self.assemble(self.each(
            purpose, lambda generator, _: torch.randint(2, shape, generator=generator, device=like.device), like.device
        ))  # fmt: skip
        return bits.to(like) * 2 - 1

    def uniform(self, purpose: str) -> Tensor:
        """Draw a number in [0, 1) for each row, `[K N]` float64 on the CPU."""
        return self.assemble(self.each(
            purpose, lambda generator, _: torch.rand(self.count, generator=generator, dtype=torch.float64)
        ))  # fmt: skip

    def times(self, law: TimeLaw, schedule: Schedule) -> Tensor:
        """Draw a time for each row, `[K N]` float64 on the CPU.

        Where the law is stratified, u is drawn once in each of K N equal intervals, so that one falls in each of N
        equal intervals in every step, and in each of n' in every part of it.
        """
        u = self.uniform("times")
        return law.at(schedule, (self._stratum + u) / len(u) if law.stratified else u)
