"""Laws of samplers, with denoisers whose output is known exactly: float64, tolerances stated."""

import math

import pytest
import torch

import fromnoise as fn
from fromnoise.denoiser_like import spread
from fromnoise.errors import InputError
from fromnoise.samplers import walk
from fromnoise.schedule import Schedule

SCHEDULES = [fn.LinearBeta(), fn.CosineBeta(), fn.VP(), fn.EDM(), fn.RectifiedFlow()]
RULES = [
    fn.DDPM(),
    fn.DDPM(variance="large"),
    fn.DDIM(),
    fn.DDIM(eta=0.5),
    fn.DDIM(eta=1.0),
    *map(fn.Multistep, (1, 2, 3, 4)),
    fn.Euler(),
    fn.Euler(churn=0.2),
    fn.Heun(),
    fn.Heun(churn=0.2),
    *map(fn.DPMSolver, (1, 2, 3)),
    *map(fn.DPMSolverSinglestep, (1, 2, 3)),
    *map(fn.UniPC, (1, 2, 3)),
    fn.SDE(1),
    fn.SDE(2),
    fn.SDE(2, eta=0.5),
    fn.RePaint(3),
]
each_schedule = pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
each_rule = pytest.mark.parametrize("rule", RULES, ids=str)


class Counting:
    """A denoiser that counts its evaluations."""

    def __init__(self, base):
        self.base, self.calls = base, 0
        for name in (
            "schedule",
            "shape",
            "sigma_data",
            "effective_dimension",
            "codec",
            "conditioners",
            "label_names",
            "device",
            "read",
        ):
            setattr(self, name, getattr(base, name))

    def __call__(self, x_t, t, cond=None):
        self.calls += 1
        return self.base(x_t, t, cond)

    def on(self, schedule):
        return Counting(self.base.on(schedule))


def gaussian(schedule: Schedule, mean=0.7, std=0.6):
    return fn.GaussianMixture(torch.tensor([[mean, mean]]).double(), std).denoiser(schedule)


@pytest.mark.unchecked
@each_rule
def test_steps_is_the_number_of_evaluations(rule):
    denoiser = Counting(gaussian(fn.LinearBeta()))
    long = [600, 1000] if isinstance(rule, fn.DDPM | fn.DDIM | fn.Multistep) else []  # the others: in certification
    for steps in [*range(1, 12), 61, *long]:
        denoiser.calls = 0
        fn.sample(denoiser, 2, sampler=rule, steps=steps)
        assert denoiser.calls == rule.evaluations(steps)


@each_rule
@each_schedule
def test_a_point_mass_is_reached_exactly(rule, schedule):
    denoiser = fn.FiniteSet(torch.tensor([[0.3, -1.2]]).double()).denoiser(schedule)
    for steps in (1, 2, 5):
        x = fn.sample(denoiser, 4, sampler=rule, steps=steps, dtype=torch.float64)
        assert (x - torch.tensor([0.3, -1.2])).abs().max() < 1e-12


@pytest.mark.unchecked
@pytest.mark.parametrize("steps", [3, 10, 1000])
def test_ddim_with_eta_one_is_ddpm(steps):
    law = fn.FiniteSet(fn.data.spiral(50).x.double())
    denoiser = law.denoiser(fn.LinearBeta())
    a, b = (fn.sample(denoiser, 20, sampler=s, steps=steps, dtype=torch.float64) for s in (fn.DDPM(), fn.DDIM(eta=1)))
    assert (a - b).abs().max() < 1e-9


@pytest.mark.parametrize(
    "schedule",
    [fn.LinearBeta(), fn.CosineBeta(), fn.VP(), fn.RectifiedFlow(), fn.EDM()],
    ids=lambda s: type(s).__name__,
)
def test_ddim_with_a_time_for_each_row_is_ddim_row_by_row(schedule):
    denoiser = fn.FiniteSet(fn.data.moons(40).x.double()).denoiser(schedule)
    pairs = [(1.0, 0.5), (1.0, 0.0), (0.5, 0.499), (0.3, 0.002), (0.002, 0.001), (0.001, 0.0)]
    x = torch.randn(len(pairs), 2, generator=torch.Generator().manual_seed(0)).double()
    t, s = torch.tensor(pairs, dtype=torch.float64).T
    rule, rest = fn.DDIM(), {"cond": None, "noise": lambda: x, "state": None}
    together = rule.step(denoiser, x, t, s, **rest)[0]
    for k, (one_t, one_s) in enumerate(pairs):
        alone = rule.step(denoiser, x[k : k + 1], one_t, one_s, **rest)[0]
        torch.testing.assert_close(together[k : k + 1], alone, rtol=1e-9, atol=1e-9)
    assert torch.equal(together[1], denoiser(x, t)[1])  # the last step is x0_hat itself
    with pytest.raises(InputError, match="eta 0 alone"):
        fn.DDIM(eta=0.5).step(denoiser, x, t, s, **rest)


def order(rule, schedule, steps, spacing=None) -> float:
    """Return the observed order of convergence on a single Gaussian, whose flow is known: mean + std z at t = 0."""
    mean, std = 0.7, 0.6
    denoiser = gaussian(schedule, mean, std)
    z = torch.randn(64, 2, generator=torch.Generator().manual_seed(0)).double()
    alpha, sigma = schedule.scales(1.0)
    # the flow keeps (x - alpha mean)/sqrt(alpha^2 std^2 + sigma^2)
    exact = mean + std * (sigma * z - alpha * mean) / math.hypot(alpha * std, sigma)
    errors = []
    for n in (steps, 2 * steps):
        grid = rule.grid(schedule, n, spread(denoiser)) if spacing is None else schedule.grid(n, spacing)
        *_, last = walk(denoiser, rule, grid, sigma * z)
        errors.append(float((last.x_s - exact).square().mean().sqrt()))
    return math.log2(errors[0] / errors[1])


