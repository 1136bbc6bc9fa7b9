"""The laws.

| law | what is required | the exact answer |
| --- | --- | --- |
| budget | N steps take as many evaluations as the sampler states, for N up to 1000 | counting |
| point mass | samples of data of a single point are that point | the point |
| order | the error falls by 2^p when the steps are halved | a one-dimensional mixture's flow, by its quantiles |
| error | from 10 steps on, more steps never increase the error | the same |
| Gaussian | for Gaussian data the output's mean and covariance are near the data's | by linearity, no Monte Carlo |
| bias | samples are no farther from the truth than fresh draws of the data from each other | quantiles; the floor |
| Euler | never less exact than Euler's method (DDIM) at the same budget, on tables of 1 to 4,000 steps | quantiles |
| ends | samples are finite on every path, also where alpha(1) = 0 | |
| kept | what the denoiser holds fixed comes out as it is, to the last bit | the fixed value |
| rows | row i does not depend on the other rows | |

The flow of a one-dimensional distribution preserves the cumulative probability: it maps x at noise level v to the y at
level w with F_w(y) = F_v(x). So its exact map between any two levels is known.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch
from scipy.special import ndtr, ndtri
from torch import Tensor

from fromnoise.arrays import Time
from fromnoise.certify.contender import Contender, draws, own
from fromnoise.conditioners import Words
from fromnoise.denoiser_like import DenoiserLike, Wrapper
from fromnoise.errors import InputError
from fromnoise.exact import FiniteSet, GaussianMixture
from fromnoise.guidance import Inpainted
from fromnoise.samplers import DDIM, walk
from fromnoise.schedule import EDM, VP, CosineBeta, LinearBeta, RectifiedFlow, Schedule, SigmoidBeta, Trig

BUDGETS = (*range(1, 13), 17, 50, 61, 100, 333, 600, 1000)
PATHS = (LinearBeta(), CosineBeta(), VP(), EDM(), RectifiedFlow(), Trig())
STEPS = (10, 20, 40, 80)
TABLES = tuple(kind(T=T) for kind in (LinearBeta, CosineBeta, SigmoidBeta) for T in (1, 2, 10, 50, 1000, 4000))
_EULER_BUDGETS = (1, 2, 3, 4, 5, 6, 7, 8, 10, 15, 20, 50)
_FAR_WORSE = 20.0
"""Rules of high order are less exact than Euler's in a few long steps; one that is this much less exact explodes."""

_MEANS, _WEIGHTS, _STD = np.array([-1.0, 0.6]), np.array([0.4, 0.6]), 0.5
LAW = GaussianMixture(torch.tensor(_MEANS)[:, None], _STD, weights=torch.tensor(_WEIGHTS))
"""A smooth distribution of one coordinate, whose flow is known."""


@dataclass(frozen=True)
class Check:
    """The result of checking one law.

    Attributes:
        name: the law's name.
        passed: whether it holds.
        found: what was measured.
        asked: what was required.
    """

    name: str
    passed: bool
    found: str
    asked: str


class _Counted(Wrapper):
    """A denoiser that counts its evaluations."""

    calls = 0

    def __call__(self, x_t: Tensor, t: Time, cond: Words = None) -> Tensor:
        self.calls += 1
        return self.base(x_t, t, cond)

    def on(self, schedule: Schedule) -> DenoiserLike:
        return _Counted(self.base.on(schedule))


