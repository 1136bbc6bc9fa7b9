import itertools
import math
import time

import numpy as np
import pytest
import torch

import fromnoise as fn
from fromnoise import metrics
from fromnoise.errors import InputError
from fromnoise.metrics import (
    energy_distance,
    low_noise,
    precision_recall,
    sliced_wasserstein2,
    wasserstein2,
    wasserstein_floor,
)  # fmt: skip


def test_wasserstein_is_the_best_matching():
    a, b = torch.randn(6, 2), torch.randn(6, 2)
    best = min(
        sum(float((a[i] - b[p[i]]).square().sum()) for i in range(6)) / 6 for p in itertools.permutations(range(6))
    )
    assert wasserstein2(a, b) == pytest.approx(math.sqrt(best), rel=1e-6)
    with pytest.raises(InputError, match="one size"):
        wasserstein2(a, b[:5])


@pytest.mark.parametrize(
    "measure", [wasserstein2, sliced_wasserstein2, energy_distance, precision_recall, metrics.diversity]
)
def test_sets_are_given_as_arrays_or_as_data_and_are_alike(measure):
    x, data = torch.rand(50, 1, 4, 4), fn.Dataset(torch.rand(50, 1, 4, 4))
    assert measure(x, data) == measure(x, data.x) == measure(x.numpy(), data.x.tolist())
    for other in (torch.rand(50, 2, 4, 4), torch.rand(50), torch.empty(0, 1, 4, 4)):
        with pytest.raises(InputError, match="alike"):
            measure(x, other)


def test_diversity_needs_data_that_vary():
    for data in (torch.ones(5, 2), torch.rand(1, 2)):
        with pytest.raises(InputError, match="all alike"):
            metrics.diversity(torch.rand(5, 2), data)


@pytest.mark.parametrize("distance", [wasserstein2, sliced_wasserstein2])
def test_a_shift_is_its_length(distance):
    x = torch.randn(300, 3)
    shift = torch.tensor([1.0, -2.0, 0.5])
    assert distance(x, x + shift) == pytest.approx(
        float(shift.norm()), rel=0.1 if distance is sliced_wasserstein2 else 1e-5
    )
    assert distance(x, x) == pytest.approx(0, abs=1e-6)


def test_energy_distance_is_its_definition_and_small_for_one_distribution():
    a, b = torch.randn(40, 2), torch.randn(50, 2) + 1
    mean = torch.cdist(a, b).mean()
    aa, bb = torch.cdist(a, a).mean(), torch.cdist(b, b).mean()
    assert energy_distance(a, b) == pytest.approx(float((2 * mean - aa - bb).sqrt()), rel=1e-4)
    many = [energy_distance(torch.randn(500, 2), torch.randn(500, 2)) for _ in range(8)]
    assert 0 < max(many) < 0.2


def test_precision_and_recall_distinguish_missing_from_wrong_samples():
    modes = fn.data.eight_gaussians(4000)
    half = modes.x[modes.x[:, 0] > 0]
    precision, recall = precision_recall(half[:1500], modes.x[:1500])
    assert precision > 0.95
    assert recall < 0.7
    scattered = torch.randn(1500, 2) * 3
    precision, recall = precision_recall(scattered, modes.x[:1500])
    assert precision < 0.5


def test_fresh_data_stand_at_their_floor():
    data = fn.data.spiral(100)
    found = fn.evaluate(data.draw(500, seed=77).x, data, pairs=8)
    for measure in found.measures:
        assert abs(measure.ratio - 1) < 4 * measure.ratio_error + 0.02, str(measure)
    assert "ratio" in str(found)
    assert found["2-Wasserstein"].floor > 0


def test_wrong_samples_stand_far_from_their_floor():
    data = fn.data.spiral(100)
    found = fn.evaluate(torch.randn(500, 2), data, pairs=3)
    assert found["2-Wasserstein"].ratio > 2
    assert found["precision"].ratio < 0.5


def test_a_set_of_unknown_distribution_is_compared_with_its_halves():
    data = fn.data.open(fn.data.moons(1000).x)
    found = fn.evaluate(fn.data.moons(700, seed=5).x, data, pairs=3)
    assert found.n == 500
    assert "the 1,000 samples" in found.against
    assert found["2-Wasserstein"].ratio == pytest.approx(1, abs=0.6)


def test_large_sets_are_sliced():
    data = fn.data.moons(100)
    found = fn.evaluate(data.draw(2500, 1).x, data, pairs=2)
    assert found.measures[0].name == "sliced 2-Wasserstein"


def test_low_noise_ratios_are_one_at_the_truth_and_repeat():
    data = fn.data.spiral(100)
    floor = wasserstein_floor(data, 400)
    even = [low_noise(data.draw_stratified(400, seed=s).x, data, floor=floor).ratio for s in (1, 2)]
    assert max(even) < 1.04
    shifted = [low_noise(data.draw_stratified(400, seed=s).x + 0.2, data, floor=floor) for s in (1, 2)]
    for s in shifted:
        assert s.gap == pytest.approx(0.2 * math.sqrt(2), rel=0.05)
        assert s.ratio == s.distance / s.floor > 1
    fresh = [wasserstein2(data.draw(400, 50 + i).x + 0.2, data.draw(400, i).x) for i in range(6)]
    assert shifted[0].distance == pytest.approx(sum(fresh) / 6, rel=0.1)  # what a comparison with fresh draws shows


