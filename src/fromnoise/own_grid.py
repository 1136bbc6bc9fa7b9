"""The times at which a distilled model answers: a few of those of the sampler that it replaces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import torch
from pydantic import BaseModel, Field, ValidationError, model_validator
from torch import Tensor

from fromnoise.errors import InputError
from fromnoise.registry import STRICT, explain
from fromnoise.schedule import Schedule, Spacing


def later(times: Sequence[float], t: Tensor) -> Tensor:
    """Return of falling times the ones that follow t `[n]`, float64; each of t is one of them."""
    known = torch.tensor(times, dtype=torch.float64)
    return known[torch.searchsorted(-known, -t - 1e-9) + 1]


class OwnGrid(BaseModel):
    """Every (of/steps)-th time of a grid of `of` steps.

    Attributes:
        steps: how many steps the model takes from noise to data, one evaluation each.
        of: the steps of the finest grid, those of the first teacher.
        spacing: of the finest grid; see `Schedule.grid`.
    """

    model_config = STRICT

    steps: Annotated[int, Field(ge=1, le=2**16)]
    of: Annotated[int, Field(ge=1, le=2**16)]
    spacing: Spacing = "uniform"

    def __init__(self, **data: Any) -> None:
        try:
            super().__init__(**data)
        except ValidationError as error:
            raise explain(error, "grid", type(self).model_fields) from None

    @model_validator(mode="after")
    def _divides(self) -> OwnGrid:
        if self.of % self.steps:
            raise ValueError(f"{self.of} steps are not a multiple of {self.steps}")
        return self

    def times(self, schedule: Schedule) -> list[float]:
        """Return the steps + 1 times on a schedule, strictly decreasing from 1 to 0."""
        return schedule.grid(self.of, self.spacing)[:: self.of // self.steps]

    def after(self, schedule: Schedule, t: Tensor) -> Tensor:
        """Return where the steps from times t `[n]` of its own end, float64."""
        return later(self.times(schedule), t)

    def check(self, schedule: Schedule, t: float | Tensor) -> None:
        """Refuse a time at which the model has no answer.

        Raises:
            InputError: naming the steps that it takes.
        """
        known = self.times(schedule)[:-1]
        asked = t.flatten().tolist() if isinstance(t, Tensor) else [t]
        if any(min(abs(one - time) for time in known) > 1e-6 for one in asked):
            raise InputError(
                f"this model was distilled to {self.steps} steps and answers at their times alone: sample it with ddim "
                f"in {self.steps} steps, which is what is done when nothing is said"
            )
