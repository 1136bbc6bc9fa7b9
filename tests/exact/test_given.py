"""Laws of numbers as their user has them."""

import numpy as np
import pytest
import torch

import fromnoise as fn
from fromnoise.errors import InputError
from fromnoise.training.times import time_laws

X = np.random.default_rng(0).normal(size=(10, 2))


def test_laws_take_arrays_lists_and_names():
    one = fn.FiniteSet(torch.tensor(X)).denoiser(fn.VP())
    noisy = torch.randn(5, 2, dtype=torch.float64)
    for other in (fn.FiniteSet(X), fn.FiniteSet(X.tolist()), fn.FiniteSet(fn.data.open(X))):
        assert torch.equal(other.denoiser("vp")(noisy, 0.5), one(noisy, 0.5))
    labelled = fn.FiniteSet(X, labels=["b", "a"] * 5).denoiser("vp")
    assert labelled.label_names == ("a", "b")
    numbered = fn.FiniteSet(torch.tensor(X), labels=torch.tensor([1, 0] * 5)).denoiser("vp")
    assert torch.equal(labelled(noisy, 0.5, "b"), numbered(noisy, 0.5, 1))
    mixture = fn.GaussianMixture([[1.0, 0.0], [0.0, 1.0]], [0.2, 0.3], weights=[1, 3])
    same = fn.GaussianMixture(
        torch.eye(2).double(), torch.tensor([0.2, 0.3], dtype=torch.float64), weights=torch.tensor([1, 3])
    )
    assert torch.equal(mixture.denoiser("edm")(noisy, 0.5), same.denoiser(fn.EDM())(noisy, 0.5))
    full = fn.GaussianMixture([[1.0, 0.0]], covariances=[[[1.0, 0.5], [0.5, 1.0]]])
    assert full.mean_and_variance()[1].tolist() == pytest.approx([1, 1])
    assert repr(full) == "GaussianMixture(1 x [2], the mixture)"
    with pytest.raises(InputError, match="numbers"):
        fn.FiniteSet([["a", "b"]])


@pytest.mark.unchecked
def test_paths_and_rules_are_taken_as_objects_names_or_settings_and_nothing_else():
    law = fn.FiniteSet(X)
    by_name = fn.sample(law.denoiser("edm"), 5, sampler="ddim", steps=4)
    assert torch.equal(by_name, fn.sample(law.denoiser(fn.EDM()), 5, sampler=fn.DDIM(), steps=4))
    assert torch.equal(by_name, fn.sample(law.denoiser("edm"), 5, sampler={"name": "ddim"}, steps=4))
    denoiser = fn.Denoiser(fn.nn.MLP(2, 8), {"name": "linear", "T": 50}, "v")
    assert denoiser.schedule == fn.LinearBeta(T=50)
    floor = fn.loss_floor(X, "vp", weighting="uniform", times=time_laws.build("uniform"))
    assert floor.value > 0
    with pytest.raises(InputError, match=r"give an object, DDIM\(...\), and not its class"):
        fn.sample(law.denoiser("edm"), 5, sampler=fn.DDIM, steps=4)
    with pytest.raises(InputError, match="a sampler is an object such as"):
        fn.sample(law.denoiser("edm"), 5, sampler=3, steps=4)
    with pytest.raises(InputError, match=r"give an object, VP\(...\), and not its class"):
        law.denoiser(fn.VP)
    with pytest.raises(InputError, match="did you mean 'linear'"):
        fn.Denoiser(fn.nn.MLP(2, 8), "linaer")


def test_a_finite_set_of_pictures_is_of_z_and_its_samples_are_pictures():
    digits = fn.data.digits(200)
    law = fn.FiniteSet(digits)
    assert law.codec is not None
    assert 0.3 < float(law.mean_and_variance()[1].mean()) < 1  # each pixel's about its own mean
    x = fn.sample(law.denoiser("edm"), 100, steps=18, seed=3)
    assert x.dtype == torch.uint8
    known = {picture.numpy().tobytes() for picture in digits.x}
    assert sum(picture.numpy().tobytes() in known for picture in x) >= 95
    threes = fn.sample(law.denoiser("edm"), 20, steps=18, cond="3")
    ours = {picture.numpy().tobytes() for picture in digits.x[digits.labels == 3]}
    assert sum(picture.numpy().tobytes() in ours for picture in threes) >= 19
    flat = fn.FiniteSet(digits.x.float().flatten(1) / 255)
    assert flat.codec is None
    same = law.denoiser("edm", fn.data.Pixels().fitted(digits))
    assert torch.equal(fn.sample(same, 3, steps=4), fn.sample(law.denoiser("edm"), 3, steps=4))
    with pytest.raises(InputError, match="a codec of their own"):
        law.denoiser("edm", fn.data.Pixels("signed").fitted(digits))
    from_source = fn.FiniteSet(fn.data.open("digits", settings={"flip": True}))
    assert len(from_source.means) == 2 * len(fn.data.digits())


@pytest.mark.unchecked
def test_a_run_in_place_of_its_denoiser_is_told(tmp_path):
    run = fn.train("spiral", steps=2, batch_size=8, network={"name": "mlp", "hidden": 8})
    for make in (
        lambda: fn.sample(run, 3), lambda: fn.Guided(run, 2.0), lambda: fn.trajectory(run, 3),
        lambda: fn.samplers.settled(run),
    ):  # fmt: skip
        with pytest.raises(InputError, match=r"give its \.denoiser"):
            make()
    with pytest.raises(InputError, match=r"fn\.Denoiser\(network, schedule\) makes one"):
        fn.sample(run.denoiser.network, 3)
    with pytest.raises(InputError, match="this is a run: draw them"):
        fn.evaluate(run, "spiral")


@pytest.mark.parametrize("count", [9, 11])
def test_labels_of_another_number_are_refused(count):
    for labels in ([0] * count, torch.zeros(count, dtype=torch.long)):
        with pytest.raises(InputError, match=f"{count} labels or conditions were given for 10"):
            fn.FiniteSet(X, labels=labels)
