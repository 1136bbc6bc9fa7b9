import pytest
import torch

import fromnoise as fn
from fromnoise.rng import stream
from fromnoise.training import time_laws


@pytest.mark.parametrize("schedule", [fn.LinearBeta(T=10), fn.CosineBeta(T=1000)])
@pytest.mark.parametrize("law", ["uniform", "stratified", "log-normal"])
def test_times_on_a_table_are_those_of_its_entries(schedule, law):
    t = time_laws.build(law).draw(schedule, 20_000, stream(1, "test"))
    assert t.dtype == torch.float64
    assert 0 < float(t.min()) <= float(t.max()) <= 1
    torch.testing.assert_close(t, schedule.nearest(t), rtol=0, atol=1e-15)


def test_log_normal_times_have_the_mean_and_spread_they_name():
    n, schedule = 10_000, fn.EDM()
    t = time_laws.build({"name": "log-normal", "mean": -0.5, "sd": 0.7}).draw(schedule, n, stream(2, "test"))
    log_level = -schedule.log_snr(t) / 2
    assert float(log_level.mean()) == pytest.approx(-0.5, abs=0.01)  # stratified: far below 0.7/sqrt(n)
    assert float(log_level.std()) == pytest.approx(0.7, rel=0.01)


@pytest.mark.parametrize("times", ["uniform", "stratified", {"name": "log-normal", "mean": 0.0, "sd": 1.0}])
def test_the_density_of_a_time_law_is_that_of_its_draws(times):
    schedule, law = fn.VP(), time_laws.build(times)
    t = law.draw(schedule, 1_000_000, stream(3, "test"))
    levels = torch.as_tensor(schedule.log_snr(t))
    for low in (-4.0, -2.0, 0.0, 2.0):
        within = (levels > low) & (levels < low + 0.2)
        middle = torch.as_tensor(schedule.time(torch.tensor([low + 0.1], dtype=torch.float64)))
        expected = 0.2 * float(law.density(schedule, middle)[0])
        assert float(within.double().mean()) == pytest.approx(expected, rel=0.05)
