import math

import pytest
import torch

import fromnoise as fn
from fromnoise.errors import InputError
from fromnoise.likelihood import _last

MIXTURE = fn.GaussianMixture(torch.tensor([[-1.0, 0.3], [1.0, -0.5], [0.2, 1.0]]).double(), 0.2)
X = MIXTURE.sample(3000, seed=1)
NLL = -float(MIXTURE.log_prob(X).mean())
SCHEDULES = [fn.LinearBeta(), fn.CosineBeta(), fn.VP(), fn.EDM(), fn.RectifiedFlow(), fn.Trig()]


@pytest.mark.parametrize("variance", ["small", "large"])
@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
def test_the_bound_lies_above_the_negative_log_likelihood(schedule, variance):
    denoiser = MIXTURE.denoiser(schedule)
    bounds = {}
    for steps in (30, 300):
        bound = bounds[steps] = fn.elbo(denoiser, X, steps=steps, variance=variance)
        assert bound.nats + 4 * bound.error > NLL
        parts = bound.prior + sum(bound.steps) + bound.reconstruction + bound.units
        assert bound.nats == pytest.approx(parts)
        assert all(term > -1e-9 for term in bound.steps)
        assert sum(bound.simple) == pytest.approx(1)
        assert bound.bits_per_dim == pytest.approx(bound.nats / (2 * math.log(2)))
    if not hasattr(schedule, "T"):  # a table's first noise level changes with the grid, and its reconstruction with it
        assert bounds[300].nats < bounds[30].nats + 4 * bounds[30].error


def test_on_a_gaussian_the_bound_is_the_closed_form():
    # one coordinate, exact denoiser k x_t: E|x0 - x0_hat|^2 = std^2 sigma^2/(alpha^2 std^2 + sigma^2)
    std, schedule = 0.7, fn.CosineBeta(T=50)
    law = fn.GaussianMixture(torch.zeros(1, 1).double(), std)
    found = fn.elbo(law.denoiser(schedule), law.sample(100_000, seed=0), draws=20_000)
    grid, expected = schedule.grid(50), 0.0
    for t, s in zip(grid, grid[1:], strict=False):
        alpha, sigma = schedule.scales(t)
        left = std**2 * sigma**2 / (alpha**2 * std**2 + sigma**2)
        if s > 0:
            expected += (schedule.noise_level(s) ** -2 - schedule.noise_level(t) ** -2) / 2 * left
        else:
            expected += left / (2 * sigma**2) + 0.5 * math.log(2 * math.pi * sigma**2)
    expected += (schedule.alpha(1.0) / schedule.sigma(1.0)) ** 2 * std**2 / 2
    assert abs(found.nats - expected) < 4 * found.error + 1e-3
    assert found.error < 0.02


@pytest.mark.unchecked
def test_units_are_the_datas_own():
    wide = fn.Dataset(100 * X.float())
    scaling = fn.data.Affine().fitted(wide.x)
    law = fn.GaussianMixture(scaling.exactly_into(100 * MIXTURE.means).double(), float(100 * 0.2 / scaling.std))
    bound = fn.elbo(law.denoiser(fn.RectifiedFlow(), scaling), wide, variance="large")
    assert bound.nats == pytest.approx(NLL + 2 * math.log(100), abs=4 * bound.error + 0.1)
    exact = fn.log_likelihood(law.denoiser(fn.RectifiedFlow(), scaling), wide.x[:8], tolerance=1e-8)
    torch.testing.assert_close(exact, MIXTURE.log_prob(X[:8]) - 2 * math.log(100), rtol=0, atol=1e-4)


@pytest.mark.unchecked
def test_labels_are_used_as_conditions():
    labels = torch.tensor([0, 0, 1])
    law = fn.GaussianMixture(MIXTURE.means, 0.2, labels=labels, label_names=("a", "b"))
    only_b = law.only(1).sample(500, seed=3)
    data = fn.Dataset(only_b.float(), labels=torch.ones(500, dtype=torch.long), label_names=("a", "b"))
    told = fn.elbo(law.denoiser(fn.Trig()), data, variance="large")
    untold = fn.elbo(law.denoiser(fn.Trig()), fn.Dataset(data.x), variance="large")
    assert untold.nats - told.nats == pytest.approx(math.log(3), abs=0.2)  # what a label is worth here


def test_wrong_input_is_refused():
    denoiser = MIXTURE.denoiser(fn.EDM())
    for call, words in (
        (lambda: fn.elbo(denoiser, torch.randn(9, 3)), "shape"),
        (lambda: fn.elbo(denoiser, X, draws=1), "draws"),
        (lambda: fn.elbo(denoiser, X, steps=0), "steps"),
        (lambda: fn.log_likelihood(denoiser, torch.randn(9, 3)), "shape"),
    ):
        with pytest.raises(InputError, match=words):
            call()


PIXELS = torch.randint(0, 256, (40, 1, 3, 3), generator=torch.Generator().manual_seed(5), dtype=torch.uint8)


@pytest.mark.parametrize("kind", ["scaled", "channels", "signed"])
def test_the_last_step_gives_the_values_of_a_pixel_probabilities_that_sum_to_1(kind):
    codec = fn.data.Pixels(kind).fitted(PIXELS)
    every = torch.arange(256, dtype=torch.uint8).reshape(256, 1, 1, 1)
    z = codec.into(every).double()
    low, high = codec.cells(z)
    assert torch.allclose(low.flatten()[1:], high.flatten()[:-1], atol=1e-4 * codec.spacing)
    assert (low.flatten()[0], high.flatten()[-1]) == (-math.inf, math.inf)
    for centre in (-9.0, -0.7, 0.0, 1.3, 40.0):
        for t in (1e-3, 0.2, 0.9):
            costs = _last(fn.VP(), t, z, torch.full_like(z, centre), codec)
            assert torch.isfinite(costs).all()
            assert float(torch.exp(-costs).sum()) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("schedule", [fn.LinearBeta(), fn.EDM(), fn.VP()], ids=lambda s: type(s).__name__)
def test_pictures_cost_at_least_their_entropy_and_by_the_exact_denoiser_little_more(schedule):
    codec = fn.data.Pixels().fitted(PIXELS)
    law = fn.exact.mixture_of_data(fn.Dataset(PIXELS), codec)
    bound = fn.elbo(law.denoiser(schedule, codec), PIXELS, draws=64, steps=200)
    least = math.log2(len(PIXELS)) / 9  # bits to say which of the pictures it is
    error = bound.error / (9 * math.log(2))
    assert bound.bits_per_dim > least - 4 * error
    assert bound.rate == pytest.approx(least, abs=0.05 + 4 * error)
    assert bound.units is None
    assert "units" not in str(bound)


def test_a_model_that_knows_nothing_pays_8_bits_for_even_pixels():
    codec = fn.data.Pixels().fitted(PIXELS)
    even = torch.randint(0, 256, (4000, 1, 1, 1), generator=torch.Generator().manual_seed(6), dtype=torch.uint8)
    law = fn.exact.mixture_of_data(fn.Dataset(torch.arange(256, dtype=torch.uint8).reshape(256, 1, 1, 1)), codec)
    bound = fn.elbo(law.denoiser(fn.EDM(), codec), even, draws=512, steps=100)
    assert bound.bits_per_dim > 8 - 4 * bound.error / math.log(2)
    assert bound.bits_per_dim < 10
