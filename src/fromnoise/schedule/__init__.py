"""Noise schedules: signal and noise scale at every time, x_t = alpha(t) x0 + sigma(t) eps.

Time runs from t = 0 (clean: alpha 1, sigma 0) to t = 1 (noise). There are two families with the same methods:

- A **table** has T steps, exact at t = (k + 1)/T for its index k = 0..T-1, from betas and their products
  `alpha_bars`[k] = prod_{i <= k} (1 - beta_i) in float64; alpha = sqrt(alpha_bar), sigma = sqrt(1 - alpha_bar).
  Between two entries log SNR is interpolated linearly. Where an end is infinite (the clean end t = 0, or a last
  alpha_bar of zero) alpha_bar itself is interpolated.
- A **continuous** schedule has formulas.

`log_snr(t) = 2 log(alpha/sigma)` decreases from +inf at t = 0. Each formula below is written once and serves Python
floats (float64, no tensor overhead: a sampler's scalar times) and tensors (a training batch) alike.
"""

from fromnoise.schedule.base import FAR, Schedule, Spacing, alpha_sigma, schedules
from fromnoise.schedule.continuous import EDM, VP, RectifiedFlow, Trig
from fromnoise.schedule.table import CosineBeta, FromBetas, LinearBeta, SigmoidBeta, TableSchedule

__all__ = [
    "CosineBeta",
    "EDM",
    "FAR",
    "FromBetas",
    "LinearBeta",
    "RectifiedFlow",
    "Schedule",
    "SigmoidBeta",
    "Spacing",
    "TableSchedule",
    "Trig",
    "VP",
    "alpha_sigma",
    "schedules",
]
