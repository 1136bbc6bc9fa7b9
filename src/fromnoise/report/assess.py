"""How good a run's samples are, each number beside the best that is possible.

The error of samples has two parts: the model's and the sampler's. The exact denoiser of the same data, driven by the
same sampler from the same noise, has the second alone; it stands beside every result.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from fromnoise.data.dataset import Dataset, sobol_noise
from fromnoise.denoiser import DenoiserLike
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
        steps: evaluations of the network.
        distance: 2-Wasserstein distance to the truth.
        floor: the same between fresh draws.
        ratio: of the samples to the floor, 1 being perfect.
        exact_ratio: the same with the exact denoiser in the model's place; None where it was not asked for.
        seconds: to draw the samples.
        samples: `[n, *S]`.
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
    scaling = run.denoiser.scaling
    return mixture_of_data(data, scaling).denoiser(run.denoiser.schedule, scaling)


def table_for(sampler: Sampler, schedule: Schedule) -> Schedule:
    """Return the path on which a sampler is at home: a rule for tables walks the linear one of 1,000 steps."""
    at_home_on_tables = samplers.settings(sampler)["name"] in ("ddpm", "ddim")
    return schedules.build("linear") if at_home_on_tables and schedule.table_length is None else schedule


class Assessor:
    """Measures a run's samples against its data's truth.

    Args:
        run: the run.
        n: how many samples each measurement takes.
        seed: of every random number.
        exact: whether the exact denoiser is measured beside the model.
    """

    def __init__(self, run: Run, *, n: int = 2000, seed: int = 0, exact: bool = True) -> None:
        self.run, self.n, self.seed = run, n, seed
        self.data = Dataset(run.data.x, name=run.data.name, distribution=run.data.distribution)
        self.exact = exact_beside(run, run.data) if exact else None
        self.low_noise = run.data.distribution is not None and run.denoiser.label_names == ()
        self.floor = wasserstein_floor(self.data, n, seed=seed) if self.low_noise else None

    def __call__(
        self,
        sampler: Sampler,
        steps: int,
        *,
        schedule: Schedule | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Result:
        """Sample and measure.

        Args:
            sampler: the rule.
            steps: how many.
            schedule: another path than the run's own.
            progress: called with steps done and steps in all.
        """
        model, exact = self.run.denoiser, self.exact
        path = schedule or model.schedule
        start = sobol_noise(self.n, model.shape, self.seed) if self.low_noise else None
        labels = self._labels()

        def draw(denoiser: DenoiserLike) -> Tensor:
            return sample(
                denoiser.on(path), self.n, sampler=sampler, steps=steps, cond=labels, seed=self.seed, start=start,
                progress=progress,
            )  # fmt: skip

        began = time.perf_counter()
        x = draw(model)
        seconds = time.perf_counter() - began
        distance, floor, ratio = self._measure(x)
        beside = self._measure(draw(exact))[2] if exact is not None else None
        name = f"{samplers.settings(sampler)['name']} {steps}"
        return Result(name, steps, distance, floor, ratio, beside, seconds, x)

    def _labels(self) -> Tensor | None:
        """Return labels in the data's own proportions, for a run that has them."""
        if self.run.data.labels is None or not self.run.denoiser.label_names:
            return None
        labels = self.run.data.labels
        return labels.sort().values[(torch.arange(self.n) * len(labels)) // self.n]

    def _measure(self, x: Tensor) -> tuple[float, float, float]:
        """Return (distance, floor, ratio)."""
        if self.low_noise:
            found = low_noise(x, self.data, floor=self.floor, seed=self.seed)
            return found.distance, found.floor, found.ratio
        measure = evaluate(x, self.data, seed=self.seed, pairs=4).measures[0]
        return measure.value, measure.floor, measure.ratio
