"""What is kept of a network is what loading wants: compiled, copied to devices, tied, or changed after it was built."""

import pytest
import torch
from torch import nn

import fromnoise as fn
from fromnoise.errors import ConfigError, InputError

DATA = fn.data.spiral(200)


def kept(network, folder):
    *_, last = fn.fit(fn.Denoiser(network, fn.VP(), "v"), DATA, fn.TrainConfig(steps=20, ema=0.9), out=folder)
    return fn.sample(last.run.denoiser, 20), fn.sample(fn.load(folder).denoiser, 20)


def compiled(network):
    return torch.compile(network, backend="eager")


@pytest.mark.parametrize("wrap", [compiled, nn.DataParallel, lambda n: nn.DataParallel(compiled(n))])
def test_a_wrapped_network_is_kept_as_the_network_inside(wrap, tmp_path):
    now, loaded = kept(wrap(fn.nn.MLP(dim=2, hidden=16)), tmp_path / "r")
    assert torch.equal(now, loaded)


def test_tied_parameters_are_kept(tmp_path):
    network = fn.nn.MLP(dim=2, hidden=16, depth=3)
    network.layers[1].weight = network.layers[0].weight
    now, loaded = kept(network, tmp_path / "r")
    assert torch.equal(now, loaded)


def test_a_network_that_its_settings_do_not_make_is_refused_before_the_first_step(tmp_path):
    network = fn.nn.MLP(dim=2, hidden=16)
    nn.utils.parametrizations.weight_norm(network.first)
    with pytest.raises(ConfigError, match=r"first\.parametrizations.*cannot|cannot be kept.*first\.parametrizations"):
        kept(network, tmp_path / "r")
    assert not (tmp_path / "r").exists()
    *_, last = fn.fit(fn.Denoiser(network, fn.VP(), "v"), DATA, fn.TrainConfig(steps=3))  # without a folder it trains
    assert last.step == 3


def test_a_network_without_a_shape_is_one_line():
    with pytest.raises(InputError, match="shape of one sample"):
        fn.Denoiser(nn.Linear(2, 2), fn.VP(), "v")
