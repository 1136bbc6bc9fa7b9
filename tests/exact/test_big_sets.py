"""Exact answers for large sets and in many dimensions: as precise as brute force, quick, and without a copy."""

import time

import pytest
import torch

import fromnoise as fn
from fromnoise.exact.means import Means
from fromnoise.rng import stream

SIGMAS = (0.002, 0.1, 3.0)


def points(kind: str, n: int = 400, d: int = 300) -> torch.Tensor:
    """Return points `[n, d]` float32: far apart, or in pairs about 1e-3 apart, or also far off."""
    x = torch.rand(n, d, generator=stream(0, "points")) * 2 - 1
    if kind != "random":
        x = torch.cat([x[: n // 2], x[: n // 2] + 1e-4 * torch.randn(n // 2, d, generator=stream(1, "near"))])
    return x + 100 if kind == "far away" else x


def brute_force(x_t, alpha, sigma, x):
    """Return E[x0 | x_t] of a finite set by differences in float64."""
    x_t, x = x_t.double(), x.double()
    squares = torch.stack([(row - alpha * x).square().sum(1) for row in x_t])
    return (-squares / (2 * sigma**2)).softmax(1) @ x


@pytest.mark.parametrize("kind", ["random", "near duplicates", "far away"])
@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-6), (torch.float64, 1e-9)])
def test_the_posterior_mean_in_many_dimensions_is_brute_forces(kind, sigma, dtype, close):
    x = points(kind)
    eps = torch.randn(20, 300, generator=stream(2, "eps"))
    x_t = (0.7 * (x[:20] + x[200:220]) / 2 + sigma * eps).to(dtype)
    found = fn.FiniteSet(x).posterior_mean(x_t, 0.7, sigma)
    assert found.dtype == dtype
    assert (found - brute_force(x_t, 0.7, sigma, x)).abs().max() < close * (1 + x.abs().max())


@pytest.mark.parametrize("kind", ["random", "near duplicates", "far away"])
def test_distances_by_products_are_as_wrong_as_they_say_at_most(kind):
    x, alpha = points(kind), 0.7
    means = Means(x)
    rows = alpha * x[:50].double() + 1e-3 * torch.randn(50, 300, generator=stream(3, "rows")).double()
    squares = (rows[:, None] - alpha * x.double()).square().sum(2)
    assert bool(((means.square_distances(rows, alpha) - squares).abs() <= means.error(rows, alpha)).all())
    pairs = torch.tensor([[0, 3], [7, 207], [9, 9]])
    exact = means.by_differences(rows, alpha, pairs)
    torch.testing.assert_close(exact, squares[pairs[:, 0], pairs[:, 1]], rtol=1e-13, atol=0)


@pytest.mark.parametrize("sigma", [0.5, 2.0, 80.0])
def test_large_pictures_need_no_differences_where_these_are_as_wrong(sigma, monkeypatch):
    """At 3 x 64 x 64 a matrix product is as right as differences can be, which take a hundred times as long."""
    x = points("random", n=100, d=12_288)
    x_t = x[:20].double() + sigma * torch.randn(20, 12_288, generator=stream(12, "eps"), dtype=torch.float64)
    asked = []
    with monkeypatch.context() as patch:
        patch.setattr(Means, "by_differences", lambda *args: asked.append(args))
        found = fn.FiniteSet(x).posterior_mean(x_t, 1.0, sigma)
    assert not asked
    assert (found - brute_force(x_t, 1.0, sigma, x)).abs().max() < 1e-8


def test_a_point_of_the_set_is_found_without_noise():
    """At sigma = 0 twins that differ in one coordinate's seventh digit are told apart."""
    x = points("random")
    x[200:] = x[:200]
    x[200:, 5] += 1e-6
    found = fn.FiniteSet(x).posterior_mean(x[:20], 1.0, torch.zeros(20))
    assert torch.equal(found, x[:20])


def test_a_condition_for_each_row_is_refined_within_its_own_components():
    """The best component of the condition is hundreds of nats below the best of all."""
    x, labels = points("near duplicates"), torch.arange(400) % 2
    law = fn.FiniteSet(x, labels)
    x_t = (x[:20] + 0.001 * torch.randn(20, 300, generator=stream(4, "eps"))).double()
    found = law.posterior_mean(x_t, 1.0, 0.01, 1 - labels[:20])
    for k in (0, 1):
        own = labels[:20] == k
        expected = brute_force(x_t[own], 1.0, 0.01, x[labels != k])
        assert (found[own] - expected).abs().max() < 1e-9


def test_a_large_set_answers_in_float64_as_a_small_one_does():
    """Above 4 million numbers the set is read in parts: the same law, in float32 and float64."""
    x = torch.rand(5000, 900, generator=stream(5, "large"))
    law, x_t = fn.FiniteSet(x), x[:5].double() + torch.randn(5, 900, generator=stream(6, "eps"))
    assert law._in(torch.float64).flat is law.flat
    torch.testing.assert_close(law.posterior_mean(x_t, 1.0, 1.0), brute_force(x_t, 1.0, 1.0, x), rtol=0, atol=1e-9)
    r = ((x_t[:, None] - x.double()).square().sum(2) / -2).softmax(1)
    second = r @ x.double().square() - (r @ x.double()).square()
    torch.testing.assert_close(law.posterior_variance(x_t, 1.0, 1.0), second, rtol=0, atol=1e-9)


def test_the_mean_and_variance_of_a_law_are_those_of_its_covariance():
    x = torch.rand(300, 20, generator=stream(7, "x")).double() + 5
    law = fn.GaussianMixture(x.reshape(300, 4, 5), 0.3, weights=torch.rand(300, generator=stream(8, "w")).double())
    (mean, variance), (again, covariance) = law.mean_and_variance(), law.mean_and_covariance()
    torch.testing.assert_close(mean, again)
    torch.testing.assert_close(variance.flatten(), covariance.diagonal())
    assert law.denoiser(fn.EDM()).sigma_data == pytest.approx(float(variance.mean().sqrt()))


@pytest.mark.alone
def test_five_thousand_pictures_are_quick_and_not_copied(monkeypatch):
    """5,000 of 3 x 32 x 32, 61 MB: no tensor of a third of the set is made, and 64 rows take seconds at most."""
    x = torch.rand(5000, 3, 32, 32, generator=stream(9, "pictures")) * 2 - 1
    x_t = x[:64] + 0.5 * torch.randn(64, 3, 32, 32, generator=stream(10, "eps"))
    largest = 0

    class Watch(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            nonlocal largest
            out = function(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor) and out.untyped_storage().data_ptr() != x.untyped_storage().data_ptr():
                largest = max(largest, out.untyped_storage().nbytes())
            return out

    start = time.process_time()
    with Watch():
        denoiser = fn.FiniteSet(x).denoiser(fn.EDM())
        denoiser.law.posterior_mean(x_t, 1.0, 0.5)
        denoiser.law.posterior_mean(x_t.double(), 1.0, 0.5)
    assert largest < x.nbytes / 3
    assert time.process_time() - start < 5  # measured: 0.6 on one core; a tenth of the 1.5 s of 50,000 and slack
