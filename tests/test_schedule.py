import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import fromnoise as fn
from fromnoise.errors import InputError
from fromnoise.schedule import Schedule, TableSchedule, schedules

ALL = [
    fn.LinearBeta(), fn.CosineBeta(), fn.SigmoidBeta(), fn.FromBetas(torch.linspace(0.01, 1, 10)), fn.LinearBeta(T=7),
    fn.VP(), fn.EDM(), fn.RectifiedFlow(), fn.Trig(),
]  # fmt: skip
TABLES = [s for s in ALL if isinstance(s, TableSchedule)]
each = pytest.mark.parametrize("schedule", ALL, ids=lambda s: type(s).__name__)
each_table = pytest.mark.parametrize("schedule", TABLES, ids=lambda s: f"{type(s).__name__}-{s.T}")


@pytest.mark.parametrize(
    ("schedule", "snr"),
    [
        (fn.LinearBeta(), {0: 9999.00, 250: 1.0895, 500: 0.0844, 750: 0.0033}),
        (fn.CosineBeta(), {0: 24221.33, 250: 5.4888, 500: 0.9696, 750: 0.1671}),
    ],
)
def test_signal_to_noise_is_the_published_table(schedule, snr):
    for k, value in snr.items():
        bar = schedule.alpha_bars[k]
        assert bar / (1 - bar) == pytest.approx(value, rel=2e-3, abs=5e-5)
        assert math.exp(schedule.log_snr((k + 1) / 1000)) == pytest.approx(bar / (1 - bar), rel=1e-9)


def test_cosine_clips_beta_not_alpha_bar():
    s = fn.CosineBeta()
    assert s.betas[-1] == 0.999
    assert s.betas[-2] < 0.999
    assert s.alpha_bars[-1] < 1e-8


def test_tables_are_float64_products():
    s = fn.LinearBeta()
    assert s.betas.dtype == s.alpha_bars.dtype == np.float64
    assert s.alpha_bars[499] == pytest.approx(math.exp(math.fsum(np.log1p(-s.betas[:500]))), rel=1e-13)


