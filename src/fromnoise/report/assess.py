"""How good a run's samples are, each number beside the best that is possible.

The error of samples has two parts: the model's and the sampler's. The exact denoiser of the same data, driven by the
same sampler from the same noise, has only the sampler's error; its result is shown beside every result of the model.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from fromnoise.cond import Cond
from fromnoise.data.dataset import Dataset
from fromnoise.data.distribution import sobol_noise
from fromnoise.denoiser_like import DenoiserLike
from fromnoise.exact import mixture_of_data
from fromnoise.metrics import evaluate, low_noise, wasserstein_floor
from fromnoise.run import Run
from fromnoise.samplers import Sampler, sample, samplers
from fromnoise.schedule import Schedule, schedules


@dataclass(frozen=True)
class Result:
    """One way of sampling a run, measured.

    Attributes:
        sampler: its name and steps.
        steps: the number of steps of the sampler.
        distance: the 2-Wasserstein distance to fresh draws of the data.
        floor: the same distance between fresh draws of the data.
        ratio: distance/floor: 1 is as good as fresh data.
        exact_ratio: the same ratio with the exact denoiser in the model's place; None where it was not measured.
        seconds: the time that drawing the samples took.
        samples: the samples, `[n, *S]`.
    """

    sampler: str
    steps: int
    distance: float
    floor: float
    ratio: float
    exact_ratio: float | None
    seconds: float
    samples: Tensor = field(repr=False)

    def row(self) -> dict[str, Any]:
        """Return everything but the samples, as data."""
        return {k: v for k, v in asdict(self).items() if k != "samples"}


def exact_beside(run: Run, data: Dataset) -> DenoiserLike:
    """Return the exact denoiser of the run's data, on its schedule and in its units."""
    codec = run.denoiser.codec
    return mixture_of_data(data, codec).denoiser(run.denoiser.schedule, codec)


def table_for(sampler: Sampler, schedule: Schedule) -> Schedule:
    """Return the schedule that suits a sampler: for DDPM and DDIM on a continuous schedule, the linear table."""
    needs_table = samplers.settings(sampler)["name"] in ("ddpm", "ddim")
    return schedules.build("linear") if needs_table and schedule.table_length is None else schedule


def path_for(sampler: Sampler | None, denoiser: DenoiserLike) -> Schedule:
    """Return the schedule on which a sampler suits a denoiser: its own, for a distilled one or where none is given."""
    distilled = getattr(denoiser, "grid", None) is not None
    return denoiser.schedule if sampler is None or distilled else table_for(sampler, denoiser.schedule)


class Assessor:
    """Measures a run's samples against the true distribution of its data, or the data themselves.

    Args:
        run: the run.
        n: the number of samples in each measurement.
        seed: the seed of every random number.
        exact: whether the exact denoiser is measured beside the model.
    """

    def __init__(self, run: Run, *, n: int = 2000, seed: int = 0, exact: bool = True) -> None:
        self.run, self.n, self.seed = run, n, seed
        self.data = Dataset(run.source.x, name=run.source.name, distribution=run.source.distribution)
        self.exact = exact_beside(run, run.source) if exact else None
        self.low_noise = run.source.distribution is not None and not run.denoiser.conditioners
        self.floor = wasserstein_floor(self.data, n, seed=seed) if self.low_noise else None

    def __call__(
        self,
        sampler: Sampler,
        steps: int,
        *,
        schedule: Schedule | None = None,
        grid: Sequence[float] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Result:
        """Sample and measure.

        Args:
            sampler: the rule.
            steps: the number of steps.
            schedule: another path than the run's own.
            grid: the times to step through, instead of the sampler's own.
            progress: called with the steps done and the steps in all.
        """
        model, exact = self.run.denoiser, self.exact
        path = schedule or model.schedule
        start = sobol_noise(self.n, model.shape, self.seed) if self.low_noise else None
        cond = self._cond()

        def draw(denoiser: DenoiserLike) -> Tensor:
            return sample(
                denoiser.on(path), self.n, sampler=sampler, steps=steps, cond=cond, seed=self.seed, start=start,
                grid=grid, progress=progress,
            )  # fmt: skip

        began = time.perf_counter()
        x = draw(model)
        seconds = time.perf_counter() - began
        distance, floor, ratio = self._measure(x)
        beside = None if exact is None or model.grid is not None else self._measure(draw(exact))[2]
        name = f"{samplers.settings(sampler)['name']} {steps}"
        return Result(name, steps, distance, floor, ratio, beside, seconds, x)

    def _cond(self) -> Cond | None:
        """Return n conditions in the data's own proportions, or None for a run without conditions."""
        data = self.run.source
        cond = data.cond_for(self.run.denoiser.conditioners)
        if cond is None:
            return None
        order = torch.arange(len(data)) if data.labels is None else data.labels.argsort(stable=True)
        return cond.rows(order[(torch.arange(self.n) * len(data)) // self.n])

    def _measure(self, x: Tensor) -> tuple[float, float, float]:
        """Return (distance, floor, ratio)."""
        if self.low_noise:
            found = low_noise(x, self.data, floor=self.floor, seed=self.seed)
            return found.distance, found.floor, found.ratio
        measure = evaluate(x, self.data, seed=self.seed, pairs=4).measures[0]
        return measure.value, measure.floor, measure.ratio
