"""The exact answers against autograd, Bayes' rule by brute force, and Monte Carlo."""

import math

import pytest
import torch

import fromnoise as fn
from fromnoise import process
from fromnoise.errors import LabelError
from fromnoise.exact import mixture_of_data
from fromnoise.rng import stream


def mixture(kind: str, k: int = 5, d: int = 3) -> fn.GaussianMixture:
    g = torch.Generator().manual_seed(1)
    means, weights = torch.randn(k, d, generator=g).double(), torch.rand(k, generator=g).double() + 0.1
    if kind == "round":
        return fn.GaussianMixture(means, torch.rand(k, generator=g).double() * 0.5 + 0.1, weights=weights)
    root = torch.randn(k, d, d, generator=g).double() * 0.4
    return fn.GaussianMixture(means, covariances=root @ root.mT + 0.01 * torch.eye(d).double(), weights=weights)


@pytest.mark.parametrize("kind", ["round", "full"])
@pytest.mark.parametrize("t", [0.001, 0.2, 0.7, 1.0])
def test_the_score_is_the_gradient_of_log_prob(kind, t):
    law = mixture(kind).noised(fn.CosineBeta(), t)
    x = torch.randn(50, 3, generator=torch.Generator().manual_seed(2)).double().requires_grad_()
    (gradient,) = torch.autograd.grad(law.log_prob(x).sum(), x)
    assert ((gradient - law.score(x)).abs() / (1 + gradient.abs())).max() < 1e-10


@pytest.mark.parametrize("kind", ["round", "full"])
@pytest.mark.parametrize("schedule", [fn.LinearBeta(), fn.EDM(), fn.RectifiedFlow()])
def test_the_denoiser_is_tweedies_formula(kind, schedule):
    law, t = mixture(kind), 0.4
    alpha, sigma = schedule.scales(t)
    x = alpha * law.sample(40) + sigma * torch.randn(40, 3, generator=stream(0, "x")).double()
    tweedie = (x + sigma**2 * law.noised(schedule, t).score(x)) / alpha
    torch.testing.assert_close(law.denoiser(schedule)(x, t), tweedie, rtol=1e-9, atol=1e-9)


def test_a_finite_set_answers_the_weighted_mean():
    points = torch.randn(7, 2).double()
    schedule = fn.LinearBeta()
    alpha, sigma = schedule.scales(0.3)
    x = torch.randn(11, 2).double()
    weights = torch.softmax(-((x[:, None] - alpha * points).square().sum(2)) / (2 * sigma**2), dim=1)
    torch.testing.assert_close(fn.FiniteSet(points).denoiser(schedule)(x, 0.3), weights @ points)


def test_density_integrates_to_one_and_has_the_right_moments():
    law = fn.GaussianMixture(torch.tensor([[-1.0], [2.0]]).double(), torch.tensor([0.3, 0.5]).double())
    x = torch.linspace(-6, 8, 20001, dtype=torch.float64)[:, None]
    p = law.log_prob(x).exp() * (14 / 20000)
    mean, covariance = law.mean_and_covariance()
    assert float(p.sum()) == pytest.approx(1, abs=1e-9)
    assert float((p * x[:, 0]).sum()) == pytest.approx(float(mean), abs=1e-9)
    assert float((p * (x[:, 0] - mean) ** 2).sum()) == pytest.approx(float(covariance), abs=1e-9)


@pytest.mark.parametrize("kind", ["round", "full"])
def test_samples_have_the_laws_moments(kind):
    law = mixture(kind)
    x = law.sample(200_000)  # standard errors about 0.003
    mean, covariance = law.mean_and_covariance()
    torch.testing.assert_close(x.mean(0), mean, atol=0.02, rtol=0)
    torch.testing.assert_close(x.T.cov(), covariance, atol=0.04, rtol=0)


def test_labels_condition_the_law():
    x, labels = torch.randn(30, 2).double(), torch.arange(30) % 3
    law = fn.FiniteSet(x, labels)
    denoiser = law.denoiser(fn.CosineBeta())
    x_t = torch.randn(9, 2).double()
    for k in range(3):
        alone = fn.FiniteSet(x[labels == k]).denoiser(fn.CosineBeta())(x_t, 0.4)
        torch.testing.assert_close(denoiser(x_t, 0.4, torch.tensor(k)), alone)
        torch.testing.assert_close(denoiser(x_t, 0.4, torch.full((9,), k)), alone)
    null = denoiser.read("1", 9).expand(9).null()
    torch.testing.assert_close(denoiser(x_t, 0.4, null), denoiser(x_t, 0.4))


def test_condition_vectors_condition_the_law():
    x, vectors = torch.randn(30, 2).double(), torch.tensor([[0.0, 1.0], [0.5, 2.0], [-3.0, 1.0]])[torch.arange(30) % 3]
    data = fn.Dataset(x, name="told").conditioned(vectors)
    denoiser = fn.FiniteSet(data).denoiser(fn.CosineBeta())
    x_t = torch.randn(9, 2).double()
    each = vectors[:9]
    together = denoiser(x_t, 0.4, each)
    for k in range(3):
        alone = fn.FiniteSet(x[k::3]).denoiser(fn.CosineBeta())(x_t, 0.4)
        torch.testing.assert_close(denoiser(x_t, 0.4, vectors[k]), alone)
        torch.testing.assert_close(together[k::3], alone[k::3])
    with pytest.raises(LabelError, match="no part of this exact law has"):
        denoiser(x_t, 0.4, torch.tensor([7.0, 7.0]))


