"""Likelihood: the ELBO term by term, and the exact log-likelihood of the probability-flow ODE.

The sampler's chain from t_T = 1 down a grid to t_0 = 0 is a model with latent variables, so -log p(x0) is at most
(Ho et al. 2020, eq. 5; Kingma et al. 2021, eq. 11-13)

    prior            KL(q(x_1 | x0) || N(0, h^2)),   h^2 = alpha(1)^2 sigma_data^2 + sigma(1)^2
    step i, s < t    E KL(q(x_s | x_t, x0) || p(x_s | x_t))       = (snr(s) - snr(t))/2 E|x0 - x0_hat|^2
    reconstruction   E -log p(x0 | x at the first grid time t_1),   p = N(x0_hat, sigma(t_1)^2)

The step's term is for the "small" variance, the posterior's. For the "large" variance, that of q(x_t | x_s), and for a
"learned" one between the two it is `process.step_divergence`, summed over coordinates.

All terms are in nats per sample; divided by d log 2 they are in bits per dimension. Densities refer to the data's own
units: scaling by std adds log std for each coordinate. The bound holds for every grid. The default grid is a table's
own; for a continuous schedule it has noise levels in geometric progression.

Pictures of whole numbers have no density but probabilities, and so has their bound. In its last step a pixel gets the
part of N(x0_hat, sigma(t_1)^2) that is rounded to it (Ho et al. 2020, eq. 13; Nichol & Dhariwal 2021, section 2.2):

    reconstruction   E -log [Phi((b - x0_hat)/sigma) - Phi((a - x0_hat)/sigma)],   a, b the ends of the pixel's cell
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from fromnoise import process
from fromnoise.arrays import finest
from fromnoise.cond import Cond
from fromnoise.conditioners import Words
from fromnoise.data.codec import Affine, Codec
from fromnoise.data.dataset import Dataset
from fromnoise.data.numbers import as_samples
from fromnoise.data.opening import open as open_data
from fromnoise.data.source import Source, cond_for
from fromnoise.denoiser_like import DenoiserLike, check_mean, predicted
from fromnoise.dynamics import ProbabilityFlow, Trace
from fromnoise.errors import InputError, whole_number
from fromnoise.rng import stream
from fromnoise.schedule import Schedule, TableSchedule

Variance = Literal["small", "large", "learned"]


@dataclass(frozen=True)
class ELBO:
    """A bound on the mean negative log-likelihood, in nats for a sample, split into its terms.

    Attributes:
        prior: the KL divergence of q(x_1 | x0) from the prior.
        steps: the term of each step, the noisiest first.
        reconstruction: the term of the last step.
        units: the term of the data's own units, the sum of log std over coordinates; None for the probability of
            pictures of whole numbers, which has no unit.
        error: the standard error of `nats`.
        times: the grid, from 1 to 0.
        simple: each step's fraction of the simple loss, the sum of E|eps - eps_hat|^2, the noisiest first.
        dimension: the number of coordinates of a sample.
        of: what it is the likelihood of, where that is not the data: latents.
    """

    prior: float
    steps: tuple[float, ...]
    reconstruction: float
    units: float | None
    error: float
    times: tuple[float, ...]
    simple: tuple[float, ...]
    dimension: int
    of: str = ""

    @property
    def nats(self) -> float:
        """Return the bound, -ELBO, in nats for a sample."""
        return self.prior + sum(self.steps) + self.reconstruction + (self.units or 0.0)

    @property
    def bits_per_dim(self) -> float:
        """Return the bound in bits for a coordinate."""
        return self.nats / (self.dimension * math.log(2))

    @property
    def rate(self) -> float:
        """Return the prior and all steps but the last, in bits for a coordinate."""
        return (self.prior + sum(self.steps)) / (self.dimension * math.log(2))

    def __str__(self) -> str:
        bits = 1 / (self.dimension * math.log(2))
        rows = (
            ("prior", self.prior),
            (f"{len(self.steps)} steps", sum(self.steps)),
            ("reconstruction", self.reconstruction),
            *((("the data's units", self.units),) if self.units is not None and not self.of else ()),
            ("-ELBO", self.nats),
        )
        head = f"{'':<18}{'nats':>10}{'bits/dim':>10}" + (f"  of {self.of}" if self.of else "")
        lines = [f"{name:<18}{value:10.4f}{value * bits:10.4f}" for name, value in rows]
        return "\n".join([head, *lines[:-1], f"{lines[-1]}  +- {self.error:.4f} nats"])

    __repr__ = __str__


def elbo(
    denoiser: DenoiserLike,
    data: Any,
    *,
    steps: int | None = None,
    grid: Sequence[float] | None = None,
    variance: Variance = "small",
    draws: int = 256,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> ELBO:
    """Return the ELBO of data under a denoiser's sampling chain: of a density, or of the probability of pictures.

    Where the codec is not affine, as that of latents, it is a density of what the denoiser sees, and says so.

    Args:
        denoiser: the model whose sampling chain is used.
        data: in their own units; their conditions go in as far as the denoiser knows them.
        steps: the number of steps of the chain; when not given, a table's T, or 1,000 for a continuous schedule.
        grid: the chain's times, from 1 to 0, instead of `steps`.
        variance: the variance of the chain's steps, as for `DDPM`.
        draws: the number of draws of a sample and its noise in each step; the error falls as 1/sqrt(draws steps).
        seed: the seed of the draws.
        progress: called with the steps done and the steps in all.

    Raises:
        InputError: if the data's shape is not the denoiser's, or a setting cannot be used.
    """
    data = open_data(data)
    if denoiser.codec.shape_of(data.shape) != denoiser.shape:
        raise InputError(f"the data's samples have shape {list(data.shape)}, the denoiser's {list(denoiser.shape)}")
    if variance not in get_args(Variance):
        raise InputError(f'variance must be "small", "large" or "learned", not {variance!r}')
    draws = whole_number("draws", draws, least=2)
    check_mean(denoiser, "an ELBO")
    schedule, d = denoiser.schedule, math.prod(denoiser.shape)
    codec, units = _known(denoiser)
    times = tuple(grid or _chain(schedule, steps, denoiser.sigma_data or 1.0, codec.spacing))
    x, conds = _read(denoiser, data)
    terms, variances, simple = [], [], []
    for i, (t, s) in enumerate(pairwise(times)):
        generator = stream(seed, "elbo", i, x.device)
        rows = torch.randint(len(x), (draws,), generator=generator, device=x.device)
        x0, cond = x[rows], None if conds is None else conds.rows(rows)
        x0_hat, fraction, eps = _predicted(denoiser, x0, t, cond, variance, generator=generator)
        square = (x0 - x0_hat).flatten(1).square()
        costs = _last(schedule, t, x0, x0_hat, codec) if s == 0 else _cost(schedule, t, s, square, fraction)
        mean, error = _controlled(costs, eps.square().sum(1) - d)
        terms.append(mean)
        variances.append(error**2)
        level = float(schedule.noise_level(t))
        simple.append(float(square.sum(1).mean()) / level**2 if math.isfinite(level) else float(d))
        if progress is not None:
            progress(i + 1, len(times) - 1)
    prior = _prior(denoiser, float(x.square().flatten(1).sum(1).mean()), d)
    total = sum(simple)
    return ELBO(
        prior, tuple(terms[:-1]), terms[-1], units, math.sqrt(sum(variances)), times,
        tuple(part / total for part in simple), d, _of(codec),
    )  # fmt: skip


def _prior(denoiser: DenoiserLike, square: float, dimension: int) -> float:
    """Return the mean of KL(N(alpha x0, sigma^2) || N(0, h^2)) at t = 1 for samples of mean |x0|^2 `square`.

    With r = h^2/sigma^2 - 1 it is [(alpha^2 |x0|^2/sigma^2 + d)/(1 + r) - d + d log(1 + r)]/2.
    """
    snr = 1 / float(denoiser.schedule.noise_level(1.0)) ** 2
    r = snr * denoiser.sigma_data**2
    return 0.5 * ((snr * square - dimension * r) / (1 + r) + dimension * math.log1p(r))


_MEASURED = 2**25
"""How many numbers of the data are read at most."""


def _read(denoiser: DenoiserLike, data: Source) -> tuple[Tensor, Cond | None]:
    """Return what the denoiser sees of the data, or of a random part that fits in memory, with the conditions."""
    most = max(2, _MEASURED // math.prod(data.shape))
    if len(data) > most and not isinstance(data, Dataset):
        data = data.take(torch.randperm(len(data), generator=stream(0, "elbo's data"))[:most])
    x, cond = data.read(slice(None))
    codec = denoiser.codec
    z = _exactly(codec, x, stream(0, "elbo's codec"))
    cond = cond_for(cond, denoiser.conditioners)
    z = z.to(denoiser.device, finest(denoiser.device))
    return z, None if cond is None else cond.to(z.device)


def _chain(schedule: Schedule, steps: int | None, sigma_data: float, spacing: float | None) -> list[float]:
    """Return the times of the chain.

    Its last step begins where the noise is as wide as rounded values lie apart, about as in DDPM's own table: to a
    network that does not know of the rounding every step below costs more than it gives.
    """
    if isinstance(schedule, TableSchedule):
        return schedule.grid(schedule.T if steps is None else steps)
    steps = whole_number("steps", 1000 if steps is None else steps)
    high, low = min(float(schedule.noise_level(1.0)), 1e3 * sigma_data), 0.005 * sigma_data
    low = low if spacing is None else spacing
    levels = [high * (low / high) ** (i / max(steps - 1, 1)) for i in range(1, steps)]
    return [1.0, *(float(schedule.time_of_level(level)) for level in levels), 0.0]


@torch.no_grad()
def _predicted(
    denoiser: DenoiserLike, x0: Tensor, t: float, cond: Cond | None, variance: Variance, *, generator: torch.Generator
) -> tuple[Tensor, float | Tensor, Tensor]:
    """Return x0_hat `[B, *S]` at one draw of x_t each, the fraction that sets the variance, and the noise, `[B, D]`."""
    alpha, sigma = denoiser.schedule.scales(t)
    eps = torch.randn(x0.shape, generator=generator, dtype=x0.dtype, device=x0.device)
    x_t, fraction = alpha * x0 + sigma * eps, float(variance == "large")
    if variance == "learned":
        x0_hat, found = predicted(denoiser, x_t, t, cond)
        return x0_hat.to(x0), found.to(x0).flatten(1), eps.flatten(1)
    return denoiser(x_t, t, cond).to(x0), fraction, eps.flatten(1)


def _controlled(values: Tensor, control: Tensor) -> tuple[float, float]:
    """Return the mean of the values and its standard error, with a control variate of mean 0.

    At low noise |x0 - x0_hat|^2 is nearly proportional to |eps|^2, whose mean is known: as a control variate it
    removes most of the variance.
    """
    slope = ((values - values.mean()) * control).mean() / control.square().mean().clamp(min=1e-300)
    rest = values - slope * control
    return float(rest.mean()), float(rest.std() / math.sqrt(len(rest)))


def _cost(schedule: Schedule, t: float, s: float, square: Tensor, fraction: float | Tensor) -> Tensor:
    """Return the divergence of a step from t to s for each row, in nats, `[B]`."""
    snr_t, snr_s = (float(schedule.noise_level(at)) ** -2 for at in (t, s))
    log_ratio = 2 * math.log(float(schedule.sigma(t)) / float(schedule.sigma(s)))
    return process.step_divergence((snr_s - snr_t) * square, fraction * log_ratio).sum(1)


def _last(schedule: Schedule, t: float, x0: Tensor, x0_hat: Tensor, codec: Codec) -> Tensor:
    """Return -log p(x0) of each row, `[B]`, p = N(x0_hat, sigma(t)^2), or what of it is rounded to x0."""
    sigma, cells = float(schedule.sigma(t)), codec.cells(x0)
    if cells is None:
        square = (x0 - x0_hat).flatten(1).square()
        return (0.5 / sigma**2 * square + 0.5 * math.log(2 * math.pi) + math.log(sigma)).sum(1)
    a, b = ((end - x0_hat) / sigma for end in cells)
    a, b = torch.where(a > 0, -b, a), torch.where(a > 0, -a, b)  # Phi(b) - Phi(a) = Phi(-a) - Phi(-b)
    upper, lower = torch.special.log_ndtr(b), torch.special.log_ndtr(a)
    return -(upper + torch.log1p(-torch.exp(lower - upper))).flatten(1).sum(1)


def _known(denoiser: DenoiserLike) -> tuple[Codec, float | None]:
    """Return the denoiser's codec and the term of its units; None for rounded values, whose bound has no unit."""
    codec = denoiser.codec
    return (codec, None) if codec.spacing is not None else (codec, codec.log_volume or 0.0)


