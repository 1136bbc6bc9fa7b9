"""What a training does: how a batch is drawn, what its loss is, and the least that loss can be.

The loop knows no more of a training than its task. A task of your own is a class that says what the loss is:

    @fn.register.loss("absolute")
    @dataclass(frozen=True)
    class Absolute(Task):
        def loss(self, drawn):
            return (self.network_output(drawn) - drawn.target).abs().mean()
"""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from fromnoise.cond import Cond
from fromnoise.conditioners import augmented
from fromnoise.data.source import Batch, Source
from fromnoise.denoiser import Denoiser
from fromnoise.errors import ConfigError
from fromnoise.model import Model
from fromnoise.nn.network import plain
from fromnoise.own_grid import FewSteps, OwnGrid
from fromnoise.registry import Registry
from fromnoise.training.draws import Draws
from fromnoise.training.noising import Objective, objective
from fromnoise.training.optimum import Floor, Losses, Optimum, floor_at, law_seen
from fromnoise.training.times import TimeLaw
from fromnoise.training.weighting import OF_STEPS

losses: Registry[AnyTask] = Registry("loss", "losses")

Own = TypeVar("Own", bound="AnyTask")

_LARGEST = 2**14
"""How many numbers a sample may have for its data's floor to be computed."""


class Drawn(NamedTuple):
    """Rows that a loss is taken of.

    Attributes:
        x: the network's input, `[B, *S]`.
        c_noise: what the network is told of the time, `[B]`.
        cond: the condition of each row, or None.
        target: what the network should answer, `[B, *S]`.
        weight: of each row's squared error, `[B]`, or of each number's, `[B, *S]`; None for 1.
        t: times, `[B]` float64 on the CPU.
        x0: the clean samples, `[B, *S]`.
        also: what else a task has drawn, by name, of B rows each.
    """

    x: Tensor
    c_noise: Tensor
    cond: Cond | None
    target: Tensor
    weight: Tensor | None
    t: Tensor
    x0: Tensor
    also: Mapping[str, Tensor] = MappingProxyType({})

    def split(self, count: int) -> list[Drawn]:
        """Return the rows in `count` equal parts."""
        size = len(self.x) // count
        return [Drawn(*parts) for parts in zip(*(_split(rows, size, count) for rows in self), strict=True)]

    def rows(self, at: Tensor) -> Drawn:
        """Return the rows of these indices `[b]`, on the CPU."""
        return Drawn(*(_rows(value, at) for value in self))


def _rows(rows: Any, at: Tensor) -> Any:
    if isinstance(rows, Tensor):
        return rows[at.to(rows.device)]
    if isinstance(rows, Cond):
        return rows.rows(at)
    return {name: value[at.to(value.device)] for name, value in rows.items()} if rows else rows


def _split(rows: Any, size: int, count: int) -> Sequence[Any]:
    if isinstance(rows, Tensor):
        return rows.split(size)
    if isinstance(rows, Cond):
        return [rows.rows(slice(k * size, (k + 1) * size)) for k in range(count)]
    if not rows:
        return [rows] * count
    parts = zip(*(tensor.split(size) for tensor in rows.values()), strict=True)
    return [dict(zip(rows, part, strict=True)) for part in parts]


def autocast(x: Tensor, precision: str) -> contextlib.AbstractContextManager[Any]:
    """Return the context in which a network computes x in this precision."""
    return torch.autocast(x.device.type, torch.bfloat16) if precision == "bf16" else contextlib.nullcontext()


class AnyTask:
    """What a training does, whatever it trains. Settings are its own; the rest is there once it is `bound`.

    Attributes:
        model: whose network is trained.
        drop_cond: the probability with which a row's condition is left out.
        precision: of the network's arithmetic.
        in_all: how many optimizer steps the training has.
    """

    model: Model
    drop_cond: float = 0.0
    precision: ClassVar[str] = "float32"
    in_all: ClassVar[int] = 1

    def check_model(self, model: Model) -> None:
        """Raise ConfigError if it trains no models of this kind."""
        raise NotImplementedError

    def goal_of(self, model: Model, weighting: Any, times: Any) -> Objective | None:
        """Return what is minimized under these settings of a training; None for a task without noise."""
        return None

    def bound(
        self: Own,
        model: Any,
        goal: Objective | None = None,
        *,
        drop_cond: float = 0.0,
        precision: str = "float32",
        in_all: int = 1,
    ) -> Own:
        """Return the task of training a model; `check` says whether the two go together.

        Args:
            model: what is trained.
            goal: noise, target and weight, of a task that has these.
            drop_cond: the probability with which a row's condition is left out.
            precision: of the network's arithmetic.
            in_all: how many optimizer steps the training has.
        """
        task = copy.copy(self)
        settings = {"model": model, "drop_cond": drop_cond, "precision": precision, "in_all": in_all}
        for name, value in {**settings, **({} if goal is None else {"goal": goal})}.items():
            object.__setattr__(task, name, value)  # a task is frozen
        return task

    @property
    def steady(self) -> bool:
        """Whether its loss means the same at every step of a training."""
        return True

    def check(self) -> None:
        """Raise ConfigError if the model cannot be trained with it."""

    def check_goal(self) -> None:
        """Raise ConfigError if the model cannot be trained for what is minimized."""

    @property
    def few_steps(self) -> FewSteps | None:
        """How the trained model is sampled; None for one whose answer is the mean E[x0 | x_t]."""
        return None

    @property
    def module(self) -> nn.Module:
        """What is trained."""
        return plain(self.model.network)

    @property
    def listener(self) -> TimeLaw | None:
        """The law of times, if it hears the losses; None for one that does not, and for a task without times."""
        return None

    def hear(self, t: Tensor, losses: Tensor) -> None:
        """Let the law of times hear the losses of rows at times t, `[B]` each."""

    def turn(self) -> None:
        """Let what times are drawn by change with what was heard, at the start of a round."""

    def draw(self, clean: Batch, draws: Draws) -> Drawn:
        """Return the rows that the losses of a round are taken of.

        Args:
            clean: what the model sees of the data, `[K N, *S]`, and its conditions.
            draws: the round's random numbers.
        """
        raise NotImplementedError

    def by_level(self, drawn: Drawn, count: int) -> tuple[list[Drawn], tuple[float, ...]]:
        """Return drawn rows in so many groups by their noise level, and these levels; none where there are none."""
        return drawn.split(count), ()

    def loss(self, drawn: Drawn) -> Tensor:
        """Return the mean loss of some rows, `[]`."""
        raise NotImplementedError

    def losses(self, drawn: Drawn) -> Tensor:
        """Return the loss of each row, `[B]`, whose mean is `loss`; needed for a law of times that listens alone."""
        raise NotImplementedError

    def has_floor(self, goal: Objective) -> bool:
        """Return whether the least expected loss is known for this schedule, prediction and weighting."""
        return False

    def least(self, best: Optimum) -> Losses:
        """Return the loss of the best network for drawn samples, and that of an output of 0, `[n]` each."""
        raise NotImplementedError

    def floor(self, source: Source) -> Floor | None:
        """Return the least expected loss on some data; None where it is not known."""
        return None


