"""The default rule: the data it is exact for, its first evaluation, and its use of networks trained on a table."""

import math

import pytest
import torch

import fromnoise as fn
from fromnoise.denoiser_like import Wrapper
from fromnoise.samplers import walk
from fromnoise.samplers.multistep import _weights

SPIRAL = fn.GaussianMixture(fn.data.spiral(200, seed=0).x.double(), 0.05)


class Watched(Wrapper):
    """Keeps the noise levels at which it is evaluated."""

    def __init__(self, base):
        super().__init__(base)
        self.levels = []

    def __call__(self, x_t, t, cond=None):
        self.levels.append(float(self.schedule.noise_level(t)))
        return self.base(x_t, t, cond)

    def on(self, schedule):
        return Watched(self.base.on(schedule))


class Flawed(Wrapper):
    """An exact denoiser whose noise prediction is off by a smooth error of a given size, as a network's is."""

    def __init__(self, base, size):
        super().__init__(base)
        self.size = size

    def __call__(self, x_t, t, cond=None):
        alpha, sigma = self.schedule.scales(t)
        error = self.size * torch.sin(3 * x_t.flip(1) + 7 * float(t))
        return self.base(x_t, t, cond) - (sigma / alpha) * error

    def on(self, schedule):
        return Flawed(self.base.on(schedule), self.size)


def ends(denoiser, rule, steps, noise):
    x = fn.denoiser.start_std(denoiser) * noise
    for step in walk(denoiser, rule, rule.grid(denoiser.schedule, steps, fn.denoiser.spread(denoiser)), x):
        x = step.x_s
    return x


@pytest.mark.parametrize(("v_t", "v_s"), [(8.0, 0.3), (0.5, 0.1), (0.5, 0.0)])
def test_two_values_are_exact_on_the_path_of_a_gaussian(v_t, v_s):
    # N(0, c^2): x = h z, h = sqrt(v^2 + c^2), D = c^2/h z, which is a + b w along the path
    c, levels = 0.7, (v_t, 3 * v_t)
    h = {v: math.hypot(v, c) for v in (*levels, v_s)}
    weights = _weights(v_t, v_s, levels, c)
    x_s = (v_s / v_t) * h[v_t] + sum(w * c**2 / h[v] for w, v in zip(weights, levels, strict=True))
    assert x_s == pytest.approx(h[v_s], rel=1e-13)


def test_weights_stay_precise_where_levels_crowd():
    for scale in (1e-6, 1.0, 1e5):  # an even function of v near 0, 1/v far out: w is a line in neither, D = 1 is
        weights = _weights(scale, 0.9 * scale, tuple(scale * f for f in (1.0, 1.1, 1.2, 1.3)), 0.5)
        assert sum(weights) == pytest.approx(0.1, rel=1e-10)


@pytest.mark.parametrize("steps", [2, 5, 10, 40])
@pytest.mark.parametrize("schedule", [fn.LinearBeta(), fn.CosineBeta(), fn.EDM(), fn.RectifiedFlow(), fn.VP()], ids=str)
def test_the_first_evaluation_is_where_the_data_begin_to_show(schedule, steps):
    denoiser = Watched(SPIRAL.denoiser(schedule))
    ends(denoiser, fn.Multistep(), steps, torch.randn(4, 2, dtype=torch.float64))
    levels = denoiser.levels
    assert len(levels) == steps
    assert all(a > b > 0 for a, b in zip(levels, levels[1:], strict=False))
    top = float(schedule.noise_level(1.0))
    assert 1 / levels[0] == pytest.approx(1 / top + (1 / levels[1] - 1 / top) / 3)