@pytest.mark.parametrize(("x", "words"), [(torch.zeros(50, 3), "shape"), (torch.zeros(5, 2), "too few"),
                                          (torch.full((50, 2), math.nan), "NaN")])  # fmt: skip
def test_samples_that_cannot_be_measured_are_refused(x, words):
    with pytest.raises(InputError, match=words):
        fn.evaluate(x, fn.data.spiral(100))


def test_samples_of_any_form_are_measured():
    data = fn.data.spiral(300)
    found = str(fn.evaluate(data.x, data))
    assert str(fn.evaluate(data.x.numpy(), data)) == found
    assert str(fn.evaluate(data.x.tolist(), data)) == found
    with pytest.raises(InputError, match="5 samples of the data are too few"):
        fn.evaluate(data.x, data.x[:5])


def test_sets_whose_points_coincide_are_matched_quickly():
    point, cloud = torch.zeros(1500, 2), torch.randn(1500, 2, dtype=torch.float64)
    began = time.perf_counter()
    one, other = wasserstein2(point, cloud), wasserstein2(cloud, point)
    assert time.perf_counter() - began < 10  # it took 15 s a piece
    assert one == pytest.approx(other)
    assert one == pytest.approx(float(cloud.square().sum(1).mean().sqrt()))


@pytest.mark.unchecked
def test_the_ratios_interval_holds_one_for_samples_that_are_fresh_draws():
    data, held = fn.data.spiral(100), {"2-Wasserstein": 0, "energy distance": 0, "precision": 0}
    for seed in range(200):
        found = fn.evaluate(data.draw(80, seed=100_000 + seed).x, data, seed=seed)
        for name in held:
            held[name] += abs(found[name].ratio - 1) <= 1.96 * found[name].ratio_error
    assert all(count >= 0.93 * 200 for count in held.values()), held  # without the samples' own part: about 160


def test_a_table_is_measured_in_its_columns_standard_deviations():
    units = torch.tensor([1e6, 1.0, 1e-3]).double()
    data, fresh = (torch.randn(600, 3, dtype=torch.float64) for _ in range(2))
    wrong = fresh * torch.tensor([1.0, 1.0, 0.0])  # the column of the smallest numbers is lost
    of_units = {}
    for name, x in (("fresh", fresh), ("wrong", wrong)):
        plain, other = fn.evaluate(x, data), fn.evaluate(x * units, data * units)
        assert other["2-Wasserstein"].value == pytest.approx(plain["2-Wasserstein"].value, rel=1e-6)
        assert "standard deviations" in str(other)
        of_units[name] = other["2-Wasserstein"].ratio
    assert of_units["fresh"] < 1.15
    assert of_units["wrong"] > 1.5
    points = torch.randn(100, 2)
    assert "the data's units" in str(fn.evaluate(points, 3 * points))


def test_samples_are_compared_with_what_was_held_out_where_there_is_enough():
    generator = torch.Generator().manual_seed(0)
    x, data, held = (torch.randn(n, 2, generator=generator) for n in (100, 2000, 300))
    found = fn.evaluate(x, data, held_out=held)
    assert found.against.startswith("100 held-out samples")
    assert found["2-Wasserstein"].ratio == pytest.approx(1, abs=0.3)
    assert fn.evaluate(x, data, held_out=held[:50]).against.startswith("the 2,000 samples")


@pytest.mark.unchecked
def test_every_measure_takes_arrays():
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=(40, 3)) for _ in range(2))
    for measure in (
        metrics.wasserstein2, metrics.sliced_wasserstein2, metrics.energy_distance, metrics.precision_recall,
        metrics.diversity, metrics.frechet_distance, metrics.kernel_distance, metrics.manifold_precision_recall,
    ):  # fmt: skip
        assert measure(a, b) == pytest.approx(measure(torch.tensor(a), torch.tensor(b)))
    x, y = (rng.integers(0, 256, (4, 1, 9, 9), np.uint8) for _ in range(2))
    for measure in (metrics.psnr, metrics.ssim):
        assert measure(x, y) == pytest.approx(measure(torch.tensor(x), torch.tensor(y)))
    source = fn.data.open(a)
    assert torch.equal(metrics.nearest(source, b).rows, metrics.nearest(source, torch.tensor(b)).rows)
    for odd in (b[:, :2], b[:0]):
        with pytest.raises(InputError, match="samples like these data are"):
            metrics.nearest(source, odd)


def test_what_cannot_be_compared_is_refused():
    x = fn.data.moons(60).x
    with pytest.raises(InputError, match="pairs must be"):
        fn.evaluate(x, "moons", pairs=0)
    with pytest.raises(InputError, match="what was held out has shape"):
        fn.evaluate(x, x, held_out=torch.zeros(60, 3))


def test_the_ratio_of_nothing_has_an_error():
    measure = metrics.Measure("precision", 0.0, 0.04, 0.8, 0.02)
    assert (measure.ratio, measure.ratio_error) == (0, pytest.approx(0.05))
    measure = metrics.Measure("precision", 0.4, 0.04, 0.8, 0.08)
    assert measure.ratio_error == pytest.approx(0.5 * math.hypot(0.1, 0.1))
    assert math.isnan(metrics.Measure("distance", 1.0, 0.1, 0.0, 0.0).ratio_error)
