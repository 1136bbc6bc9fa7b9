"""Consistency models: from every time t the answer is where the probability-flow ODE ends.

    f(x_t, t) = f(x_r, r)   for t and r < t on one way of the ODE,   f(x_0, 0) = x_0

A step draws t and the next time r of a grid of N steps and minimizes the distance of f(x_t, t) to f(x_r, r), through
which no gradient goes. x_r is a step of Heun's rule of a teacher from x_t; without one it is alpha_r x0 + sigma_r eps
with the x0 and eps of x_t, whose mean leads the same way as N grows. N doubles as the training goes: at N = 1, r = 0,
and f is the mean E[x0 | x_t] of an ordinary training.

Source: Song, Dhariwal, Chen & Sutskever 2023 (the models, with a teacher and without); Song & Dhariwal 2023 (no average
of the weights in f(x_r, r), the pseudo-Huber distance, doubling); Geng et al. 2024 (from N = 1 on).
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, TypeVar

import torch
from pydantic import Field
from torch import Tensor

from fromnoise.arrays import expand_to, weighted
from fromnoise.cond import Cond
from fromnoise.data.source import Batch
from fromnoise.denoiser import Denoiser
from fromnoise.denoiser_like import DenoiserLike
from fromnoise.errors import ConfigError
from fromnoise.own_grid import AnySteps, FewSteps, OwnGrid, place_of
from fromnoise.training.distill import OnGrid, guided_by, teacher_from, told_scales
from fromnoise.training.draws import Draws
from fromnoise.training.noising import Objective, objective
from fromnoise.training.task import Drawn, Task, autocast, losses
from fromnoise.training.weighting import UniformWeighting

Own = TypeVar("Own", bound="ConsistencyTraining")

_DOUBLINGS, _APART = 8, 200
"""How often N doubles at most where nothing is said, and the fewest optimizer steps between."""

Whole = Annotated[int, Field(ge=1, le=2**16)]


@losses.register("consistency")
@dataclass(frozen=True)
class ConsistencyTraining(Task):
    """The distance of the answer at t to that at the next time r of a grid, f(x_t, t) to f(x_r, r).

    The distance is pseudo-Huber, sqrt(|e|^2/D + c^2) - c: near the square for errors below c, which has no bias, and
    near the norm above, which far-off targets disturb less. The training's weighting and times have no part in it.

    Args:
        steps: in how many steps the model is sampled where nothing is said.
        first: N at the start.
        last: N at the end, to which it doubles in equal parts of the training; 0 for 256, or as much less as it takes
            for 200 optimizer steps between two doublings: with fewer the answers drift.
        huber: c, in the data's standard deviations.
        of: the steps of the finest grid; 1,024 where it is 0, or as many as a shorter table has.
        teacher: the folder of a teacher's run, which must stay as it is; none when empty.
        weights: a sum of the teacher's weights, by which it is known again.
    """

    steps: Whole = 2
    first: Whole = 1
    last: Annotated[int, Field(ge=0, le=2**16)] = 0
    huber: Annotated[float, Field(gt=0)] = 0.2
    of: Annotated[int, Field(ge=0, le=2**16)] = 0
    teacher: str = ""
    weights: str = ""

    taught: ClassVar[DenoiserLike | None] = None
    """The teacher, once it was needed."""

    @property
    def steady(self) -> bool:
        return False

    @property
    def few_steps(self) -> FewSteps | None:
        return _way(self.denoiser, self.steps, self.of)

    def bound(
        self: Own, model: Any, goal: Objective | None = None, *, drop_cond: float = 0.0, precision: str = "float32",
        in_all: int = 1,
    ) -> Own:  # fmt: skip
        way = _way(model, self.steps, self.of)
        every = OnGrid(OwnGrid(steps=way.of, of=way.of, spacing=way.spacing))
        goal = replace(goal or objective(model), times=every, weighting=UniformWeighting())
        return super().bound(model, goal, drop_cond=drop_cond, precision=precision, in_all=in_all)

    def taught_by(self: Own, teacher: DenoiserLike) -> Own:
        """Return the task, bound, with a teacher that need be no run."""
        task = copy.copy(self)
        object.__setattr__(task, "taught", teacher)
        return task

    def check(self) -> None:
        if self.denoiser.learned_variance:
            raise ConfigError("a consistency model has no steps with a variance: train it without a learned one")
        if self.denoiser.prediction.needs_signal:
            raise ConfigError(
                "a consistency model answers at t = 1 too, where this prediction tells nothing of x0: predict v, x0, "
                "flow or edm"
            )
        most = _way(self.denoiser, self.steps, self.of).of
        if not self.first <= self.end <= most:
            raise ConfigError(
                f"loss: first <= last <= the steps of the finest grid, not {self.first}, {self.end}, {most}"
            )
        self._teacher()

    def _teacher(self) -> DenoiserLike | None:
        """Return the teacher, None where there is none. Raises as `teacher_from` does."""
        if self.taught is None and self.teacher:
            object.__setattr__(self, "taught", teacher_from(self.teacher, self.weights).to(self.denoiser.device))
        return self.taught

    def draw(self, clean: Batch, draws: Draws) -> Drawn:
        drawn, denoiser = super().draw(clean, draws), self.denoiser
        cond, teacher = told_scales(denoiser, drawn, draws), self._teacher()
        r = self.next_time(drawn.t, draws.progress(self.in_all))
        alpha, sigma = (expand_to(scale, clean.x) for scale in denoiser.schedule.scales(drawn.t))
        x_t = drawn.x / denoiser.prediction.input_scale(alpha, sigma)
        if teacher is None:
            alpha_r, sigma_r = self._scales(r)
            x_r = weighted(alpha_r, clean.x, sigma_r, (x_t - alpha * clean.x) / sigma)
        else:
            x_r = self.taught_step(teacher, x_t, drawn.t, r, cond)
        return drawn._replace(cond=cond, also={**drawn.also, "r": r, "x_r": x_r.to(clean.x)})

    @property
    def end(self) -> int:
        """N at the end."""
        if self.last:
            return self.last
        doublings = min(_DOUBLINGS, max(self.in_all // _APART - 1, 0))
        return max(self.first, min(2**doublings, _way(self.denoiser, self.steps, self.of).of))

    def next_time(self, t: Tensor, progress: Tensor) -> Tensor:
        """Return r for times t `[n]` of the finest grid, 1/N of that grid further on.

        Args:
            t: float64.
            progress: how much of the training is done, `[n]` in [0, 1]: N = first 2^k, k = 0, 1, ... in equal parts.
        """
        way = _way(self.denoiser, self.steps, self.of)
        doublings = math.ceil(math.log2(self.end / self.first))
        counts = (self.first * 2 ** (progress * (doublings + 1)).long().clamp(max=doublings)).clamp(max=self.end)
        times = way.finest(self.denoiser.schedule)
        gap = (way.of / counts).round().long().clamp(min=1)
        return torch.tensor(times, dtype=torch.float64)[(place_of(times, t) + gap).clamp(max=way.of)]

    @torch.no_grad()
    def taught_step(self, teacher: DenoiserLike, x_t: Tensor, t: Tensor, r: Tensor, cond: Cond | None) -> Tensor:
        """Return x_r, a step of Heun's rule of the teacher from x_t at times t to r, `[B]` each.

        Along the ODE x_r = alpha_r x0_hat + sigma_r eps_hat for a mean of x0_hat and eps_hat between t and r: the step
        goes there with those at t, and again with x0_hat half from either end. Where r is 0 it goes to x0_hat at t.
        """
        teacher, cond = guided_by(teacher, cond)
        alpha, sigma = (expand_to(scale, x_t) for scale in self.denoiser.schedule.scales(t))
        alpha_r, sigma_r = (torch.as_tensor(expand_to(scale, x_t)) for scale in self._scales(r))
        last = _rows(r == 0, x_t)
        with autocast(x_t, self.precision):
            x0_hat = teacher(x_t, t, cond)
            x_p = weighted(alpha_r, x0_hat, sigma_r, (x_t - alpha * x0_hat) / sigma)
            at_r = teacher(torch.where(last, x_t, x_p), torch.where(r == 0, t, r), cond)
        mean = torch.where(last, x0_hat, (x0_hat + at_r) / 2)
        return weighted(alpha_r, mean, sigma_r, (x_t - alpha * mean) / sigma)

    def loss(self, drawn: Drawn) -> Tensor:
        return self.losses(drawn).mean()

    def losses(self, drawn: Drawn) -> Tensor:
        alpha, sigma = (expand_to(scale, drawn.x) for scale in self.denoiser.schedule.scales(drawn.t))
        x_t = drawn.x / self.denoiser.prediction.input_scale(alpha, sigma)
        answer = self.denoiser.prediction.x0_hat(self.network_output(drawn), x_t, alpha, sigma)
        c = self.huber * self.denoiser.sigma_data
        return ((answer - self.aim(drawn)).square().flatten(1).mean(1) + c * c).sqrt() - c

    @torch.no_grad()
    def aim(self, drawn: Drawn) -> Tensor:
        """Return f(x_r, r) `[B, *S]`; x_r itself where r is 0."""
        denoiser, x_r, r = self.denoiser, drawn.also["x_r"], drawn.also["r"]
        own = torch.where(r == 0, 1.0, r)  # any time at which there is an answer, where none is asked
        alpha, sigma = (expand_to(scale, x_r) for scale in denoiser.schedule.scales(own))
        x = (denoiser.prediction.input_scale(alpha, sigma) * x_r).to(x_r)
        out = self.network_output(drawn._replace(x=x, c_noise=torch.as_tensor(denoiser.c_noise(own)).to(x_r)))
        return torch.where(_rows(r == 0, x_r), x_r, denoiser.prediction.x0_hat(out, x_r, alpha, sigma))

    def _scales(self, r: Tensor) -> tuple[Tensor, Tensor]:
        """Return alpha and sigma at times r `[n]`; 1 and 0 where r is 0."""
        alpha, sigma = self.denoiser.schedule.scales(torch.where(r == 0, 1.0, r))
        return torch.where(r == 0, 1.0, alpha), torch.where(r == 0, 0.0, sigma)


def _rows(chosen: Tensor, like: Tensor) -> Tensor:
    """Return which rows are chosen, bool `[B]`, so that it broadcasts over `like`."""
    return chosen.to(like.device).reshape(-1, *([1] * (like.dim() - 1)))


def _way(denoiser: Denoiser, steps: int, of: int) -> AnySteps:
    """Return how a consistency model is sampled."""
    length = denoiser.schedule.table_length
    most = min(of or 1024, length or 2**16)
    return AnySteps(steps=min(steps, most), of=most, spacing="karras" if length is None else "uniform")
