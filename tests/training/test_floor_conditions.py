"""The floor of a network that sees only a part of the data's conditions."""

import pytest
import torch

import fromnoise as fn
from fromnoise.cond import Cond
from fromnoise.conditioners import Labels, Vector
from fromnoise.training import Denoising
from fromnoise.training.floor import floor_of


def two_conditions(n=600):
    """Points that their vector tells to the last digit, with a label of no use."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, 2, generator=generator)
    cond = Cond({"label": torch.arange(n) % 2, "vector": x.clone()})
    return fn.Dataset(x, cond=cond, conditioners=(Labels(names=("a", "b")), Vector(dim=2)))


def floor(network, data, **train):
    denoiser = fn.Denoiser(network, fn.VP(), "v")
    denoiser.measure(data)
    return floor_of(denoiser, data, {"drop_cond": 0.0, **train}), denoiser


@pytest.mark.unchecked
def test_a_floor_knows_no_more_than_the_network():
    data = two_conditions()
    plain = fn.Dataset(data.x)
    by_label = data.conditioned((torch.arange(600) % 2).tolist())
    without, _ = floor(fn.nn.MLP(2, 8), data)
    labels, _ = floor(fn.nn.MLP(2, 8, classes=2), data)
    vectors, denoiser = floor(fn.nn.MLP(2, 8, cond_dim=2), data)
    assert without.value == floor(fn.nn.MLP(2, 8), plain)[0].value
    assert labels.value == floor(fn.nn.MLP(2, 8, classes=2), by_label)[0].value
    assert vectors.value < 1e-6 < labels.value  # the vector is the sample
    assert denoiser.conditioners == (Vector(dim=2),)


def test_what_is_kept_is_kept_in_the_floor():
    class Always(Vector):
        droppable = False

    data = two_conditions()
    kept = fn.Dataset(data.x, cond=Cond({"vector": data.x}), conditioners=(Always(dim=2),))
    denoiser = fn.Denoiser(fn.nn.MLP(2, 8, cond_dim=2), fn.VP(), "v", conditioners=(Always(dim=2),))
    denoiser.measure(kept)
    task = Denoising().bound(denoiser, drop_cond=0.5)
    assert task.floor(kept).value < 1e-6


def test_rows_without_a_condition_leave_no_floor_and_no_label_takes_them():
    data = fn.data.shapes(90)
    given = Cond({"label": data.labels}, {"label": torch.arange(90) % 3 > 0})
    partly = fn.Dataset(data.x, cond=given, conditioners=data.conditioners)
    assert floor(fn.nn.MLP(2, 8, classes=3), partly)[0] is None
    assert floor(fn.nn.MLP(2, 8), partly)[0] is not None
    law = fn.FiniteSet(partly)
    x = law.denoiser(fn.VP())(data.x, 1e-6, data.labels)
    mine = (x[:, None] - data.x).norm(dim=2).argmin(1)
    assert bool(given.mask("label")[mine].all())
    assert torch.equal(data.labels[mine], data.labels)


@pytest.mark.parametrize("n", [50, 20_000])
def test_a_codec_that_draws_leaves_the_global_generator_alone(n):
    class Dequantize(fn.data.Affine):
        def into(self, stored, generator=None):
            return super().into(stored + torch.rand(stored.shape, generator=generator))

    data = fn.Dataset(torch.randint(0, 9, (n, 2)).float())
    torch.manual_seed(1)
    before = torch.get_rng_state()
    found = []
    for _ in range(2):
        denoiser = fn.Denoiser(fn.nn.MLP(2, 8), fn.VP(), "v")
        torch.manual_seed(1)
        denoiser.measure(data, Dequantize().fitted(data))
        found.append((denoiser.sigma_data, Denoising().bound(denoiser).floor(data).value))
        assert torch.equal(torch.get_rng_state(), before)
    assert found[0] == found[1]