def certify(contender: Contender, *, progress: Callable[[int, int], None] | None = None) -> list[Check]:
    """Check every law that applies to a sampler. A law in whose check the sampler raises an error does not hold.

    Raises:
        InputError: if the sampler returns anything but samples: another shape, or values that are not finite on easy
            data.
    """
    noise = torch.randn(4, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    if not torch.isfinite(contender.run(LAW.denoiser(VP()), noise, 12, draws(0, noise))).all():
        raise InputError(f"{contender.name} returned NaN or infinity for a one-dimensional mixture, in 12 steps")
    laws: dict[str, Callable[[Contender], Check | None]] = {
        "budget": _budget,
        "point mass": _point_mass,
        "order": _order,
        "error": _error,
        "Euler": _euler,
        "Gaussian": _gaussian,
        "bias": _bias,
        "ends": _ends,
        "kept": _kept,
        "rows": _rows,
    }
    out: list[Check] = []
    for k, (name, law) in enumerate(laws.items(), 1):
        try:
            found = law(contender)
        except Exception as error:  # whatever the user's code raises
            found = Check(name, False, f"{type(error).__name__}: {error}".splitlines()[0], "no error")
        out += [found] if found is not None else []
        if progress is not None:
            progress(k, len(laws))
    return out


def errors(contender: Contender, steps: Sequence[int] = STEPS, schedule: Schedule | None = None) -> list[float]:
    """Return the root mean square error of the end points on the one-dimensional mixture, for each number of steps."""
    schedule = schedule or VP()
    noise, exact = _exact(schedule)
    denoiser = LAW.denoiser(schedule)
    found = (contender.run(denoiser, noise, n, draws(0, noise)) for n in steps)
    return [float((x0 - exact).square().mean().sqrt()) for x0 in found]


@lru_cache(maxsize=64)
def _exact(schedule: Schedule) -> tuple[Tensor, Tensor]:
    """Return noise at 64 even quantiles, `[64, 1]`, and where the exact flow takes sigma(1) times it."""
    noise = torch.special.ndtri((torch.arange(64, dtype=torch.float64) + 0.5) / 64)[:, None]
    alpha, sigma = (float(scale) for scale in schedule.scales(1.0))
    return noise, torch.from_numpy(_map(sigma * noise[:, 0].numpy() / alpha, sigma / alpha, 0.0))[:, None]


def _cumulative(x: np.ndarray, level: float) -> np.ndarray:
    return (_WEIGHTS * ndtr((x[:, None] - _MEANS) / math.hypot(_STD, level))).sum(1)


def _map(x: np.ndarray, start: float, end: float) -> np.ndarray:
    """Return the exact flow's map of x, at noise level `start` (x = x0 + start eps), to noise level `end`."""
    wanted = _cumulative(x, start)
    low = np.full_like(x, _MEANS.min() - 40 * math.hypot(_STD, end))
    high = -low + _MEANS.max() + _MEANS.min()
    for _ in range(200):
        middle = (low + high) / 2
        below = _cumulative(middle, end) < wanted
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return (low + high) / 2


def _budget(contender: Contender) -> Check:
    noise, wrong = torch.randn(2, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0)), []
    for steps in BUDGETS:
        counted = _Counted(LAW.denoiser(LinearBeta()))
        contender.run(counted, noise, steps, draws(0, noise))
        if counted.calls != contender.evaluations(steps):
            wrong.append(f"{counted.calls} in {steps} steps")
    stated = f"{contender.evaluations(10)} in 10 steps"
    return Check("budget", not wrong, ", ".join(wrong[:3]) or stated, f"{stated}, N to {max(BUDGETS)}")


