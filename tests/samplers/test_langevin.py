"""Langevin dynamics: the published algorithm, its exact stationary distribution, and its samples."""

import math

import pytest
import torch

import fromnoise as fn
from fromnoise.metrics.evaluation import _wasserstein
from fromnoise.samplers import walk
from fromnoise.samplers.langevin import langevin

ZERO = torch.zeros(1, 1, dtype=torch.float64)
ONE = ZERO + 1


@pytest.mark.parametrize("schedule", [fn.EDM(), fn.VP(), fn.LinearBeta()], ids=str)
@pytest.mark.parametrize("level", [0.05, 0.7, 20.0])
@pytest.mark.parametrize("r", [0.05, 0.2, 1.0])
def test_unadjusted_langevin_has_its_own_stationary_variance(schedule, level, r):
    # on a Gaussian a step is x <- a x + b z, whose stationary variance is b^2/(1 - a^2)
    std = 0.6
    denoiser, t = fn.GaussianMixture(ZERO, std).denoiser(schedule), schedule.time_of_level(level)
    a = float(langevin(denoiser, ONE, t, r, cond=None, noise=lambda: ZERO))
    b = float(langevin(denoiser, ZERO, t, r, cond=None, noise=lambda: ONE))
    v, alpha = float(schedule.noise_level(t)), float(schedule.alpha(t))
    s2 = v**2 + std**2
    assert b**2 / (1 - a**2) / alpha**2 == pytest.approx(s2 / (1 - r * v**2 / (4 * s2)), rel=1e-9)


def test_annealed_langevin_is_the_published_algorithm():
    # Song & Ermon 2019, Algorithm 1, with alpha_i = eps sigma_i^2/sigma_L^2, and the last evaluation's D
    law = fn.GaussianMixture(fn.data.spiral(40, seed=0).x.double(), 0.1)
    levels, corrections, eps_over_last = [3.0, 1.0, 0.3, 0.1], 4, 0.15
    schedule = fn.EDM(sigma_max=levels[0])
    start = torch.randn(8, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(
        corrections * len(levels), 8, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )
    x, k = levels[0] * start, 0
    for sigma in levels:
        step = eps_over_last * sigma**2
        for _ in range(corrections - (sigma == levels[-1])):
            score = law.noised(schedule, schedule.time_of_level(sigma)).score(x)
            x, k = x + step / 2 * score + math.sqrt(step) * noise[k], k + 1
    x = law.posterior_mean(x, 1.0, levels[-1])
    draws = iter(noise)
    times = [*(schedule.time_of_level(level) for level in levels), 0.0]
    rule = fn.Langevin(corrections=corrections, size=eps_over_last)
    for taken in walk(law.denoiser(schedule), rule, times, levels[0] * start, noise=lambda: next(draws)):
        y = taken.x_s
    torch.testing.assert_close(x, y, rtol=1e-9, atol=1e-9)


def test_a_correction_is_the_papers_with_its_norms_expected():
    # Song et al. 2021, Algorithm 3: x + eps score + sqrt(2 eps) z, eps = 2 (snr |z|/|score|)^2
    schedule, snr, t = fn.EDM(), 0.16, 0.5
    law = fn.GaussianMixture(fn.data.spiral(40, seed=0).x.double(), 0.1)
    x, z = torch.randn(2, 6, 2, dtype=torch.float64)
    sigma = float(schedule.sigma(t))
    eps = 2 * (snr * math.sqrt(2) / (math.sqrt(2) / sigma)) ** 2
    expected = x + eps * law.noised(schedule, t).score(x) + math.sqrt(2 * eps) * z
    got = langevin(law.denoiser(schedule), x, t, 4 * snr**2, cond=None, noise=lambda: z)
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.unchecked
@pytest.mark.parametrize("schedule", [fn.EDM(), fn.LinearBeta()], ids=str)
@pytest.mark.parametrize(
    ("rule", "steps"), [(fn.Langevin(corrections=10), 100), (fn.PredictorCorrector(), 200)], ids=str
)
def test_samples_are_as_near_the_data_as_fresh_data_are(schedule, rule, steps):
    law = fn.GaussianMixture(fn.data.spiral(100, seed=0).x.double(), 0.05)
    truth, again = law.sample(500, seed=1), law.sample(500, seed=2)
    x = fn.sample(law.denoiser(schedule), 500, sampler=rule, steps=steps, dtype=torch.float64)
    assert _wasserstein(x.float(), truth.float()) < 1.3 * _wasserstein(again.float(), truth.float())
