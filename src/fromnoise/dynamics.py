"""Score SDEs and the probability-flow ODE of any schedule. Source: Song et al. 2021 (score SDE).

    forward SDE      dx = f x dt + g dw,   f = d log alpha/dt,   g^2 = d sigma^2/dt - 2 f sigma^2        (eq. 5)
    reverse SDE      dx = [f x - g^2 score] dt + g dw,   from t = 1 to t = 0                              (eq. 6)
    probability flow dx = [f x - g^2 score/2] dt,        the same marginals without noise                 (eq. 13)

with score = (alpha x0_hat - x)/sigma^2. f and g follow from alpha and sigma alone, by automatic differentiation.

The flow is solved on one path for all schedules. With tan(theta) = sigma/alpha, y = cos(theta) x0 + sin(theta) eps is
x_t scaled to the unit circle, and with tau = log tan(theta/2) in (-inf, 0]

    dy/dtau = cos(theta) y - D,     sin(theta) = 1/cosh(tau),  cos(theta) = -tanh(tau),  D = x0_hat:

which is smooth, and finite at both ends, pure noise (tau = 0) included. Its divergence, d cos(theta) - tr(dD/dy) in d
dimensions, gives the change of the log density along the flow (eq. 39).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from scipy.integrate import DOP853
from torch import Tensor

from fromnoise.arrays import Batch, Time, expand_to, finest
from fromnoise.conditioners import Words
from fromnoise.denoiser_like import DenoiserLike, check_mean, start_std
from fromnoise.deprecated import renamed
from fromnoise.errors import InputError, NotConverged, whole_number
from fromnoise.rng import stream
from fromnoise.schedule import Schedule

__getattr__ = renamed(__name__, {"Flow": "ProbabilityFlow"})

Trace = Literal["exact", "hutchinson"]


class Coefficients(NamedTuple):
    """Drift f and squared diffusion g^2 of the forward SDE, shaped like the time."""

    drift: Tensor
    diffusion_squared: Tensor


def coefficients(schedule: Schedule, t: float | Tensor) -> Coefficients:
    """Return f = d log alpha/dt and g^2 = d sigma^2/dt - 2 f sigma^2 at times in (0, 1), as float64."""
    with torch.enable_grad():
        at = torch.as_tensor(t, dtype=torch.float64).detach().requires_grad_()
        alpha, sigma = (torch.as_tensor(scale) for scale in schedule.scales(at))
        if alpha.requires_grad:
            drift = torch.autograd.grad(alpha.log().sum(), at, retain_graph=True)[0]
        else:
            drift = torch.zeros_like(at)
        growth = torch.autograd.grad(sigma.square().sum(), at)[0]
    return Coefficients(drift, growth - 2 * drift * sigma.detach().square())


def score(denoiser: DenoiserLike, x_t: Batch, t: Time, cond: Words = None) -> Batch:
    """Return grad log p_t(x_t) as the denoiser implies it, (alpha x0_hat - x_t)/sigma^2, `[B, *S]` (Tweedie)."""
    check_mean(denoiser, "a score")
    alpha, sigma = (expand_to(scale, x_t) for scale in denoiser.schedule.scales(t))
    return (alpha * denoiser(x_t, t, cond) - x_t) / sigma**2


@dataclass(frozen=True)
class ForwardSDE:
    """dx = f x dt + g dw, from data at t = 0 to noise at t = 1."""

    schedule: Schedule

    def drift(self, x_t: Batch, t: Time) -> Batch:
        """Return f(t) x_t, `[B, *S]`."""
        return expand_to(coefficients(self.schedule, t).drift, x_t) * x_t

    def diffusion(self, t: Time) -> Tensor:
        """Return g(t), shaped like t."""
        return coefficients(self.schedule, t).diffusion_squared.clamp(min=0).sqrt()


@dataclass(frozen=True)
class ReverseSDE:
    """dx = [f x - (1 + eta^2)/2 g^2 score] dt + eta g dw, from noise at t = 1 to data at t = 0.

    The marginals are the path's for every eta: 1 is the reverse SDE, 0 the probability-flow ODE.
    """

    denoiser: DenoiserLike
    eta: float = 1.0

    def drift(self, x_t: Batch, t: Time, cond: Words = None) -> Batch:
        """Return the factor of dt, `[B, *S]`."""
        f, g2 = (expand_to(c, x_t) for c in coefficients(self.denoiser.schedule, t))
        return f * x_t - (1 + self.eta**2) / 2 * g2 * score(self.denoiser, x_t, t, cond)

    def diffusion(self, t: Time) -> Tensor:
        """Return eta g(t), shaped like t."""
        return self.eta * ForwardSDE(self.denoiser.schedule).diffusion(t)


class Density(NamedTuple):
    """A point's density under the flow.

    Attributes:
        log_prob: log p(x0) in nats, `[B]`, in the denoiser's units.
        noise: the noise to which the flow maps x0, standard normal if the model is exact, `[B, *S]`.
        evaluations: the number of evaluations of the denoiser.
    """

    log_prob: Tensor
    noise: Tensor
    evaluations: int


@dataclass(frozen=True)
class ProbabilityFlow:
    """The probability-flow ODE of a denoiser: a one-to-one map between data and noise.

    Everything here is in the denoiser's own units and in the finest precision of its device.

    Args:
        denoiser: returns x0_hat; `density` needs it to be differentiable.
        tolerance: the solver's absolute and relative tolerance in each step (Dormand & Prince, order 8).
        lowest: the noise level at which the flow ends at data, in standard deviations of the data.
        most: the number of evaluations after which `NotConverged` is raised.
    """

    denoiser: DenoiserLike
    tolerance: float = 1e-8
    lowest: float = 1e-5
    most: int = 20_000

    def __post_init__(self) -> None:
        check_mean(self.denoiser, "the probability-flow ODE")

    def encode(self, x0: Batch, cond: Words = None) -> Tensor:
        """Return the noise that the flow turns into x0, `[B, *S]`."""
        start, end = self._ends()
        y = self._solve(math.tanh(-start) * _fine(x0), (start, end), lambda y, tau: self._velocity(y, tau, cond))[0]
        return y * (math.cosh(end) / self._width())

    def decode(self, noise: Batch, cond: Words = None) -> Tensor:
        """Return what the flow turns standard normal noise into, `[B, *S]`."""
        start, end = self._ends()
        y = _fine(noise) * (self._width() / math.cosh(end))
        y = self._solve(y, (end, start), lambda y, tau: self._velocity(y, tau, cond))[0]
        return y / math.tanh(-start)

    def density(
        self,
        x0: Batch,
        cond: Words = None,
        *,
        trace: Trace = "exact",
        prior: Callable[[Tensor], Tensor] | None = None,
        seed: int = 0,
    ) -> Density:
        """Return log p(x0) under the model, by the change of variables along the flow (eq. 39).

        Args:
            x0: `[B, *S]`.
            cond: the model's condition.
            trace: "exact" takes a backward pass for each coordinate; "hutchinson" takes one, with a random probe, and
                is unbiased.
            prior: the log density of x_t at t = 1, `[B, *S]` -> `[B]`; that of a sampler's start,
                N(0, alpha(1)^2 sigma_data^2 + sigma(1)^2), when not given. Where some signal is left at t = 1 the true
                density differs from it a little.
            seed: the seed of the probe.

        Raises:
            NotConverged: if the tolerance cannot be kept.
        """
        start, end = self._ends()
        d = x0[0].numel()
        probe = None
        if trace == "hutchinson":  # Rademacher, one for the whole way
            probe = _fine(torch.randint(0, 2, x0.shape, generator=stream(seed, "probe")).to(x0.device)) * 2 - 1
        elif trace != "exact":
            raise InputError(f'trace must be "exact" or "hutchinson", not {trace!r}')

        def rates(state: Tensor, tau: float) -> Tensor:
            with torch.enable_grad():
                y = state[:, :-1].reshape(x0.shape).detach().requires_grad_()
                velocity = self._velocity(y, tau, cond)
                divergence = _divergence(velocity, y, probe)
            return torch.cat([velocity.detach().flatten(1), divergence[:, None]], dim=1)

        y = (math.tanh(-start) * _fine(x0)).flatten(1)
        state, evaluations = self._solve(torch.cat([y, y.new_zeros(len(y), 1)], 1), (start, end), rates)
        scale = math.cosh(end) / self._width()
        noise = state[:, :-1] * scale
        if prior is None:
            at_end = -0.5 * noise.square().sum(1) - d * (0.5 * math.log(2 * math.pi) - math.log(scale))
        else:  # x_1 = std noise, y = noise/scale
            std = start_std(self.denoiser)
            at_end = prior(std * noise.reshape(x0.shape)) + d * math.log(std * scale)
        # y = cos(theta) x0 at the clean end, so log p(x0) = log p(y) + d log cos(theta)
        log_prob = at_end + state[:, -1] + d * math.log(math.tanh(-start))
        return Density(log_prob, noise.reshape(x0.shape), evaluations)

    def _width(self) -> float:
        """Return a start's standard deviation in units of sigma(1)."""
        return start_std(self.denoiser) / float(self.denoiser.schedule.sigma(1.0))

    def _ends(self) -> tuple[float, float]:
        """Return tau at the clean and at the noisy end."""
        highest = float(self.denoiser.schedule.noise_level(1.0))
        level = self.lowest * (self.denoiser.sigma_data or 1.0)
        return _tau(level), _tau(highest)

    def _velocity(self, y: Tensor, tau: float, cond: Words) -> Tensor:
        """Return dy/dtau = cos(theta) y - D."""
        schedule = self.denoiser.schedule
        cos, sin = -math.tanh(tau), 1 / math.cosh(tau)
        if cos < 1e-12:
            t, scale = 1.0, float(schedule.sigma(1.0))
        else:
            t = float(schedule.time_of_level(sin / cos))
            alpha, sigma = schedule.scales(t)
            scale = float(alpha / cos if cos > sin else sigma / sin)
        return cos * y - self.denoiser(scale * y, t, cond).to(y)

    def _solve(
        self, y: Tensor, between: tuple[float, float], rates: Callable[[Tensor, float], Tensor]
    ) -> tuple[Tensor, int]:
        """Integrate from one tau to the other; return y there and the evaluations it took."""
        shape, device, dtype = y.shape, y.device, y.dtype

        def fun(tau: float, flat: np.ndarray) -> np.ndarray:
            state = torch.from_numpy(flat).to(device, dtype).reshape(shape)
            return rates(state, float(tau)).detach().cpu().double().numpy().ravel()

        solver = DOP853(
            fun, between[0], y.cpu().double().numpy().ravel(), between[1], rtol=self.tolerance, atol=self.tolerance
        )
        while solver.status == "running":
            trouble = solver.step()
            if solver.status == "failed" or (solver.nfev > self.most and solver.status == "running"):
                done = abs(solver.t - between[0]) / abs(between[1] - between[0])
                why = f": {trouble}" if trouble else ""
                raise NotConverged(
                    f"the ODE did not keep a tolerance of {self.tolerance:g} within {solver.nfev:,} evaluations "
                    f"({done:.0%} of the way, steps of {solver.step_size or 0:.1e}){why}: allow a larger tolerance"
                )
        return torch.from_numpy(solver.y).to(device, dtype).reshape(shape), solver.nfev


