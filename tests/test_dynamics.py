import math

import pytest
import torch

import fromnoise as fn
from fromnoise.dynamics import coefficients, score
from fromnoise.errors import NotConverged

MIXTURE = fn.GaussianMixture(torch.tensor([[-1.0, 0.3], [1.0, -0.5], [0.2, 1.0]]).double(), 0.2)
SCHEDULES = [fn.VP(), fn.EDM(), fn.RectifiedFlow(), fn.Trig(), fn.LinearBeta(), fn.CosineBeta()]
each_schedule = pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)


def test_the_vp_sde_has_the_papers_coefficients():
    t = torch.linspace(0.05, 0.95, 19, dtype=torch.float64)
    beta = 0.1 + t * (20 - 0.1)  # Song et al. 2021, eq. 32
    found = coefficients(fn.VP(), t)
    torch.testing.assert_close(found.drift, -beta / 2)
    torch.testing.assert_close(found.diffusion_squared, beta)


def test_the_exploding_sde_has_no_drift():
    t = torch.linspace(0.1, 0.9, 5, dtype=torch.float64)
    schedule, h = fn.EDM(), 1e-6
    found = coefficients(schedule, t)
    assert found.drift.abs().max() == 0
    slope = (schedule.sigma(t + h) ** 2 - schedule.sigma(t - h) ** 2) / (2 * h)
    torch.testing.assert_close(found.diffusion_squared, slope, rtol=1e-6, atol=0)


@each_schedule
def test_the_forward_sde_grows_the_variance_as_the_schedule_says(schedule):
    # mean and variance of x0 = 1 under dx = f x dt + g dw: m' = f m, V' = 2 f V + g^2, by the midpoint rule
    sde, (low, high), n = fn.ForwardSDE(schedule), (0.2, 0.8), 6000
    alpha, sigma = (float(scale) for scale in schedule.scales(low))
    mean, variance, dt = alpha, sigma**2, (high - low) / n
    mid = low + dt * (torch.arange(n, dtype=torch.float64) + 0.5)
    drift, g2 = coefficients(schedule, mid)
    for f, g in zip(drift.tolist(), g2.tolist(), strict=True):
        variance = variance * math.exp(2 * f * dt) + g * dt * math.exp(f * dt)
        mean *= math.exp(f * dt)
    alpha, sigma = (float(scale) for scale in schedule.scales(high))
    assert mean == pytest.approx(alpha, rel=1e-4)
    assert variance == pytest.approx(sigma**2, rel=1e-4)
    assert float(sde.diffusion(0.5)) > 0


@each_schedule
def test_the_score_is_the_exact_one(schedule):
    denoiser, x = MIXTURE.denoiser(schedule), torch.randn(20, 2).double()
    torch.testing.assert_close(score(denoiser, x, 0.3), denoiser.score(x, 0.3), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("eta", [0.0, 1.0, 1.5])
def test_the_reverse_sde_keeps_a_gaussians_variance(eta):
    # from t = 0.9 to 0.1 on Gaussian data: V' = 2 a V + eta^2 g^2 backwards, a being the drift's slope
    schedule, std, n = fn.VP(), 0.6, 20_000
    sde = fn.ReverseSDE(fn.GaussianMixture(torch.zeros(1, 1).double(), std).denoiser(schedule), eta)

    def variance(t):
        alpha, sigma = schedule.scales(t)
        return alpha**2 * std**2 + sigma**2

    v, dt = variance(0.9), 0.8 / n
    mid = 0.9 - dt * (torch.arange(n, dtype=torch.float64) + 0.5)
    slopes = sde.drift(torch.ones(n, 1).double(), mid)[:, 0].tolist()
    g2 = (sde.diffusion(mid) ** 2).tolist()
    for a, g in zip(slopes, g2, strict=True):
        v = v * math.exp(-2 * a * dt) + g * dt * math.exp(-a * dt)
    assert v == pytest.approx(variance(0.1), rel=1e-3)


@pytest.mark.unchecked
@each_schedule
def test_the_flow_is_one_to_one_and_gives_the_exact_density(schedule):
    denoiser, x = MIXTURE.denoiser(schedule), MIXTURE.sample(16, seed=1)
    flow = fn.ProbabilityFlow(denoiser, tolerance=1e-9)
    found = flow.density(x, prior=lambda x_1: denoiser.log_prob(x_1, 1.0) if schedule.alpha(1.0) else _normal(x_1))
    assert (found.log_prob - MIXTURE.log_prob(x)).abs().max() < 1e-6
    assert (flow.encode(x) - found.noise).abs().max() < 1e-6
    assert (flow.decode(found.noise) - x).abs().max() < 1e-7


def _normal(x):
    return -0.5 * (x.square() + math.log(2 * math.pi)).sum(1)


def test_without_signal_at_the_end_the_start_is_a_standard_normal():
    x = MIXTURE.sample(16, seed=2)
    found = fn.ProbabilityFlow(MIXTURE.denoiser(fn.RectifiedFlow()), tolerance=1e-9).density(x)
    assert (found.log_prob - MIXTURE.log_prob(x)).abs().max() < 1e-6


@pytest.mark.unchecked
def test_hutchinsons_trace_is_unbiased():
    x, flow = MIXTURE.sample(4, seed=3), fn.ProbabilityFlow(MIXTURE.denoiser(fn.Trig()), tolerance=1e-5)
    exact = flow.density(x).log_prob
    guesses = torch.stack([flow.density(x, trace="hutchinson", seed=k).log_prob for k in range(30)])
    error = guesses.std(0) / math.sqrt(30)
    assert ((guesses.mean(0) - exact).abs() < 4.5 * error + 1e-4).all()


def test_the_flow_of_a_network_in_float32_works():
    torch.manual_seed(0)
    denoiser = fn.Denoiser(fn.nn.MLP(2, 16), fn.EDM(), "edm").requires_grad_(False)
    x = torch.randn(5, 2)
    flow = fn.ProbabilityFlow(denoiser, tolerance=1e-5)
    assert (flow.decode(flow.encode(x)) - x).abs().max() < 1e-3
    assert torch.isfinite(flow.density(x).log_prob).all()


def test_an_ode_that_cannot_be_solved_says_so():
    with pytest.raises(NotConverged, match="tolerance of 1e-09 within"):
        fn.ProbabilityFlow(MIXTURE.denoiser(fn.EDM()), tolerance=1e-9, most=50).encode(torch.randn(4, 2))


def test_the_way_between_two_samples_has_both_for_its_ends_in_one_dimension_too():
    from fromnoise.dynamics import interpolate

    for x in (torch.tensor([[-2.0], [-1.5], [1.0], [2.0]]), fn.data.moons(50).x):
        denoiser = fn.GaussianMixture(x.double(), 0.3).denoiser(fn.EDM())
        way = interpolate(denoiser, x[0], x[-1], 5, tolerance=1e-8)
        torch.testing.assert_close(way[[0, -1]].float(), x[[0, -1]], atol=1e-3, rtol=0)
        assert float(way.abs().max()) < 5
