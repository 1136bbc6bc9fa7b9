"""What is measured of data: means, variances, in how many directions they vary."""

import pytest
import torch

import fromnoise as fn
from fromnoise.data import effective_dimension, moments
from fromnoise.data.moments import mean_and_variance
from fromnoise.rng import stream


def normal(n, d, seed=0):
    return torch.randn(n, d, generator=stream(seed, "x"))


@pytest.mark.parametrize("shape", [(200, 5), (20, 50), (3000, 3)])
def test_it_is_the_covariances(shape):
    x = normal(*shape).double() * torch.linspace(0.1, 2, shape[1])
    values = torch.linalg.eigvalsh(x.T.cov(correction=0))
    expected = float(values.sum() ** 2 / values.square().sum())
    assert effective_dimension(x) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("d", [1, 2, 7])
def test_equal_variance_in_d_directions_gives_d(d):
    corners = torch.cat([torch.eye(d), -torch.eye(d)])
    turned = corners @ torch.linalg.qr(normal(9, 9)[:, :d])[0].T  # d of nine dimensions
    assert effective_dimension(turned) == pytest.approx(d, rel=1e-5)


@pytest.mark.parametrize("n", [300, 6000])
def test_scale_and_shift_do_not_matter(n):
    x = normal(n, 6).double() * torch.arange(1, 7)
    own = effective_dimension(x)
    for scale, shift in ((1e-6, 0.0), (1e5, 3.0), (1.0, 1e4), (-2.0, -7.0)):
        assert effective_dimension(scale * x + shift) == pytest.approx(own, rel=1e-6)


@pytest.mark.parametrize("x", [normal(1, 4), torch.full((5, 3), 0.1), torch.full((5000, 3), 0.1), torch.zeros(2, 1)])
def test_it_is_one_for_data_that_do_not_vary(x):
    assert effective_dimension(x) == 1.0


def test_more_rows_than_are_taken_are_estimated_without_bias():
    """60 directions of 4,096 draws: the plain sample covariance would say 59.1; the spread of ours is about 0.2."""
    x = normal(50_000, 60).reshape(50_000, 3, 4, 5)
    assert effective_dimension(x) == pytest.approx(60, abs=0.6)
    assert effective_dimension(x) == effective_dimension(x.clone())


@pytest.mark.parametrize("law", ["points", "round", "full"])
def test_an_exact_denoiser_knows_its_laws(law):
    means, weights = normal(40, 4).double(), torch.rand(40, generator=stream(1, "w")).double() + 0.1
    root = normal(160, 4, seed=2).double().reshape(40, 4, 4)
    law = {
        "points": lambda: fn.FiniteSet(means),
        "round": lambda: fn.GaussianMixture(means, torch.linspace(0.1, 2, 40).double(), weights=weights),
        "full": lambda: fn.GaussianMixture(means, covariances=root @ root.mT, weights=weights),
    }[law]()
    covariance = law.mean_and_covariance()[1]
    expected = float(covariance.trace() ** 2 / covariance.square().sum())
    assert law.denoiser(fn.EDM()).effective_dimension == pytest.approx(expected, rel=1e-9)
    if law.is_finite_set:
        assert effective_dimension(means) == pytest.approx(expected, rel=1e-9)


def test_weights_are_drawn_by(monkeypatch):
    """Above as many rows as are taken, the components are drawn by their weights."""
    monkeypatch.setattr(moments, "_ROWS", 500)
    means = torch.cat([normal(600, 8), 50 * normal(600, 8, seed=1)]).double()
    weights = torch.cat([torch.ones(600), torch.zeros(600)]).double()
    own = fn.GaussianMixture(means[:600], 0.5).effective_dimension()
    assert fn.GaussianMixture(means, 0.5, weights=weights).effective_dimension() == pytest.approx(own, rel=0.05)


def test_mean_and_variance_are_exact_far_from_the_origin():
    x = normal(1000, 3) + 1000
    mean, variance = mean_and_variance(x)
    torch.testing.assert_close(mean, x.double().mean(0))
    torch.testing.assert_close(variance, x.double().var(0, correction=0), rtol=1e-10, atol=0)