def test_one_time_for_all_rows_equals_one_each():
    denoiser = mixture("round").denoiser(fn.LinearBeta())
    x, t = torch.randn(20, 3).double(), torch.rand(20).double()
    one_by_one = torch.cat([denoiser(x[i : i + 1], float(t[i])) for i in range(20)])
    torch.testing.assert_close(denoiser(x, t), one_by_one)


@pytest.mark.parametrize("kind", ["round", "full"])
def test_posterior_variance_is_what_remains_unknown(kind):
    law, schedule, t = mixture(kind), fn.CosineBeta(), 0.5
    alpha, sigma = schedule.scales(t)
    n = 200_000
    x0 = law.sample(n)
    x_t = alpha * x0 + sigma * torch.randn(n, 3, generator=stream(1, "e")).double()
    error = (x0 - law.denoiser(schedule)(x_t, t)).square().mean(0)
    torch.testing.assert_close(error, law.posterior_variance(x_t, alpha, sigma).mean(0), rtol=0.02, atol=0)


def test_exact_reverse_steps_lead_back_to_the_law():
    # q(x_s | x_t) drawn exactly, in five big steps, where DDPM would be far off
    law, schedule = mixture("round", d=2), fn.CosineBeta()
    g = stream(3, "back")
    n = 20_000
    x = torch.randn(n, 2, generator=g).double()
    grid = [1.0, 0.8, 0.5, 0.3, 0.1, 0.0]
    for t, s in zip(grid, grid[1:], strict=False):
        alpha, sigma = schedule.scales(t)
        x0 = law.draw_x0(x, alpha, sigma, g)
        x = process.take_step_back(schedule, x, x0, t, s, noise=torch.randn(n, 2, generator=g).double())
    mean, covariance = law.mean_and_covariance()
    torch.testing.assert_close(x.mean(0), mean, atol=0.05, rtol=0)
    torch.testing.assert_close(x.T.cov(), covariance, atol=0.08, rtol=0)


@pytest.mark.parametrize("predict", ["eps", "x0", "v", "flow", "edm"])
@pytest.mark.parametrize("weighting", ["uniform", "snr", "min-snr", "truncated-snr", "edm", "elbo"])
def test_the_floor_is_the_exact_denoisers_own_loss(predict, weighting):
    from fromnoise.process import prediction
    from fromnoise.training import Objective, time_laws, weightings

    data, schedule = fn.data.spiral(200).x, fn.CosineBeta()
    law = fn.FiniteSet(data.double())
    floor = fn.loss_floor(law, schedule, predict, weighting, sigma_data=1.0, draws=40_000)
    goal = Objective(schedule, prediction(predict), time_laws.build("stratified"), weightings.build(weighting))
    n = 40_000
    g = stream(5, "own")
    x0 = data[torch.randint(200, (n,), generator=g)].double()
    batch = goal.noised(x0, goal.times.draw(schedule, n, g), torch.randn(x0.shape, generator=g, dtype=x0.dtype))
    x0_hat = law.denoiser(schedule)(batch.x_t, batch.t)
    alpha, sigma = (v[:, None] for v in batch.scales)
    eps_hat = (batch.x_t - alpha * x0_hat) / sigma
    says = goal.prediction.target(x0_hat, eps_hat, alpha, sigma)
    loss = (says - batch.target).square().mean(1) * (1 if batch.weight is None else batch.weight)
    error = float(loss.std()) / math.sqrt(n)
    assert abs(float(loss.mean()) - floor.value) < 5 * math.hypot(error, floor.error)


def test_the_articles_floors():
    # 0.41 and 0.73 (sum over two coordinates) for 300 points, 0.42 and 0.76 for the smooth spiral, not scaled
    for schedule, points, smooth in ((fn.LinearBeta(), 0.41, 0.42), (fn.CosineBeta(), 0.73, 0.76)):
        assert 2 * fn.loss_floor(mixture_of_data(fn.data.spiral(300)), schedule).value == pytest.approx(
            points, abs=0.03
        )
        assert 2 * fn.loss_floor(mixture_of_data(fn.data.spiral(100_000)), schedule).value == pytest.approx(
            smooth, abs=0.01
        )


def test_the_smooth_spiral_is_its_mixture():
    # the law of a curve with jitter against a finite set of 200,000 of its points, far from sigma = 0
    data = fn.data.spiral(200_000)
    law = mixture_of_data(data)
    assert law.note == "the true distribution"
    many = fn.FiniteSet(data.x)
    x = fn.data.spiral(300, seed=9).x + 0.3 * torch.randn(300, 2, generator=stream(0, "n"))
    ours, theirs = (m.posterior_mean(x, 1.0, 0.3) for m in (law, many))
    assert (ours - theirs).abs().max() < 0.02


def test_a_hundred_thousand_points_need_no_square_matrix():
    x = torch.randn(100_000, 2)
    assert fn.FiniteSet(x).denoiser(fn.LinearBeta())(x[:500], 0.5).shape == (500, 2)
