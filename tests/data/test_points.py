import math

import pytest
import torch

import fromnoise as fn
from fromnoise.conditioners import find_label
from fromnoise.data import Affine, sobol_noise
from fromnoise.errors import ConfigError, InputError, LabelError, UnknownName
from fromnoise.metrics import sliced_wasserstein2


def test_the_spiral_is_the_articles():
    x = fn.data.spiral(200_000).x.double()
    radius = x.norm(dim=1)
    assert 0.80 < float(x.std(0).mean()) < 0.82
    outside = (x.abs() > 1).any(1).double().mean()
    assert float(outside) == pytest.approx(0.44, abs=0.01)
    # along the curve r = theta/(2 pi): the distance from it is the jitter
    turns = torch.arange(3)[:, None]
    theta = torch.atan2(x[:, 1], x[:, 0]) % (2 * math.pi) + 2 * math.pi * (turns - 0)
    off = (radius - theta / (2 * math.pi)).abs().min(0).values
    assert float(off[radius > 0.5].square().mean().sqrt()) == pytest.approx(0.05, rel=0.1)


@pytest.mark.parametrize("name", fn.data.points.names())
def test_every_set_is_repeatable_and_endless(name):
    a, b, c = (fn.data.make({"name": name, "n": 300, "seed": s}) for s in (0, 0, 1))
    assert torch.equal(a.x, b.x)
    assert not torch.equal(a.x, c.x)
    assert a.x.shape == (300, 2)
    assert a.x.dtype == torch.float32
    fresh, again = a.draw(1000, seed=5), a.draw(1000, seed=5)
    assert torch.equal(fresh.x, again.x)
    assert not torch.equal(fresh.x, a.draw(1000, seed=6).x)
    assert fn.data.make(a.config).x.equal(a.x)


@pytest.mark.parametrize("name", fn.data.points.names())
def test_fresh_and_even_draws_are_of_one_distribution(name):
    data = fn.data.make({"name": name, "n": 4000})
    fresh, even = data.draw(4000, seed=3).x, data.draw_stratified(4000, seed=3).x
    floor = sliced_wasserstein2(fresh, data.draw(4000, seed=4).x)
    assert sliced_wasserstein2(data.x, fresh) < 3 * floor + 0.01
    assert sliced_wasserstein2(even, fresh) < 3 * floor + 0.01


def test_even_draws_are_nearer_to_the_truth_than_random_ones():
    data = fn.data.spiral(10)
    truth = data.draw(60_000, seed=1).x
    even, random = (
        sliced_wasserstein2(x, truth, directions=32) for x in (data.draw_stratified(1000).x, data.draw(1000).x)
    )
    assert even < random / 3


def test_even_starts_are_standard_normal():
    z = sobol_noise(4096, (2,))
    assert z.shape == (4096, 2)
    assert float(z.mean().abs()) < 0.01
    assert float(z.std()) == pytest.approx(1, abs=0.01)
    assert torch.isfinite(z).all()


def test_shapes_has_all_labels_in_equal_parts():
    data = fn.data.shapes(100)
    assert data.label_names == ("spiral", "circles", "moons")
    assert data.labels.bincount().tolist() == [34, 33, 33]
    fresh = data.draw(3000, seed=1)
    assert fresh.labels is not None
    for k, name in enumerate(data.label_names):
        own = fn.data.make({"name": name, "n": 1000}).x
        part = fresh.x[fresh.labels == k]
        assert sliced_wasserstein2(part, own) < 0.15
        assert sliced_wasserstein2(data.only(name).draw(1000).x, own) < 0.15


def test_labelled_puts_sets_together():
    data = fn.data.labelled(a=fn.data.moons(5), b=fn.data.circles(7))
    assert data.labels.tolist() == [0] * 5 + [1] * 7
    assert data.only("b").x.equal(data.x[5:])
    assert data.only(0).labels is None
    with pytest.raises(InputError, match="at least one"):
        fn.data.labelled()
    with pytest.raises(InputError, match="one shape"):
        fn.data.labelled(a=fn.data.moons(5), b=fn.data.open(torch.zeros(3, 4)))


@pytest.mark.parametrize("label", ["-1", -1, 3, "3"])
def test_a_label_out_of_range_is_refused(label):
    with pytest.raises(LabelError, match="known: 0 spiral, 1 circles, 2 moons"):
        find_label(label, ("spiral", "circles", "moons"))


def test_labels_by_name_number_or_text():
    assert [find_label(v, ("a", "b")) for v in ("b", 1, "1", "a")] == [1, 1, 1, 0]
    with pytest.raises(LabelError, match="did you mean 'moons'"):
        find_label("mons", ("spiral", "moons"))


def test_wrong_requests_are_refused():
    with pytest.raises(UnknownName, match="did you mean 'spiral'"):
        fn.data.make({"name": "spirla"})
    with pytest.raises(ConfigError, match="noise is not a setting"):
        fn.data.make({"name": "spiral", "noise": 1})
    for n in (0, -3):
        with pytest.raises(InputError, match="at least 1"):
            fn.data.spiral(n)
    with pytest.raises(InputError, match="seed"):
        fn.data.spiral(3, seed=-1)
    with pytest.raises(InputError, match="n must be at least 3"):
        fn.data.shapes(2)


@pytest.mark.parametrize(
    ("x", "words"), [([[1.0, math.nan]], "row 0"), ([1.0, 2.0], r"\[N, \*S\]"), ([], "N at least 1")]
)
def test_arrays_that_are_no_data_are_refused(x, words):
    with pytest.raises(InputError, match=words):
        fn.data.open(torch.tensor(x))


def test_a_set_without_a_law_has_no_fresh_draws():
    with pytest.raises(InputError, match="not known"):
        fn.data.open(torch.zeros(3, 2)).draw(5)


@pytest.mark.parametrize("kind", ["isotropic", "columns", "none"])
def test_scaling_goes_in_and_out(kind):
    x = torch.randn(500, 3) * torch.tensor([1.0, 5.0, 0.0]) + 7
    scaling = Affine(kind).fitted(x)
    z = scaling.into(x)
    torch.testing.assert_close(scaling.out(z), x, rtol=1e-5, atol=1e-4)
    if kind == "isotropic":
        assert float(z.square().mean()) == pytest.approx(1, rel=1e-3)
        assert scaling.std.dim() == 0
    if kind == "columns":
        assert z.std(0, correction=0).tolist() == pytest.approx([1, 1, 0], rel=1e-3)
    if kind == "none":
        assert torch.equal(z, x)


def test_what_is_printed_of_data_is_one_line():
    assert repr(fn.data.spiral(20)) == "Dataset(spiral, 20 x [2], of known distribution)"
    assert repr(fn.data.shapes(30)) == "Dataset(shapes, 30 x [2], labels spiral, circles, moons, of known distribution)"
    assert repr(fn.data.open((torch.randn(3000, 4), range(3000)))) == "Dataset(data, 3,000 x [4], 3,000 labels)"
    way = fn.trajectory(fn.FiniteSet(fn.data.moons(50).x).denoiser(fn.VP()), 60, steps=12)
    assert repr(way) == "Trajectory(60 samples of shape [2] in 12 steps)"


def test_measures_print_as_their_table():
    found = fn.evaluate(torch.randn(50, 2), fn.data.moons(100))
    assert repr(found) == str(found)
    assert repr(found["2-Wasserstein"]) in repr(found)
