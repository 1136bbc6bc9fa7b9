"""The score field that a run learned, beside the exact one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fromnoise.cond import Cond
from fromnoise.denoiser_like import DenoiserLike
from fromnoise.errors import InputError
from fromnoise.report.assess import exact_beside
from fromnoise.rng import stream
from fromnoise.run import Run

LEVELS = (0.1, 0.3, 1.0)


@dataclass(frozen=True)
class ScoreField:
    """The score of x/alpha = x0 + v eps at one noise level, times v: this is -eps_hat, of the order of 1.

    All positions and scores are in the denoiser's units.

    Attributes:
        level: v, in standard deviations of the data.
        at: the points of a square grid, `[n, 2]`.
        learned: the run's field there, `[n, 2]`.
        exact: the exact field of the data there, `[n, 2]`.
        points: noisy data `[m, 2]`.
        error: E|learned - exact|^2 over E|exact|^2, both means taken over noisy data.
    """

    level: float
    at: Tensor = field(repr=False)
    learned: Tensor = field(repr=False)
    exact: Tensor = field(repr=False)
    points: Tensor = field(repr=False)
    error: float


def score_fields(
    run: Run, levels: Sequence[float] = LEVELS, *, label: str | int | None = None, side: int = 19, seed: int = 0
) -> list[ScoreField]:
    """Return the run's score field beside the exact one, at several noise levels.

    Args:
        run: a run on points in the plane.
        levels: sigma/alpha in standard deviations of the data, above 0.
        label: the condition of the field; None for no condition.
        side: the grid has side x side arrows.
        seed: the seed of the noise.

    Raises:
        InputError: if the data are not two-dimensional, or a level is out of the schedule's range.
        LabelError: if the run does not know the label.
    """
    denoiser, data = run.denoiser, run.source
    if denoiser.shape != (2,):
        raise InputError(f"a score field is drawn for points in the plane, not for samples of {list(denoiser.shape)}")
    cond = denoiser.read(label, 1)
    own = data.x if label is None else data.only(label).x
    exact = exact_beside(run, data)
    z = denoiser.codec.into(own[torch.randperm(len(own), generator=stream(seed, "field"))[:4000]])
    eps = torch.randn(z.shape, generator=stream(seed, "field", 1))
    found = []
    for level in levels:
        v = level * (denoiser.sigma_data or 1.0)
        schedule = denoiser.schedule
        if not max(schedule.least_level, 1e-9) <= v < schedule.noise_level(1.0):
            raise InputError(f"the schedule has no noise level of {level:g} standard deviations")
        t = float(schedule.time_of_level(v))
        noisy = z + v * eps
        low, high = (noisy.double().quantile(q, dim=0) for q in (0.005, 0.995))
        reach = torch.linspace(-0.5, 0.5, side, dtype=torch.float64) * 1.15 * max(float((high - low).max()), v)
        grid = (torch.cartesian_prod(reach, reach) + (low + high) / 2).to(noisy)
        on_grid, near = (_both(denoiser, exact, x, t, cond) for x in (grid, noisy))
        error = float((near[0] - near[1]).square().mean() / near[1].square().mean())
        found.append(ScoreField(level, grid, *on_grid, noisy[:1500], error))
    return found


@torch.no_grad()
def _both(denoiser: DenoiserLike, exact: DenoiserLike, x: Tensor, t: float, cond: Cond | None) -> tuple[Tensor, Tensor]:
    """Return v times both scores at x `[n, 2]`, positions x_t/alpha."""
    alpha, sigma = (float(scale) for scale in denoiser.schedule.scales(t))
    learned, true = ((each((alpha * x).to(each.device), t, cond).cpu() - x) for each in (denoiser, exact))
    return learned / (sigma / alpha), true / (sigma / alpha)
