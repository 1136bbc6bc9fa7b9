"""Progressive distillation: a student that takes one step of DDIM where its teacher takes two (Salimans & Ho 2022).

A teacher with the times t > m > s steps from x_t to x_m to x_s. The student should get there in one step,

    x_s = a x_t + b x0~,   a = sigma_s/sigma_t,  b = alpha_s - a alpha_t,    so    x0~ = (x_s - a x_t)/b

is what it should answer at t (algorithm 2). Where the teacher is deterministic, as here, x0~ is a function of x_t: a
student that can represent it has a loss of 0.
"""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass, replace
from typing import ClassVar, TypeVar

import torch
from torch import Tensor, nn

from fromnoise.arrays import expand_to, weighted
from fromnoise.cond import Cond
from fromnoise.data.source import Batch
from fromnoise.denoiser import Denoiser
from fromnoise.denoiser_like import DenoiserLike
from fromnoise.errors import ConfigError, RunError
from fromnoise.nn.network import plain
from fromnoise.own_grid import OwnGrid
from fromnoise.run import load
from fromnoise.samplers.ddim import DDIM
from fromnoise.schedule import Schedule
from fromnoise.training.draws import Draws
from fromnoise.training.losses import mean_square, row_square
from fromnoise.training.noising import Objective, objective
from fromnoise.training.task import Drawn, Task, autocast, losses
from fromnoise.training.times import TimeLaw

Own = TypeVar("Own", bound="Distilling")


@dataclass(frozen=True)
class OnGrid(TimeLaw):
    """The starts of a student's steps, each as likely as the others, stratified.

    Args:
        grid: the student's.
    """

    grid: OwnGrid

    def at(self, schedule: Schedule, u: Tensor) -> Tensor:
        times = torch.tensor(self.grid.times(schedule), dtype=torch.float64)
        return times[(u * self.grid.steps).long().clamp(max=self.grid.steps - 1)]


@losses.register("distilling")
@dataclass(frozen=True)
class Distilling(Task):
    """The weighted mean square error of the output to the one with which one step lands where the teacher's two do.

    Args:
        teacher: the folder of the teacher's run, which must stay as it is until the training has ended.
        weights: a sum of its weights, by which it is known again.
    """

    teacher: str
    weights: str

    taught: ClassVar[tuple[DenoiserLike, list[float]] | None] = None
    """The teacher and its times, once they were needed."""

    def bound(
        self: Own, denoiser: Denoiser, goal: Objective | None = None, *, drop_cond: float = 0.0,
        precision: str = "float32",
    ) -> Own:  # fmt: skip
        if denoiser.grid is None:
            raise ConfigError("distilling is for a student with a grid of its own: distill a run (fn.distill)")
        goal = replace(goal or objective(denoiser), times=OnGrid(denoiser.grid))
        return super().bound(denoiser, goal, drop_cond=drop_cond, precision=precision)

    def taught_by(self: Own, teacher: DenoiserLike) -> Own:
        """Return the task, bound, with a teacher that need be no run.

        Raises:
            ConfigError: if it does not take two steps where the student takes one.
        """
        student = self.denoiser.grid
        assert student is not None  # `bound` looked
        finer = 2 * student.steps
        known = getattr(teacher, "grid", None) or OwnGrid(steps=student.of, of=student.of, spacing=student.spacing)
        if known != OwnGrid(steps=finer, of=student.of, spacing=student.spacing):
            raise ConfigError(
                f"a student of {student.steps} steps learns from {finer}, and its teacher takes {known.steps}"
            )
        task = copy.copy(self)
        object.__setattr__(task, "taught", (teacher, known.times(self.denoiser.schedule)))
        return task

    def check(self) -> None:
        if self.denoiser.learned_variance:
            raise ConfigError(
                "a run with a learned variance cannot be distilled: steps without noise teach none; train a run without"
            )
        self.lesson()

    def lesson(self) -> tuple[DenoiserLike, list[float]]:
        """Return the teacher and its times. Raises as `teacher_from` and `taught_by` do."""
        if self.taught is None:
            teacher = teacher_from(self.teacher, self.weights).to(self.denoiser.device)
            object.__setattr__(self, "taught", self.taught_by(teacher).taught)
        assert self.taught is not None
        return self.taught

    def draw(self, clean: Batch, draws: Draws) -> Drawn:
        drawn, denoiser = super().draw(clean, draws), self.denoiser
        alpha, sigma = (expand_to(scale, drawn.x) for scale in denoiser.schedule.scales(drawn.t))
        x_t = drawn.x / denoiser.prediction.input_scale(alpha, sigma)
        x0 = self.target_of(x_t, drawn.t, drawn.cond)
        return drawn._replace(target=denoiser.prediction.target(x0, (x_t - alpha * x0) / sigma, alpha, sigma))

    @torch.no_grad()
    def target_of(self, x_t: Tensor, t: Tensor, cond: Cond | None) -> Tensor:
        """Return x0~ `[B, *S]`, with which a step of DDIM from times t `[B]` lands where two of the teacher's do."""
        teacher, times = self.lesson()
        place = torch.searchsorted(-torch.tensor(times, dtype=torch.float64), -t - 1e-9)
        m, s = (torch.tensor(times, dtype=torch.float64)[place + step] for step in (1, 2))
        rule, rest = DDIM(), {"cond": cond, "noise": lambda: x_t, "state": None}
        with autocast(x_t, self.precision):
            x_m = rule.step(teacher, x_t, t, m, **rest)[0]
            x_s = rule.step(teacher, x_m, m, s, **rest)[0]
        return _reaching(self.denoiser.schedule, x_t, x_s, t, s)

    def loss(self, drawn: Drawn) -> Tensor:
        return mean_square(self.network_output(drawn), drawn.target, drawn.weight)

    def losses(self, drawn: Drawn) -> Tensor:
        return row_square(self.network_output(drawn), drawn.target, drawn.weight)


def sum_of(network: nn.Module) -> str:
    """Return a sum of a network's weights and buffers."""
    found = hashlib.sha256()
    for name, tensor in sorted(plain(network).state_dict().items()):
        found.update(name.encode() + tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()[:16]


def teacher_from(path: str, weights: str) -> Denoiser:
    """Return the denoiser of a teacher's run.

    Raises:
        RunError: if the run is no longer there, or has changed.
    """
    teacher = load(path).denoiser
    if sum_of(teacher.network) != weights:
        raise RunError(f"the teacher at {path} has changed since the distillation was begun: begin it anew")
    return teacher


def _reaching(schedule: Schedule, x_t: Tensor, x_s: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """Return the x0 with which a step of DDIM takes x_t to x_s, at times t and s `[B]`; x_s itself where s is 0."""
    (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule.scales(t), schedule.scales(s)
    a = torch.where(s == 0, 0.0, sigma_s / sigma_t)
    b = torch.where(s == 0, 1.0, alpha_s - a * alpha_t)
    return weighted(1 / b, x_s, -a / b, x_t)
