"""Times drawn more often where the loss is large.

With u uniform, t(u) a training time and L its loss, the variance of the loss's mean is least if u is drawn from

    p(u) proportional to sqrt(E[L^2 | u]),    each loss weighted by 1/p(u),

which leaves the mean as it is. E[L^2 | u] is taken over the last losses heard of each part of the times.
Source: Nichol & Dhariwal 2021, section 3.3, eq. 18.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Mapping
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from fromnoise.errors import CheckpointDamaged, shown
from fromnoise.run.guard import is_finite
from fromnoise.schedule import Schedule
from fromnoise.training.times import TimeLaw, Uniform, time_laws

_LEAST = 0.001
"""The part of the draws that stays uniform, so that no time is forgotten. Source: the paper's published code."""

_ROUNDING = 1e-12

_History = list[deque[float]]


@time_laws.register("loss-aware")
class LossAware(TimeLaw):
    """Uniform and stratified times until every part has been heard often enough, then p(u) of the losses.

    It is for losses that are much larger at some times than at others, such as the ELBO's. Its state belongs to one
    training and is kept in its checkpoints.

    Args:
        bins: the number of equal parts that the times are cut into; a shorter table is cut into its steps.
        history: how many losses of each part are remembered.
    """

    listens = True

    def __init__(
        self, bins: Annotated[int, Field(ge=2, le=256)] = 100, history: Annotated[int, Field(ge=1, le=32)] = 10
    ) -> None:
        self.bins, self.history = bins, history
        self._drawn_from, self._heard = self._fresh(), self._fresh()  # that of the round under way, and the newest
        self._waiting: list[tuple[Schedule, Tensor, Tensor]] = []  # not looked at yet: that waits for the device

    def _fresh(self) -> _History:
        return [deque(maxlen=self.history) for _ in range(self.bins)]

    def _edges(self, schedule: Schedule) -> Tensor:
        """Return where the parts of [0, 1) end, `[parts + 1]` float64; on a table where steps do."""
        length = schedule.table_length
        parts = self.bins if length is None else min(self.bins, length)
        edges = torch.arange(parts + 1, dtype=torch.float64) / parts
        return edges if length is None else (edges * length).round() / length

    def _density(self, edges: Tensor) -> Tensor:
        """Return p in each part, `[parts]` float64; its mean over u is 1."""
        widths, known = edges.diff(), self._drawn_from[: len(edges) - 1]
        if any(len(part) < self.history for part in known):
            return torch.ones_like(widths)
        rms = torch.tensor([list(part) for part in known], dtype=torch.float64).square().mean(1).sqrt()
        total = (rms * widths).sum()
        return torch.ones_like(widths) if total == 0 else _LEAST + (1 - _LEAST) * rms / total

    def at(self, schedule: Schedule, u: Tensor) -> Tensor:
        edges = self._edges(schedule)
        density = self._density(edges)
        before = torch.cat([torch.zeros(1, dtype=torch.float64), (density * edges.diff()).cumsum(0)])
        part = (torch.searchsorted(before, u, right=True) - 1).clamp(0, len(density) - 1)
        inside = (u - before[part]) / density[part]
        place = torch.clamp(edges[part] + inside, edges[part] + _ROUNDING, edges[part + 1] - _ROUNDING)
        return schedule.uniform_time(place)

    def density(self, schedule: Schedule, t: Tensor) -> Tensor:
        """Return the density of uniform times: what is drawn more often is weighted less."""
        return Uniform().density(schedule, t)

    def importance(self, schedule: Schedule, t: Tensor) -> Tensor:
        edges = self._edges(schedule)
        return 1 / self._density(edges)[self._part(schedule, edges, t)]

    def _part(self, schedule: Schedule, edges: Tensor, t: Tensor) -> Tensor:
        """Return in which part times `[n]` lie."""
        u = schedule.uniform_place(t)
        return (torch.searchsorted(edges, u, right=True) - 1).clamp(0, len(edges) - 2)

    def hear(self, schedule: Schedule, t: Tensor, losses: Tensor) -> None:
        self._waiting.append((schedule, t, losses))

    def turn(self) -> None:
        self._listen()
        self._drawn_from = copy.deepcopy(self._heard)

    def _listen(self) -> None:
        """Take in what was heard, each loss without the weight that it was drawn with."""
        for schedule, t, losses in self._waiting:
            edges = self._edges(schedule)
            part = self._part(schedule, edges, t)
            own = losses.cpu().double() * self._density(edges)[part]
            for place, loss in zip(part.tolist(), own.tolist(), strict=True):
                self._heard[place].append(loss)
        self._waiting.clear()

    def state(self) -> dict[str, Any]:
        self._listen()
        return {"drawn_from": [list(part) for part in self._drawn_from], "heard": [list(part) for part in self._heard]}

    def restore(self, state: Mapping[str, Any]) -> None:
        for name, own in (("drawn_from", self._drawn_from), ("heard", self._heard)):
            kept = state.get(name)
            if not isinstance(kept, list) or len(kept) != self.bins:
                raise CheckpointDamaged(f"state.json: times.{name} must hold {self.bins} lists of losses")
            for part, losses in zip(own, kept, strict=True):
                if not isinstance(losses, list) or len(losses) > self.history or not all(map(is_finite, losses)):
                    raise CheckpointDamaged(f"state.json: times.{name} holds {shown(losses)}")
                part.clear()
                part.extend(float(loss) for loss in losses)