def _point_mass(contender: Contender) -> Check:
    point, worst = torch.tensor([[0.3, -1.2]], dtype=torch.float64), 0.0
    noise = torch.randn(4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for path in PATHS:
        for steps in (1, 2, 7):
            x = contender.run(FiniteSet(point).denoiser(path), noise, steps, draws(0, noise))
            worst = max(worst, _worst(x - point))
    return Check("point mass", worst < 1e-9, f"off by {worst:.0e}", "below 1e-9")


def _order(contender: Contender) -> Check | None:
    if contender.order is None or contender.rule is None:
        return None
    start, end, schedule = 10.0, 0.1, VP()
    x = start * ndtri((np.arange(64) + 0.5) / 64)
    exact = torch.from_numpy(_map(x, start, end))[:, None]
    rms = []
    for steps in (512, 1024) if contender.order < 4 else (256, 512):  # in 1,024 steps rounding hides a fourth order
        levels = [start * (end / start) ** (i / steps) for i in range(steps + 1)]
        times = [float(schedule.time_of_level(level)) for level in levels]
        y = float(schedule.alpha(times[0])) * torch.from_numpy(x)[:, None]
        for step in walk(LAW.denoiser(schedule), contender.rule, times, y):
            y = step.x_s
        rms.append(float((y / float(schedule.alpha(times[-1])) - exact).square().mean().sqrt()))
    order, tolerance = math.log2(rms[0] / rms[1]), 0.15 if contender.order < 4 else 0.35
    asked = f"{contender.order} +- {tolerance:g}"
    return Check("order", abs(order - contender.order) <= tolerance, f"{order:.2f}", asked)


def _error(contender: Contender) -> Check | None:
    if stochastic(contender):
        return None
    rms = errors(contender)
    never_more = all(b < 1.02 * a + 1e-9 for a, b in pairwise(rms))
    found = ", ".join(f"{e:.1e}" for e in rms)
    return Check("error", never_more, found, f"never more from {STEPS[0]} to {STEPS[-1]} steps")


def _euler(contender: Contender) -> Check | None:
    if stochastic(contender):
        return None
    claims = contender.rule is not None and contender.rule.beats_euler
    most, worst, where = (1.02 if claims else _FAR_WORSE), 0.0, ""
    for table in TABLES:
        for budget, reference in _of_ddim(table).items():
            steps = next((n for n in range(1, budget + 1) if contender.evaluations(n) >= budget), budget)
            if contender.evaluations(steps) != budget:
                continue  # the rule cannot spend just so many
            ratio = errors(contender, [steps], table)[0] / max(reference, 1e-4)
            if not ratio <= worst:
                worst, where = ratio, f" with {budget} on {type(table).__name__} of {table.table_length}"
    asked = f"at most {most:g}" if claims else f"at most {most:g}: no claim to beat it"
    return Check("Euler", worst <= most, f"{worst:.3g} times DDIM's error{where}", asked)


@lru_cache(maxsize=64)
def _of_ddim(table: Schedule) -> dict[int, float]:
    """Return the error of Euler's method on a table at each budget that it has steps for."""
    budgets = [n for n in _EULER_BUDGETS if n <= (table.table_length or n)]
    return dict(zip(budgets, errors(own(DDIM()), budgets, table), strict=True))


def _gaussian(contender: Contender) -> Check:
    wrong = [_moment_error(contender, steps) for steps in (10, 40, 160)]
    shrinking = all(b < 1.02 * a + 2e-4 for a, b in pairwise(wrong))
    good = shrinking and wrong[-1] < 0.5 * wrong[-2] + 2e-4
    found = ", ".join(f"{100 * e:.1g}%" for e in wrong)
    return Check("Gaussian", good, f"off by {found}", "falling, and halved from 40 to 160 steps, or 0.02%")


def _moment_error(contender: Contender, steps: int) -> float:
    """Return the error of the output's mean and covariance for Gaussian data, in whitened coordinates.

    For Gaussian data the output is affine in the draws of noise, so its moments follow from the output for each draw
    alone. The path has alpha(1) = 0, so that the start is exact.
    """
    mean = torch.tensor([0.4, -0.7], dtype=torch.float64)
    root = torch.tensor([[0.8, 0.0], [0.3, 0.4]], dtype=torch.float64)  # the covariance is root root^T
    denoiser = GaussianMixture(mean[None], covariances=(root @ root.T)[None]).denoiser(Trig())
    count = 0

    def no_noise() -> Tensor:
        nonlocal count
        count += 1
        return torch.zeros(1, 2, dtype=torch.float64)

    out_mean = contender.run(denoiser, torch.zeros(1, 2, dtype=torch.float64), steps, no_noise)
    calls = iter(range(count + 1))

    def one() -> Tensor:  # the k-th draw is a unit vector in the rows 2 k and 2 k + 1, and 0 in all others
        k, rows = next(calls), torch.zeros(2 * (count + 1), 2, dtype=torch.float64)
        rows[2 * k, 0] = rows[2 * k + 1, 1] = 1
        return rows

    answers = contender.run(denoiser, one(), steps, one) - out_mean
    if not torch.isfinite(answers).all():
        return math.inf
    whiten = torch.linalg.inv(root)
    covariance = whiten @ (answers.T @ answers) @ whiten.T
    excess = float(torch.linalg.matrix_norm(covariance - torch.eye(2, dtype=torch.float64), 2))
    return max(excess, float((whiten @ (out_mean[0] - mean)).norm()))


def _bias(contender: Contender) -> Check:
    many, few = 8192, 2048
    noise = torch.randn(many, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x = contender.run(LAW.denoiser(Trig()), noise, 200, draws(1, noise))
    far = 1e4  # at this noise level the distribution is normal
    truth = torch.from_numpy(_map(far * ndtri((np.arange(many) + 0.5) / many), far, 0.0))[:, None]
    floor = _distance(torch.stack([LAW.sample(few, seed=k) for k in range(12)]).unflatten(0, (2, 6)))
    ratio = _distance(torch.stack([x, truth])[:, None]) / floor
    return Check(
        "bias", ratio < 1, f"{ratio:.2f} floors", f"{many:,} samples nearer the truth than {few:,} fresh pairs"
    )


def _distance(pair: Tensor) -> float:
    """Return the root mean square of the k one-dimensional 2-Wasserstein distances of a pair `[2, k, n, 1]`."""
    a, b = pair.sort(2).values
    return float((a - b).square().mean().sqrt())


def _ends(contender: Contender) -> Check:
    noise, bad = torch.randn(8, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)), []
    data = FiniteSet(torch.randn(40, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))
    for path in (*PATHS, CosineBeta(beta_max=1.0)):
        for steps in (1, 2, 3, 20):
            x = contender.run(data.denoiser(path), noise, steps, draws(0, noise))
            if not torch.isfinite(x).all():
                bad.append(f"{type(path).__name__} {steps}")
    return Check("ends", not bad, ", ".join(bad[:3]) or "finite", "finite on every path, 1 to 20 steps")


def _kept(contender: Contender) -> Check:
    noise, worst = torch.randn(16, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)), 0.0
    data = FiniteSet(torch.randn(40, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))
    for path in (*PATHS, LinearBeta(T=10), CosineBeta(beta_max=1.0)):
        held = Inpainted(data.denoiser(path), [1 / 3, math.nan], [True, False])
        for steps in (1, 2, 3, 10):
            x = contender.run(held, noise, steps, draws(0, noise))
            worst = max(worst, _worst(x[:, 0] - held.known[0, 0].double()))
    return Check("kept", worst == 0, f"off by {worst:.0e}", "kept to the last bit")


def _rows(contender: Contender) -> Check:
    noise = torch.randn(64, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    denoiser = LAW.denoiser(VP())
    many = contender.run(denoiser, noise, 12, draws(3, noise))
    few = contender.run(denoiser, noise[:5], 12, draws(3, noise[:5]))
    worst = _worst(many[:5] - few)
    return Check("rows", worst < 1e-9, f"off by {worst:.0e}", "below 1e-9")


def stochastic(contender: Contender) -> bool:
    """Return whether a sampler draws noise."""
    noise, drawn = torch.zeros(1, 1, dtype=torch.float64), []

    def draw() -> Tensor:
        drawn.append(1)
        return noise

    contender.run(LAW.denoiser(VP()), noise, 4, draw)
    return bool(drawn)


def _worst(error: Tensor) -> float:
    worst = float(error.abs().max())
    return worst if math.isfinite(worst) else math.inf
