"""How a model of few steps is sampled: at times of its own, by a rule of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import BaseModel, Field, ValidationError, model_validator
from torch import Tensor

from fromnoise.errors import InputError, whole_number
from fromnoise.registry import STRICT, explain
from fromnoise.schedule import Schedule, Spacing


def later(times: Sequence[float], t: Tensor) -> Tensor:
    """Return of falling times the ones that follow t `[n]`, float64; each of t is one of them."""
    known = torch.tensor(times, dtype=torch.float64)
    return known[place_of(times, t) + 1]


def place_of(times: Sequence[float], t: Tensor) -> Tensor:
    """Return the places of t `[n]` among falling times, int64."""
    return torch.searchsorted(-torch.tensor(times, dtype=torch.float64), -t - 1e-9)


class FewSteps(BaseModel):
    """Of a model of few steps: the answer of its denoiser is where a step is to point, and not the mean E[x0 | x_t].

    Attributes:
        steps: how many steps the model takes from noise to data when nothing is said, one evaluation each.
        of: the steps of the finest grid.
        spacing: of the finest grid; see `Schedule.grid`.
    """

    model_config = STRICT

    rule: ClassVar[str]
    """The name of the sampler that it takes, and the only one."""

    steps: Annotated[int, Field(ge=1, le=2**16)]
    of: Annotated[int, Field(ge=1, le=2**16)]
    spacing: Spacing = "uniform"

    def __init__(self, **data: Any) -> None:
        try:
            super().__init__(**data)
        except ValidationError as error:
            raise explain(error, "grid", type(self).model_fields) from None

    def finest(self, schedule: Schedule) -> list[float]:
        """Return the times of the finest grid, strictly decreasing from 1 to 0."""
        return schedule.grid(self.of, self.spacing)

    def times(self, schedule: Schedule, steps: int | None = None) -> list[float]:
        """Return steps + 1 times on a schedule, strictly decreasing from 1 to 0; by default those of its own steps.

        Raises:
            InputError: if the model cannot be sampled in so many steps.
        """
        raise NotImplementedError

    def check(self, schedule: Schedule, t: float | Tensor) -> None:
        """Raise InputError at a time at which the model has no answer."""

    def refuse(self) -> InputError:
        """Return what is said of another sampler, or of steps that it does not take."""
        raise NotImplementedError


class OwnGrid(FewSteps):
    """Every (of/steps)-th time of a grid of `of` steps, and no other: those of a model that was distilled by halving.

    Source: Salimans & Ho 2022, section 3.
    """

    rule: ClassVar[str] = "ddim"

    @model_validator(mode="after")
    def _divides(self) -> OwnGrid:
        if self.of % self.steps:
            raise ValueError(f"{self.of} steps are not a multiple of {self.steps}")
        return self

    def times(self, schedule: Schedule, steps: int | None = None) -> list[float]:
        if steps not in (None, self.steps):
            raise self.refuse()
        return self.finest(schedule)[:: self.of // self.steps]

    def after(self, schedule: Schedule, t: Tensor) -> Tensor:
        """Return where the steps from times t `[n]` of its own end, float64."""
        return later(self.times(schedule), t)

    def check(self, schedule: Schedule, t: float | Tensor) -> None:
        known = self.times(schedule)[:-1]
        asked = t.flatten().tolist() if isinstance(t, Tensor) else [t]
        if any(min(abs(one - time) for time in known) > 1e-6 for one in asked):
            raise InputError(
                f"this model was distilled to {self.steps} steps and answers at their times alone: sample it with ddim "
                f"in {self.steps} steps, which is what is done when nothing is said"
            )

    def refuse(self) -> InputError:
        return InputError(
            f"this model was distilled to {self.steps} steps of ddim with eta 0, and takes no others: leave sampler "
            "and steps out, or distill it further"
        )


class AnySteps(FewSteps):
    """Any number of steps up to `of`, at times spread evenly over the finest grid: those of a consistency model.

    From every time its answer is where the probability-flow ODE ends, so that one step is enough; more of them, with
    fresh noise between, mend the errors of the first.
    """

    name: Literal["any"] = "any"
    """By which it is told from an `OwnGrid` in a run's configuration."""

    rule: ClassVar[str] = "consistency"

    def times(self, schedule: Schedule, steps: int | None = None) -> list[float]:
        count = self.steps if steps is None else whole_number("steps", steps)
        if not 1 <= count <= self.of:
            raise self.refuse()
        finest = self.finest(schedule)
        return [finest[round(k * self.of / count)] for k in range(count + 1)]

    def refuse(self) -> InputError:
        return InputError(
            f"this is a consistency model, whose answer is no mean: it is sampled by the sampler consistency, in 1 to "
            f"{self.of:,} steps"
        )
