"""Chained one-step noising is the closed form; the posterior is Bayes' rule."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fromnoise as fn
from fromnoise import process

SCHEDULES = [fn.LinearBeta(), fn.CosineBeta(), fn.SigmoidBeta(), fn.VP(), fn.EDM(), fn.RectifiedFlow(), fn.Trig()]
each = pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
times = st.lists(st.floats(0.003, 0.997), min_size=2, max_size=6, unique=True).map(sorted)


@each
@given(times=times)
def test_chained_steps_equal_the_closed_form(schedule, times):
    if any(b - a < 1e-3 for a, b in zip(times, times[1:], strict=False)):
        return
    scale, variance = 1.0, 0.0
    for s, t in zip([0.0, *times], times, strict=False):
        a, b = process.transition(schedule, s, t)
        scale, variance = a * scale, a * a * variance + b * b
    assert scale == pytest.approx(schedule.alpha(times[-1]), rel=1e-12)
    assert math.sqrt(variance) == pytest.approx(schedule.sigma(times[-1]), rel=1e-10)


def test_chained_table_steps_equal_the_closed_form():
    schedule = fn.LinearBeta()
    scale, variance = 1.0, 0.0
    for k in range(1000):
        a, b = process.transition(schedule, k / 1000, (k + 1) / 1000)
        assert b * b == pytest.approx(schedule.betas[k], rel=1e-9)
        scale, variance = a * scale, a * a * variance + b * b
    assert scale == pytest.approx(schedule.alpha(1.0), rel=1e-11)
    assert variance == pytest.approx(schedule.sigma(1.0) ** 2, rel=1e-11)


@each
@given(times=st.tuples(st.floats(0.01, 0.99), st.floats(0.01, 0.99)), x0=st.floats(-3, 3), x_t=st.floats(-3, 3))
def test_the_posterior_is_bayes_rule(schedule, times, x0, x_t):
    s, t = sorted(times)
    if t - s < 1e-2:
        return
    alpha_s, sigma_s = schedule.scales(s)
    a, b = process.transition(schedule, s, t)
    # q(x_s | x0) N(alpha_s x0, sigma_s^2) times q(x_t | x_s) N(a x_s, b^2)
    precision = 1 / sigma_s**2 + a**2 / b**2
    mean = (alpha_s * x0 / sigma_s**2 + a * x_t / b**2) / precision
    on_x_t, on_x0, std = process.posterior(schedule, t, s)
    assert on_x_t * x_t + on_x0 * x0 == pytest.approx(mean, rel=1e-8, abs=1e-8)
    assert std == pytest.approx(precision**-0.5, rel=1e-9)


@each
@given(times=st.tuples(st.floats(0.01, 0.99), st.floats(0.01, 0.99)))
def test_the_posterior_keeps_the_marginal(schedule, times):
    s, t = sorted(times)
    if t - s < 1e-2:
        return
    alpha_t, sigma_t = schedule.scales(t)
    alpha_s, sigma_s = schedule.scales(s)
    on_x_t, on_x0, std = process.posterior(schedule, t, s)
    assert on_x_t * alpha_t + on_x0 == pytest.approx(alpha_s, rel=1e-9)
    assert math.hypot(on_x_t * sigma_t, std) == pytest.approx(sigma_s, rel=1e-9)