@each_table
def test_a_table_is_exact_at_its_steps(schedule):
    for k in range(0, schedule.T, max(1, schedule.T // 50)):
        alpha, sigma = schedule.scales((k + 1) / schedule.T)
        assert alpha == pytest.approx(math.sqrt(schedule.alpha_bars[k]), rel=1e-12, abs=1e-15)
        assert sigma == pytest.approx(math.sqrt(1 - schedule.alpha_bars[k]), rel=1e-12)
        assert schedule.c_noise((k + 1) / schedule.T) == pytest.approx(k, abs=1e-9)


@each_table
def test_times_on_entries_alone_and_among_others_give_the_same_scales(schedule):
    on_entries = (torch.arange(schedule.T).double() + 1) / schedule.T
    with_others = torch.cat([on_entries, torch.tensor([0.5 / schedule.T], dtype=torch.float64)])
    for looked_up, worked_out in zip(schedule.scales(on_entries), schedule.scales(with_others), strict=True):
        torch.testing.assert_close(looked_up, worked_out[:-1], rtol=1e-9, atol=1e-12)


@each_table
def test_the_nearest_trained_time_of_a_table_is_an_entry(schedule):
    for k in range(0, schedule.T, max(1, schedule.T // 50)):
        entry = (k + 1) / schedule.T
        for t in (entry, entry + 0.3 / schedule.T, entry - 0.3 / schedule.T):
            assert schedule.nearest(t) == pytest.approx(entry, abs=1e-12)
            tensor = torch.tensor([t], dtype=torch.float64)
            assert float(schedule.nearest(tensor)) == pytest.approx(entry, abs=1e-12)
    assert schedule.nearest(0.0) == 1 / schedule.T
    assert schedule.nearest(1.0) == 1.0


def test_a_continuous_schedule_is_trained_everywhere_and_gives_the_clamped_log_snr_as_c_noise():
    for schedule in (fn.VP(), fn.EDM(), fn.RectifiedFlow(), fn.Trig()):
        assert schedule.nearest(0.37) == 0.37
        assert schedule.c_noise(0.37) == pytest.approx(float(schedule.log_snr(0.37)))
        assert schedule.c_noise(0.0) == 20.0
        assert schedule.c_noise(torch.tensor([0.0, 0.37]))[0] == 20.0


@each
def test_time_zero_is_clean(schedule):
    assert schedule.scales(0.0) == (1.0, 0.0)
    assert schedule.log_snr(0.0) == math.inf
    alpha, sigma = schedule.scales(torch.zeros(2, dtype=torch.float64))
    assert (alpha == 1).all()
    assert (sigma == 0).all()


@each
def test_floats_and_tensors_agree(schedule):
    t = torch.linspace(0, 1, 997, dtype=torch.float64)
    alpha, sigma = schedule.scales(t)
    single = [schedule.scales(v) for v in t.tolist()]
    torch.testing.assert_close(alpha, torch.tensor([a for a, _ in single], dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close(sigma, torch.tensor([s for _, s in single], dtype=torch.float64), rtol=1e-12, atol=1e-12)


@each
def test_log_snr_falls_strictly(schedule):
    log_snr = schedule.log_snr(torch.linspace(0, 1, 3001, dtype=torch.float64))
    assert (log_snr[1:] < log_snr[:-1]).all()


@each
@given(t=st.floats(1e-4, 1.0))
def test_time_inverts_log_snr(schedule: Schedule, t: float):
    back = schedule.time(schedule.log_snr(t))
    assert back == pytest.approx(t, abs=1e-9)
    in_tensor = schedule.time(torch.as_tensor(schedule.log_snr(t), dtype=torch.float64))
    assert float(in_tensor) == pytest.approx(t, abs=1e-9)
    if not math.isinf(schedule.noise_level(t)):
        assert schedule.time_of_level(schedule.noise_level(t)) == pytest.approx(t, abs=1e-9)


@each
@pytest.mark.parametrize("spacing", ["uniform", "quadratic", "karras"])
@pytest.mark.parametrize("steps", [1, 2, 3, 7])
def test_a_grid_falls_strictly_from_one_to_zero(schedule, spacing, steps):
    grid = schedule.grid(steps, spacing)
    assert len(grid) == steps + 1
    assert grid[0] == 1
    assert grid[-1] == 0
    assert all(a > b for a, b in zip(grid, grid[1:], strict=False))


def test_every_number_of_steps_has_its_grid_on_a_table():
    schedule = fn.LinearBeta()
    for n in range(1, 1001):
        grid = schedule.grid(n)
        assert len(grid) == n + 1
        assert all(a > b for a, b in zip(grid, grid[1:], strict=False))
        assert all(abs(t * 1000 - round(t * 1000)) < 1e-9 for t in grid)


def test_karras_grid_is_the_published_one():
    # Karras et al. 2022, eq. 5, computed directly
    n, lo, hi, rho = 18, 0.002, 80.0, 7.0
    expected = [(hi ** (1 / rho) + i / (n - 1) * (lo ** (1 / rho) - hi ** (1 / rho))) ** rho for i in range(n)]
    schedule = fn.EDM()
    found = [schedule.sigma(t) for t in schedule.grid(n, "karras")]
    assert found == pytest.approx([*expected, 0.0], rel=1e-9)


@pytest.mark.parametrize("steps", [0, -1, True])
def test_wrong_steps_are_refused(steps):
    with pytest.raises(InputError, match="at least 1"):
        fn.EDM().grid(steps)


def test_more_steps_than_the_table_has_are_refused():
    with pytest.raises(InputError, match="at most T = 1000"):
        fn.LinearBeta().grid(1001)


def test_only_the_last_beta_may_be_one():
    with pytest.raises(InputError, match="only the last"):
        fn.FromBetas([0.1, 1.0, 0.5])
    assert fn.FromBetas([0.1, 1.0]).alpha(1.0) == 0


def test_components_are_compared_and_named_by_value():
    assert fn.LinearBeta() == fn.LinearBeta(T=1000)
    assert schedules.build(schedules.settings(fn.CosineBeta(T=50))) == fn.CosineBeta(T=50)
    assert schedules.build(schedules.settings(fn.FromBetas([0.1, 0.2]))) == fn.FromBetas([0.1, 0.2])


def test_wrong_settings_are_refused_in_one_line():
    for settings, words in [
        ({"name": "linaer"}, "did you mean 'linear'"),
        ({"name": "linear", "T": 0}, "T should be greater than or equal to 1"),
        ({"name": "linear", "beta": 1}, "beta is not a setting"),
        ({"T": 5}, "name is missing"),
        ({"name": "vp", "beta_max": float("nan")}, "finite"),
    ]:
        with pytest.raises(InputError, match=words) as caught:
            schedules.build(settings)
        assert "\n" not in str(caught.value)


def test_a_step_index_as_a_time_is_refused():
    x = torch.ones(2, 2)
    tensors = [torch.tensor(times) for times in ([500.0, 20.0], [0.5, math.nan])]
    for t in (500, 1.5, -0.1, math.nan, *tensors):
        with pytest.raises(InputError, match=r"a time is a number in \[0, 1\].*step k = 0, 1, ... of 1000 is"):
            fn.process.add_noise(fn.LinearBeta(), x, t, x)
    with pytest.raises(InputError, match=r"not 3: step k"):
        fn.LinearBeta()._check_times(torch.tensor([3, 4]))  # in `scales` the type checks of the tests refuse it first
    with pytest.raises(InputError, match=r"not 500"):
        fn.FiniteSet(x.double()).denoiser(fn.EDM())(x, 500)
    for t in (0, 1, 0.0, 1.0, torch.tensor([0.0, 1.0])):
        assert torch.isfinite(fn.process.add_noise(fn.LinearBeta(), x, t, x)).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("schedule", ALL, ids=str)
def test_float_and_tensor_times_agree_at_both_ends(schedule, dtype):
    for t in (0.0, 1.0):
        for ask in (schedule.log_snr, schedule.noise_level, schedule.alpha, schedule.sigma):
            assert float(ask(torch.full((1,), t, dtype=dtype))) == pytest.approx(float(ask(t)), rel=1e-3), (t, ask)


@pytest.mark.parametrize("schedule", ALL, ids=str)
def test_drift_and_diffusion_are_finite_everywhere_between_the_ends(schedule):
    sde = fn.ForwardSDE(schedule)
    for t in (1e-4, 5e-4, 9.99e-4, 0.3, 0.9995):
        assert torch.isfinite(sde.drift(torch.ones(1, 2), t)).all()
        assert torch.isfinite(sde.diffusion(t)).all()
    if schedule == fn.LinearBeta():  # the first beta, 1e-4, in a cell of 1e-3
        assert float(sde.drift(torch.ones(1, 2), 5e-4)[0, 0]) == pytest.approx(-0.05, rel=1e-3)


@pytest.mark.parametrize(
    ("kind", "settings", "words"),
    [
        (fn.LinearBeta, {"beta_start": 1e-17}, "adds no noise in step 1 of its 1,000"),
        (fn.SigmoidBeta, {"tau": 0.001}, "adds no noise"),
        (fn.FromBetas, {"table": (0.1, 1e-15, 0.1)}, "adds no noise in step 2 of its 3"),
        (fn.LinearBeta, {"T": 100_000, "beta_start": 0.01, "beta_end": 0.5}, "leaves no signal after step"),
        (fn.FromBetas, {"table": (0.999,) * 200}, "leaves no signal after step"),
    ],
)
def test_a_table_whose_steps_cannot_be_told_apart_is_refused(kind, settings, words):
    with pytest.raises(InputError, match=words):
        kind(**settings)


def test_tables_at_the_edge_of_what_is_accepted_are_finite():
    for schedule in (
        fn.LinearBeta(beta_start=1e-11),
        fn.SigmoidBeta(tau=0.2),
        fn.CosineBeta(T=100_000, s=0.0),
        fn.LinearBeta(T=10_000, beta_end=0.1),
        fn.FromBetas((0.5,)),
    ):
        t = torch.linspace(0, 1, 301, dtype=torch.float64)
        alpha, sigma = schedule.scales(t)
        assert torch.isfinite(alpha).all()
        assert torch.isfinite(sigma).all()
        assert not torch.isnan(schedule.log_snr(t)).any()
