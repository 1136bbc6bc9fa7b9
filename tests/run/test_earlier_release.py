"""A run of an earlier release, whose components had fewer settings, goes on."""

import re

import pytest
import torch

import fromnoise as fn
from fromnoise.errors import ConfigChanged
from fromnoise.nn import networks


def pictures():
    x = torch.randint(0, 256, (64, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return fn.data.Dataset(x, torch.arange(64) % 2, label_names=["a", "b"], name="squares")


def train(place, steps, **also):
    settings = {"network": {"name": "dit", "width": 16, "depth": 1}, "steps": steps, "batch_size": 8, "held_out": 0.0}
    return fn.train(pictures(), out=place, resume=True, **{**settings, **also})


def without(place, *settings):
    """Take settings out of config.toml, as if the release that wrote it had not had them."""
    text = (place / "config.toml").read_text()
    for line in settings:
        text, found = re.subn(rf"^{re.escape(line)}\n", "", text, flags=re.MULTILINE)
        assert found == 1, line
    (place / "config.toml").write_text(text)


def test_it_goes_on_with_the_defaults_of_settings_it_did_not_have(tmp_path):
    train(tmp_path / "old", 4)
    without(
        tmp_path / "old", 'text_by = "cross"', "qk_norm = true", 'kind = "scaled"', "rho = 7.0",
        "patience = 0",
    )  # fmt: skip
    again = train(tmp_path / "old", 8)
    whole = train(tmp_path / "whole", 8)
    assert again.step == 8
    for name, value in whole.denoiser.network.state_dict().items():
        assert torch.equal(value, again.denoiser.network.state_dict()[name]), name


def test_but_not_with_what_is_no_default(tmp_path):
    train(tmp_path / "old", 4)
    without(tmp_path / "old", "qk_norm = true")
    other = {"name": "dit", "width": 16, "depth": 1, "qk_norm": False}
    with pytest.raises(ConfigChanged, match=r"network\.qk_norm was True and is now False"):
        train(tmp_path / "old", 8, network=other)


def test_an_autoencoder_of_an_earlier_release_goes_on_too(tmp_path):
    settings = {"network": {"widths": (4, 4, 4)}, "batch_size": 8, "held_out": 0.0, "resume": True}
    fn.train_autoencoder(pictures(), out=tmp_path / "old", steps=2, **settings)
    without(tmp_path / "old", "blocks = 1", "kl = 0.0001")
    assert fn.train_autoencoder(pictures(), out=tmp_path / "old", steps=4, **settings).step == 4


def test_a_transformer_of_an_earlier_release_has_no_neighbours(tmp_path):
    plain = {"name": "dit", "width": 16, "depth": 1, "local": False}
    before = train(tmp_path / "old", 4, network=plain)
    without(tmp_path / "old", "local = false")
    again = fn.load(tmp_path / "old")
    assert again.denoiser.network.blocks[0].local is None
    assert fn.equal(*(fn.sample(run.denoiser, 4, cond="a", steps=3, seed=1) for run in (before, again)))
    with pytest.raises(ConfigChanged, match=r"network\.local was False and is now True"):
        train(tmp_path / "old", 8)
    assert train(tmp_path / "old", 8, network=plain).step == 8


def test_settings_in_tuples_of_tuples_are_the_same_settings(tmp_path):
    def go(steps):
        network = {"name": "staged", "shape": (1, 8, 8)}
        return fn.train(pictures(), out=tmp_path / "r", resume=True, network=network, steps=steps, batch_size=8)

    go(2)
    assert go(4).step == 4


@networks.register("staged")
class Staged(fn.nn.DiT):
    """A user's own network, with a setting of tuples in a tuple."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        stages: tuple[tuple[int, int], ...] = ((16, 1),),
        classes: int = 0,
        log_snr: tuple[float, float] | None = None,
    ):
        (width, depth), *_ = stages
        super().__init__(shape, width, depth, classes=classes, log_snr=log_snr)