@pytest.mark.parametrize("schedule", [fn.LinearBeta(), fn.CosineBeta(), fn.EDM(), fn.RectifiedFlow()], ids=str)
def test_a_gaussian_away_from_the_origin_needs_few_evaluations(schedule):
    # the first step assumes data of mean 0; its value of D is moved to the corrected x
    law = fn.GaussianMixture(torch.tensor([[0.7, -0.4]], dtype=torch.float64), 0.6)
    denoiser = law.denoiser(schedule)
    noise = torch.randn(64, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    exact = fn.ProbabilityFlow(denoiser).decode(noise)
    off = [float((ends(denoiser, fn.Multistep(), n, noise) - exact).abs().max()) for n in (5, 10, 20)]
    assert [o < bar for o, bar in zip(off, (1e-2, 5e-4, 2e-5), strict=True)] == [True] * 3, off


def test_a_grid_of_short_steps_is_walked_as_given():
    denoiser, times = Watched(SPIRAL.denoiser(fn.VP())), fn.VP().grid(200)
    x = fn.sample(denoiser, 64, grid=times, dtype=torch.float64)
    top, second = (float(fn.VP().noise_level(t)) for t in times[:2])
    assert denoiser.levels[0] == pytest.approx(3 / (2 / top + 1 / second))
    assert denoiser.levels[1:] == pytest.approx([float(fn.VP().noise_level(t)) for t in times[1:-1]])
    fine = fn.sample(SPIRAL.denoiser(fn.VP()), 64, steps=300, dtype=torch.float64)
    assert float((x - fine).norm(dim=1).median()) < 2e-3


@pytest.mark.parametrize("schedule", [fn.LinearBeta(), fn.CosineBeta(), fn.LinearBeta(T=50)], ids=str)
def test_a_tables_network_is_evaluated_at_no_level_below_its_lowest(schedule):
    for steps in (1, 3, 10, 100, 1000):
        times = fn.Multistep().grid(schedule, steps, 1.4)
        assert len(times) == steps + 1
        assert all(t > s for t, s in zip(times, times[1:], strict=False))
        assert times[-2] >= 1 / schedule.T


def test_a_noise_prediction_from_level_157_is_not_lost_in_the_first_step():
    # at level 157 an error of 0.02 in eps is one of 3 in x0_hat: a first step that trusts it ends anywhere
    noise = torch.randn(512, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    flawed = Flawed(SPIRAL.denoiser(fn.LinearBeta()), 0.02)
    exact = ends(SPIRAL.denoiser(fn.LinearBeta()), fn.Multistep(), 300, noise)
    off = {n: (ends(flawed, fn.Multistep(), n, noise) - exact).norm(dim=1) for n in (5, 10, 20)}
    assert off[10].median() < 0.02
    assert off[20].median() < 0.02
    assert off[5].median() < 0.03


@pytest.mark.unchecked
@pytest.mark.parametrize("T", [2, 5, 10, 30])
@pytest.mark.parametrize("kind", [fn.LinearBeta, fn.CosineBeta, fn.SigmoidBeta])
def test_a_short_table_is_sampled_with_any_number_of_steps(kind, T):
    # the last levels crowd above the table's lowest one: a cubic through them, continued to 0, threw points to 150
    x = fn.data.spiral(500, seed=0).x
    x = (x - x.mean(0)) / x.std()
    law, reach = fn.FiniteSet(x), float(x.abs().max())
    for steps in (1, 2, 3, 10, 60, 300):
        drawn = fn.sample(law.denoiser(kind(T=T)), 200, steps=steps)
        assert float(drawn.abs().max()) < 1.3 * reach, steps


@pytest.mark.unchecked
@pytest.mark.parametrize("steps", [1, 2, 3, 5, 12, 100])
def test_what_a_denoiser_holds_fixed_is_kept_to_the_bit(steps):
    known = torch.tensor([0.3, float("nan")])
    for schedule in (fn.LinearBeta(), fn.LinearBeta(T=20), fn.EDM(), fn.VP(), fn.CosineBeta()):
        if steps > 1 or schedule.table_length is None:
            held = fn.Inpainted(SPIRAL.denoiser(schedule), known, [True, False])
            x = fn.sample(held, 50, steps=steps)
            assert (x[:, 0] == known[0]).all()
            assert torch.isfinite(x).all()


@pytest.mark.unchecked
def test_no_step_count_stands_out():
    noise = torch.randn(256, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    for schedule in (fn.EDM(), fn.LinearBeta()):
        denoiser = SPIRAL.denoiser(schedule)
        exact = fn.ProbabilityFlow(denoiser).decode(noise)
        off = [float((ends(denoiser, fn.Multistep(), n, noise) - exact).norm(dim=1).median()) for n in range(3, 31)]
        assert all(b < 1.25 * a for a, b in zip(off, off[1:], strict=False)), off


@pytest.mark.unchecked
def test_few_evaluations_end_near_the_exact_flow():
    # the bars of the benchmark, on a small sample: the best of the other libraries' rules are three times as far off
    noise = torch.randn(512, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for schedule in (fn.EDM(), fn.LinearBeta()):
        denoiser = SPIRAL.denoiser(schedule)
        exact = fn.ProbabilityFlow(denoiser).decode(noise)
        off = [(ends(denoiser, fn.Multistep(), n, noise) - exact).norm(dim=1) for n in (5, 10, 20)]
        assert [float(o.median()) < bar for o, bar in zip(off, (0.015, 0.0025, 0.0002), strict=True)] == [True] * 3
        assert float(off[0].square().mean().sqrt()) < 0.12