def _of(codec: Codec) -> str:
    """Return what a density is of, where it cannot be carried to samples."""
    return codec.density_of if codec.log_volume is None and codec.spacing is None else ""


def _exactly(codec: Codec, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Return z of samples, in double precision where the codec can; it may draw from the generator."""
    return codec.exactly_into(x.double()) if isinstance(codec, Affine) else codec.into(codec.store(x), generator)


def log_likelihood(
    denoiser: DenoiserLike,
    x: Any,
    cond: Words = None,
    *,
    trace: Trace = "exact",
    tolerance: float = 1e-6,
    seed: int = 0,
) -> Tensor:
    """Return log p(x) in nats, `[B]` float64, by the probability-flow ODE.

    Where the codec is not affine it is the density of what the denoiser sees: of latents, in the denoiser's units.

    Args:
        denoiser: the model whose flow is used.
        x: `[B, *S]`, in the data's units.
        cond: the model's condition.
        trace: "exact" takes a backward pass for each coordinate; "hutchinson" takes one in all and is unbiased.
        tolerance: the tolerance of the ODE's solver.
        seed: the seed of Hutchinson's probe, and of what the codec draws.

    Raises:
        NotConverged: if the tolerance cannot be kept.
    """
    x = as_samples(x)
    codec = denoiser.codec
    if codec.shape_of(tuple(x.shape[1:])) != denoiser.shape:
        raise InputError(f"x has samples of shape {list(x.shape[1:])}, the denoiser {list(denoiser.shape)}")
    if codec.spacing is not None:
        raise InputError("values that are rounded have no density: take their ELBO")
    z = _exactly(codec, x.to(denoiser.device), stream(seed, "log_likelihood's codec", device=denoiser.device))
    found = ProbabilityFlow(denoiser, tolerance).density(z, cond, trace=trace, seed=seed)
    return found.log_prob - (codec.log_volume or 0.0)