def _fine(x: Tensor) -> Tensor:
    return x.to(finest(x.device))


def _tau(level: float) -> float:
    """Return tau = log tan(theta/2) for tan(theta) = sigma/alpha."""
    theta = math.atan(level) if math.isfinite(level) else math.pi / 2
    return math.log(math.tan(theta / 2))


def _divergence(velocity: Tensor, y: Tensor, probe: Tensor | None) -> Tensor:
    """Return tr(d velocity/d y) for each row, `[B]`, rows being independent."""
    if probe is not None:
        (back,) = torch.autograd.grad(velocity, y, probe)
        return (back * probe).flatten(1).sum(1)
    total, flat = torch.zeros(len(y), dtype=y.dtype, device=y.device), velocity.flatten(1)
    for j in range(flat.shape[1]):
        (back,) = torch.autograd.grad(flat[:, j].sum(), y, retain_graph=True)
        total = total + back.flatten(1)[:, j]
    return total


def interpolate(
    denoiser: DenoiserLike,
    first: Tensor,
    second: Tensor,
    count: int = 9,
    cond: Words = None,
    *,
    tolerance: float = 1e-4,
) -> Tensor:
    """Return samples on the way from one to another through the noise that the flow maps them to, `[count, *X]`.

    The noises are joined by a part of a great circle, on which every point is about as long as noise is:
    sin((1 - u) w)/sin(w) a + sin(u w)/sin(w) b, with w the angle between a and b; opposite noises, as two of one
    dimension may be, by a straight line.

    Args:
        denoiser: the model whose flow is used.
        first: a sample `[*X]`, in the data's units.
        second: another.
        count: how many, both ends among them.
        cond: the model's condition, one for all.
        tolerance: of the ODE's solver.

    Raises:
        NotConverged: if the tolerance cannot be kept.

    Source: Song et al. 2021 (DDIM), section 5.3 and appendix D.5.
    """
    count = whole_number("count", count, least=2)
    codec, flow = denoiser.codec, ProbabilityFlow(denoiser, tolerance)
    both = torch.stack([torch.as_tensor(first), torch.as_tensor(second)])
    if codec.shape_of(tuple(both.shape[1:])) != denoiser.shape:
        raise InputError(f"these samples have shape {list(both.shape[1:])}, and are none of this denoiser's")
    z = codec.into(codec.store(both)).to(denoiser.device)
    a, b = flow.encode(z, cond)
    cosine = float((a * b).sum() / (a.norm() * b.norm()))
    angle = max(math.acos(min(max(cosine, -1.0), 1.0)), 1e-9)
    u = torch.linspace(0, 1, count, dtype=a.dtype, device=a.device).reshape(-1, *([1] * a.dim()))
    if math.sin(angle) < 1e-6:  # alike, or opposite, with no one great circle through both
        between = (1 - u) * a + u * b
    else:
        between = (torch.sin((1 - u) * angle) * a + torch.sin(u * angle) * b) / math.sin(angle)
    return codec.out(flow.decode(between, cond))
