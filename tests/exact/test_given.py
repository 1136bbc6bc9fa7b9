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
