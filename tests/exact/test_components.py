"""Round and full components: one interface, and the same law where the covariances are isotropic."""

import pytest
import torch

import fromnoise as fn
from fromnoise.exact.components import Full, Round
from fromnoise.exact.means import Means
from fromnoise.rng import stream

K, D = 6, 4


def pair(k=K, d=D) -> tuple[Round, Full]:
    """Return round components and full ones of the same covariances, with axes turned at random."""
    g = stream(0, "pair")
    means, variances = Means(torch.randn(k, d, generator=g).double()), torch.rand(k, generator=g).double() + 0.1
    vectors = torch.linalg.qr(torch.randn(k, d, d, generator=g).double())[0]
    return Round(means, variances), Full(means, (variances[:, None].expand(k, d), vectors))


def inputs(b=9):
    g = stream(1, "inputs")
    rows, r = torch.randn(b, D, generator=g).double(), torch.rand(b, K, generator=g).double().softmax(1)
    return rows, r, torch.rand(K, generator=g).double().log_softmax(0)


@pytest.mark.parametrize("alpha", [0.7, torch.linspace(0.1, 1, 9).double()[:, None]])
def test_full_components_of_isotropic_covariance_are_round_ones(alpha):
    rows, r, log_weights = inputs()
    w, answers = log_weights.exp(), []
    for one in pair():
        mean, variance = one.mean_and_variance(w)
        answers.append((
            one.log_joint(rows, alpha, 0.3, log_weights), one.posterior_mean(r, rows, alpha, 0.3), one.score(r, rows),
            one.posterior_variance(r, rows, alpha, 0.3),
            mean, variance, one.covariance(w, mean), one.trace_of_square(w, mean, variance.sum()),
            one.noised(0.5, 0.2).log_joint(rows, 1.0, 0.0, log_weights),
            one.take(torch.arange(K) < 3).score(r[:, :3], rows),
            one.to(torch.float32).points.flat,
        ))  # fmt: skip
    for ours, theirs in zip(*answers, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("which", [0, 1])
def test_noised_components_are_those_of_the_scales(which):
    one = pair()[which]
    rows, _, log_weights = inputs()
    noised = one.noised(0.6, 0.4)
    torch.testing.assert_close(
        noised.log_joint(rows, 1.0, 0.0, log_weights), one.log_joint(rows, 0.6, 0.4, log_weights)
    )


@pytest.mark.parametrize("which", [0, 1])
def test_draws_have_the_components_moments(which):
    """100,000 draws of one component: standard errors about 0.003."""
    one, n = pair()[which], 100_000
    k = torch.full((n,), 2)
    x = one.draw(k, torch.randn(n, D, generator=stream(2, "draw")).double())
    own = one.take(torch.tensor([2]))
    w = torch.ones(1).double()
    torch.testing.assert_close(x.mean(0), one.points.flat[2], atol=0.02, rtol=0)
    torch.testing.assert_close(x.T.cov(), own.covariance(w, one.points.flat[2]), atol=0.03, rtol=0)


def test_points_are_round_components_without_variance():
    rows, r, _ = inputs()
    points = Round(pair()[0].points, torch.zeros(K).double())
    assert points.are_points
    assert not any(one.are_points for one in pair())
    torch.testing.assert_close(points.posterior_mean(r, rows, 0.7, 0.3), r @ points.points.flat)
    shrink, gain = points.shrink_and_gain(0.7, 0.3)
    assert bool((shrink == 1).all())
    assert bool((gain == 0).all())


def test_a_law_shows_its_components():
    x = torch.randn(K, D, generator=stream(3, "x"))
    round_law, full_law = (
        fn.GaussianMixture(x, 0.5),
        fn.GaussianMixture(x, covariances=0.25 * torch.eye(D).expand(K, D, D)),
    )
    assert isinstance(round_law.components, Round)
    assert isinstance(full_law.components, Full)
    assert torch.equal(round_law.variances, torch.full((K,), 0.25))
    assert round_law.axes is None
    assert full_law.variances is None
    assert torch.equal(full_law.axes[0], torch.full((K, D), 0.25))
    assert round_law.flat.data_ptr() == x.data_ptr() == round_law.means.data_ptr()