@pytest.mark.parametrize("schedule", [fn.VP(), fn.RectifiedFlow(), fn.EDM(), fn.Trig()], ids=lambda s: type(s).__name__)
def test_ddim_converges_with_order_one_to_the_exact_map(schedule):
    assert order(fn.DDIM(), schedule, 200) == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("schedule", [fn.VP(), fn.EDM(), fn.RectifiedFlow()], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("p", [1, 2, 3, 4])
def test_multistep_converges_with_its_order_at_least(schedule, p):
    # the corrector with p values has order p; the first and last steps must not lower it
    assert order(fn.Multistep(p), schedule, 20 if p == 4 else 40) > p - 0.25


@pytest.mark.unchecked
@pytest.mark.parametrize("steps", [2, 10, 37])
@pytest.mark.parametrize("rule", [fn.DDPM(), fn.DDPM(variance="large"), fn.DDIM(eta=0.3), fn.DDIM()], ids=str)
def test_gaussian_data_give_the_closed_forms_covariance(rule, steps):
    # every rule is affine in x and noise: its output covariance follows by running it on a basis, no Monte Carlo
    schedule, std = fn.LinearBeta(), 0.6
    denoiser = fn.GaussianMixture(torch.zeros(1, 1).double(), std).denoiser(schedule)
    grid = schedule.grid(steps)
    variance = 0.0
    for source in range(steps + 1):  # the start, then each step's noise, one at a time
        calls = iter(range(1, steps + 1))
        x = torch.full((1, 1), schedule.sigma(1.0) if source == 0 else 0.0, dtype=torch.float64)

        def noise(calls=calls, source=source):
            return torch.full((1, 1), 1.0 if next(calls) == source else 0.0, dtype=torch.float64)

        *_, last = walk(denoiser, rule, grid, x, noise=noise)
        variance += float(last.x_s) ** 2
    expected = schedule.sigma(1.0) ** 2
    for t, s in zip(grid, grid[1:], strict=False):
        expected = _one_step(rule, schedule, std, t, s, expected)
    assert variance == pytest.approx(expected, rel=1e-10)


def _one_step(rule, schedule, std, t, s, variance):
    """Return the variance after one step, computed from the papers' formulas with x0_hat = k x_t."""
    (a_t, s_t), (a_s, s_s) = schedule.scales(t), schedule.scales(s)
    k = a_t * std**2 / (a_t**2 * std**2 + s_t**2)
    if s == 0:
        return k**2 * variance
    beta = 1 - (a_t / a_s) ** 2
    tilde = beta * s_s**2 / s_t**2
    eps = (1 - a_t * k) / s_t
    if isinstance(rule, fn.DDPM):
        fresh = tilde if rule.variance == "small" else beta
        factor = a_s * k + math.sqrt(s_s**2 - tilde) * eps
    else:
        fresh = rule.eta**2 * tilde
        factor = a_s * k + math.sqrt(s_s**2 - fresh) * eps
    return factor**2 * variance + fresh


@pytest.mark.unchecked
@pytest.mark.parametrize("rule", [fn.DDIM(), fn.Multistep()], ids=str)
def test_the_error_does_not_jump_where_steps_do_not_divide_the_table(rule):
    law = fn.GaussianMixture(torch.tensor([[-1.0, 0.0], [1.0, 0.5]]).double(), 0.2)
    denoiser = law.denoiser(fn.LinearBeta())
    start = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
    best = fn.sample(denoiser, 200, sampler=fn.Multistep(), steps=900, start=start, dtype=torch.float64)

    def error(n):
        x = fn.sample(denoiser, 200, sampler=rule, steps=n, start=start, dtype=torch.float64)
        return float((x - best).square().mean().sqrt())

    for n, around in ((61, (50, 72)), (600, (500, 720)), (333, (300, 366)), (30, (25, 36))):
        low, high = error(around[1]), error(around[0])
        assert 0.8 * low < error(n) < 1.25 * high


@each_schedule
def test_a_denoiser_of_the_noise_level_alone_is_one_function_on_every_path(schedule):
    denoiser = fn.FiniteSet(fn.data.moons(40).x.double()).denoiser(fn.EDM())
    direct = fn.FiniteSet(fn.data.moons(40).x.double()).denoiser(schedule)
    from fromnoise.denoiser_like import OnPath

    there = OnPath(denoiser, schedule)
    x = torch.randn(30, 2).double()
    for t in (0.05, 0.3, 0.9):
        torch.testing.assert_close(there(x, t), direct(x, t), rtol=1e-7, atol=1e-7)
        torch.testing.assert_close(there(x, torch.full((30,), t).double()), direct(x, t), rtol=1e-7, atol=1e-7)
    assert there.on(fn.EDM()) is denoiser


@each_rule
def test_zero_terminal_snr_stays_finite(rule):
    betas = fn.CosineBeta(beta_max=1.0)
    denoiser = fn.FiniteSet(fn.data.moons(40).x.double()).denoiser(betas)
    assert betas.alpha(1.0) == pytest.approx(0, abs=1e-12)
    for schedule in (betas, fn.RectifiedFlow(), fn.Trig()):
        for steps in (1, 4, 20):
            assert torch.isfinite(fn.sample(denoiser.on(schedule), 8, sampler=rule, steps=steps)).all()
