"""Distances of features: closed forms, invariances, what their floors are, and the judge."""

import math

import pytest
import torch

import fromnoise as fn
from fromnoise.data.views import Flipped
from fromnoise.errors import InputError
from fromnoise.metrics import Measure, PixelComponents, frechet_distance, kernel_distance, manifold_precision_recall
from fromnoise.training.judge import judge_of


def normal(n, d, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def whitened(x):
    """Rows of mean 0 and covariance 1, exactly."""
    x = x - x.mean(0)
    return torch.linalg.solve_triangular(torch.linalg.cholesky(torch.cov(x.T)), x.T, upper=False).T


def test_the_frechet_distance_is_that_of_two_gaussians():
    a, b = whitened(normal(500, 3)), whitened(normal(400, 3, 1))
    std, shift = torch.tensor([2.0, 0.5, 1.0]).double(), torch.tensor([1.0, -2.0, 0.5]).double()
    expected = float(shift.square().sum() + (std - 1).square().sum())
    assert frechet_distance(a, b * std + shift) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(a, b * std) == pytest.approx(frechet_distance(b * std, a), rel=1e-9)


def test_covariances_need_not_commute():
    # tr (A^1/2 B A^1/2)^1/2 of 2 x 2 matrices: sqrt(tr(AB) + 2 sqrt(det(AB)))
    turn = torch.tensor([[math.cos(0.7), -math.sin(0.7)], [math.sin(0.7), math.cos(0.7)]]).double()
    first, second = torch.diag(torch.tensor([3.0, 1.0]).double()), turn @ torch.diag(torch.tensor([2.0, 0.3]).double())
    a, b = whitened(normal(300, 2)) @ first.T, whitened(normal(300, 2, 1)) @ second.T
    A, B = first @ first.T, second @ second.T
    both = torch.sqrt((A @ B).trace() + 2 * torch.sqrt(torch.linalg.det(A @ B)))
    assert frechet_distance(a, b) == pytest.approx(float(A.trace() + B.trace() - 2 * both), rel=1e-9)


def test_with_fewer_samples_than_features_it_is_finite():
    assert 0 < frechet_distance(normal(5, 20), normal(7, 20, 1)) < 1000


def test_the_kernel_distance_is_the_sum_over_pairs_that_are_not_one_and_the_same():
    a, b = normal(12, 3), normal(9, 3, 1)

    def k(x, y):
        return (x @ y / 3 + 1) ** 3

    own = sum(k(a[i], a[j]) for i in range(12) for j in range(12) if i != j) / (12 * 11)
    other = sum(k(b[i], b[j]) for i in range(9) for j in range(9) if i != j) / (9 * 8)
    cross = sum(k(x, y) for x in a for y in b) / (12 * 9)
    assert kernel_distance(a, b) == pytest.approx(float(own + other - 2 * cross), rel=1e-9)


def test_the_kernel_distance_has_no_bias():
    """200 pairs of 50 draws of one distribution: the mean lies within three standard errors of 0."""
    found = torch.tensor([kernel_distance(normal(50, 4, 2 * i), normal(50, 4, 2 * i + 1)) for i in range(200)])
    assert abs(float(found.mean())) < 3 * float(found.std()) / 200**0.5
    assert float((found < 0).double().mean()) > 0.2


def test_precision_and_recall_of_the_same_and_of_far_sets():
    a = normal(300, 5)
    assert manifold_precision_recall(a, a) == (1, 1)
    assert manifold_precision_recall(a, a + 100) == (0, 0)
    half = torch.cat([a[:150], a[:150] + 100])  # half of the samples are the data's, half are nowhere near
    precision, recall = manifold_precision_recall(half, a)
    assert precision == pytest.approx(0.5, abs=0.02)
    assert recall > 0.5


def test_what_cannot_be_measured_is_refused():
    for a, b in ((normal(5, 2), normal(5, 3)), (normal(1, 2), normal(5, 2)), (torch.zeros(5), torch.zeros(5))):
        with pytest.raises(InputError):
            frechet_distance(a, b)
    with pytest.raises(InputError, match="more than 5"):
        manifold_precision_recall(normal(5, 2), normal(50, 2))


def test_pixel_components_span_what_varies():
    digits = fn.data.digits()
    few, all_of_them = (PixelComponents.fitted(digits, count) for count in (8, 64))
    seen = all_of_them(digits.x)
    assert float(seen.mean(0).abs().max()) < 1e-9
    variance = seen.var(0, correction=0)
    assert float(variance.mean()) == pytest.approx(1)
    assert torch.all(variance[:-1] >= variance[1:] - 1e-9)
    share = few(digits.x).square().sum() * float(few.axes.square().sum() ** -1) * 8
    whole = (digits.x.flatten(1).double() - digits.x.flatten(1).double().mean(0)).square().sum()
    assert 0.5 < float(share / whole) < 1
    # distances between pictures are those between all components, but for the unit
    gap = torch.cdist(seen[:50], seen[:50])
    pixels = torch.cdist(digits.x[:50].flatten(1).double(), digits.x[:50].flatten(1).double())
    torch.testing.assert_close(gap / gap.max(), pixels / pixels.max())


def test_fresh_pictures_stand_at_their_floor_and_noise_far_above():
    digits = fn.data.digits()
    rows = torch.randperm(1797, generator=torch.Generator().manual_seed(5))
    known, fresh = fn.data.Dataset(digits.x[rows[:1200]]), digits.x[rows[1200:]]
    found = fn.evaluate(fresh, known)
    names = [measure.name for measure in found.measures]
    assert names == ["Frechet distance (pixel components)", "kernel distance (pixel components)", "precision", "recall"]
    assert found["Frechet distance (pixel components)"].ratio == pytest.approx(1, abs=0.35)
    assert abs(found["kernel distance (pixel components)"].value) < 0.05
    assert found["precision"].ratio > 0.95
    noise = torch.randint(256, fresh.shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    far = fn.evaluate(noise, known)
    assert far["Frechet distance (pixel components)"].ratio > 20
    assert far["precision"].value < 0.05
    assert "-" in str(found).splitlines()[3]  # no ratio to a floor of 0
    assert math.isnan(found["kernel distance (pixel components)"].ratio)


def test_nothing_is_told_in_parts_of_a_floor_that_is_0_but_for_chance():
    assert math.isnan(Measure("m", 5.0, 0.1, 0.3, 0.01, unbiased=True).ratio)
    for floor in (0.015, -0.3):
        assert math.isnan(Measure("m", 5.0, 0.1, floor, 0.01).ratio)
    assert Measure("m", -5.0, 0.1, 0.3, 0.01).ratio_error > 0


def test_features_of_the_users_own():
    class Brightness:
        name = "brightness"

        def __call__(self, x):
            return x.flatten(1).double().mean(1, keepdim=True)

    digits = fn.data.digits()
    found = fn.evaluate(digits.x[:200], digits, features=Brightness())
    assert "brightness" in found.unit
    assert found["Frechet distance (brightness)"].value < 5


def test_a_judge_is_trained_once_and_is_right(tmp_path, monkeypatch):
    monkeypatch.setenv("FROMNOISE_CACHE", str(tmp_path))
    digits, seen = fn.data.digits(n=600), []
    judge = judge_of(digits, progress=lambda k, n: seen.append((k, n)))
    assert judge.accuracy > 0.9
    assert seen[-1][0] == seen[-1][1] == len(seen)
    others = fn.data.digits()
    assert judge.agreement(others.x, others.labels) > 0.9
    assert judge(others.x[:7]).shape == (7, 128)
    seen.clear()
    again = judge_of(digits, progress=lambda k, n: seen.append(k))
    assert seen == []
    assert torch.equal(again(others.x[:7]), judge(others.x[:7]))
    assert judge_of(digits, seed=1).accuracy > 0.9
    with pytest.raises(InputError, match="two labels or more"):
        judge_of(fn.data.Dataset(digits.x))


@pytest.mark.slow
def test_pictures_and_their_mirror_images_have_a_judge_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setenv("FROMNOISE_CACHE", str(tmp_path))
    digits = fn.data.digits(n=60)
    for source in (digits, Flipped(digits)):
        judge_of(source)
    assert len(list((tmp_path / "judges").iterdir())) == 2


def test_the_command_measures_agreement(run_cli, tmp_path):
    import json

    small = ["--set", "network.widths=[8,16]", "--no-report", "--steps", "30", "--batch-size", "16", "-n", "400"]
    assert run_cli("train", "digits", "--out", tmp_path / "r", *small)[0] == 0
    measure = ["evaluate", tmp_path / "r", "-n", "40", "--steps", "3", "--pairs", "2"]
    code, out, err = run_cli(*measure, "--guidance", "1.5", "--json")
    assert code == 0, err
    data = json.loads(out)
    assert 0 <= data["agreement"] <= 1
    assert data["judge_accuracy"] > 0.8
    assert data["measures"]["kernel distance (classifier features)"]["floor"] is not None
    assert json.loads(run_cli(*measure, "--features", "pixels", "--json")[1])["measures"]["precision"]["value"] >= 0
    assert run_cli(*measure, "--features", "inception")[0] == 2
    assert run_cli("sample", tmp_path / "r", "-n", "30", "--steps", "2", "--out", tmp_path / "x.npz")[0] == 0
    code, out, err = run_cli("evaluate", tmp_path / "r", "--samples", tmp_path / "x.npz", "--pairs", "2")
    assert code == 0, err
    assert "30 samples against" in out


@pytest.mark.unchecked
def test_features_that_are_none_are_refused():
    digits = fn.data.digits()
    for none in ("pixels", lambda x: x.flatten(1)):
        with pytest.raises(InputError, match="an object with a name"):
            fn.evaluate(digits.x[:30], digits, features=none)