class Task(AnyTask):
    """What the training of a denoiser does.

    Attributes:
        goal: noise, target and weight of clean samples.
    """

    goal: Objective

    def check_model(self, model: Model) -> None:
        if not isinstance(model, Denoiser):
            raise ConfigError(
                "train: this loss is for denoisers, and an autoencoder is trained by the loss autoencoding"
            )

    def goal_of(self, model: Model, weighting: Any, times: Any) -> Objective:
        assert isinstance(model, Denoiser)  # `check_model` looked
        return objective(model, weighting, times)

    def bound(
        self: Own, model: Any, goal: Objective | None = None, *, drop_cond: float = 0.0, precision: str = "float32",
        in_all: int = 1,
    ) -> Own:  # fmt: skip
        goal = goal or objective(model)
        return super().bound(model, goal, drop_cond=drop_cond, precision=precision, in_all=in_all)

    @property
    def denoiser(self) -> Denoiser:
        """Whose network is trained."""
        assert isinstance(self.model, Denoiser)
        return self.model

    @property
    def few_steps(self) -> FewSteps | None:
        """How the trained denoiser is sampled.

        Times of its own stay with a denoiser; a consistency model that is trained by another task is none any more.
        """
        return self.denoiser.grid if isinstance(self.denoiser.grid, OwnGrid) else None

    def check_goal(self) -> None:
        if self.goal.weighting.of_steps and self.denoiser.grid is None:
            raise ConfigError(OF_STEPS)
        if self.goal.times.listens and type(self).losses is AnyTask.losses:
            raise ConfigError("train: loss-aware times hear the loss of each row, and this loss tells their mean alone")

    @property
    def listener(self) -> TimeLaw | None:
        return self.goal.times if self.goal.times.listens else None

    def hear(self, t: Tensor, losses: Tensor) -> None:
        self.goal.times.hear(self.goal.schedule, t, losses)

    def turn(self) -> None:
        self.goal.times.turn()

    def draw(self, clean: Batch, draws: Draws) -> Drawn:
        denoiser, goal, x0 = self.denoiser, self.goal, clean.x
        t = draws.times(goal.times, goal.schedule)
        noised = goal.noised(x0, t, draws.normal("noise", x0))
        x = denoiser.precondition(noised.x_t, noised.scales)
        cond = clean.cond
        if cond is not None:
            cond = augmented(cond, denoiser.conditioners, draws)
        if cond is not None and self.drop_cond:
            cond = cond.dropped(self.drop_cond, draws.uniform)
        weight = None if noised.weight is None else noised.weight.to(x)
        importance = goal.times.importance(goal.schedule, t)  # as they are drawn: a law may change afterwards
        also = {} if importance is None else {"importance": importance.to(x)}
        return Drawn(x, torch.as_tensor(denoiser.c_noise(t)).to(x), cond, noised.target, weight, t, x0, also)

    def by_level(self, drawn: Drawn, count: int) -> tuple[list[Drawn], tuple[float, ...]]:
        groups = drawn.rows(drawn.t.argsort(stable=True)).split(count)
        level = self.goal.schedule.noise_level
        return groups, tuple(float(level(float(group.t.median()))) for group in groups)

    def network_output(self, drawn: Drawn, x: Tensor | None = None) -> Tensor:
        """Return the network's output for drawn rows, or for `x` in place of theirs, in the training's precision."""
        with autocast(drawn.x, self.precision):
            return self.denoiser.network_output(drawn.x if x is None else x, drawn.c_noise, drawn.cond)

    def floor(self, source: Source) -> Floor | None:
        linear, small = self.denoiser.prediction.is_linear, math.prod(source.shape) <= _LARGEST
        known, codec = self.denoiser.conditioners, self.denoiser.codec
        if not (linear and small and self.has_floor(self.goal)):
            return None
        if codec.variance(codec.store(source.read(slice(0, 1)).x)) is not None:
            return None  # each sample is a law of its own, and that of them all takes too long
        law = law_seen(source, codec, known)
        return None if law is None else floor_at(self.least, law, self.goal, drop_cond=self.drop_cond)
