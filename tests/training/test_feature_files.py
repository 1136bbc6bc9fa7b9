"""Spaces of features from files: a judge again, Inception's layout, TorchScript, and what is none of these."""

import json
import warnings

import pytest
import torch
from safetensors.torch import save_file

import fromnoise as fn
from fromnoise.errors import InputError
from fromnoise.nn.inception import Inception
from fromnoise.training.feature_files import features_from, inception_input
from fromnoise.training.judge import Judge, judge_of


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FROMNOISE_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr("fromnoise.training.judge._PICTURES", 4000)
        return judge_of(fn.data.digits(n=300))


@pytest.mark.parametrize("half", [False, True])
def test_a_judge_is_the_same_from_its_file(judge, half, tmp_path):
    judge.save(tmp_path / "judge.safetensors", half=half)
    again = features_from(tmp_path / "judge.safetensors")
    assert isinstance(again, Judge)
    assert (again.label_names, again.accuracy) == (judge.label_names, judge.accuracy)
    x = fn.data.digits(n=300).x[:50]
    torch.testing.assert_close(again(x), judge(x), rtol=1e-2 if half else 0, atol=1e-2 if half else 0)
    assert float((again.labels(x) == judge.labels(x)).double().mean()) > 0.95


def test_inception_has_the_published_layout(tmp_path):
    with torch.device("meta"):
        network = Inception()
    assert sum(p.numel() for p in network.parameters()) == 21_785_568  # torchvision's, less its two classifiers
    names = network.state_dict()
    assert names["Mixed_6b.branch7x7dbl_5.conv.weight"].shape == (192, 128, 1, 7)
    assert names["Mixed_7c.branch3x3dbl_3b.bn.running_var"].shape == (384,)
    assert network(torch.empty(2, 3, 299, 299, device="meta")).shape == (2, 2048)


@pytest.mark.slow
def test_weights_of_inception_give_features_of_grey_and_colour(tmp_path):
    torch.manual_seed(0)
    save_file({**Inception().state_dict(), "fc.weight": torch.zeros(1008, 2048)}, tmp_path / "inception.safetensors")
    space = features_from(tmp_path / "inception.safetensors")
    assert space.name == "Inception features"
    x = torch.randint(0, 256, (2, 1, 9, 9), dtype=torch.uint8)
    found = space(x)
    assert found.shape == (2, 2048)
    torch.testing.assert_close(found, space(x.expand(-1, 3, -1, -1)))
    torch.testing.assert_close(found, space(x.float()))
    with pytest.raises(InputError, match=r"0\.\.255"):
        space(x.float() - 300)


def test_pictures_come_to_inception_in_its_size_and_range():
    x = torch.tensor([0, 255], dtype=torch.uint8).reshape(2, 1, 1, 1)
    seen = inception_input(x)
    assert seen.shape == (2, 3, 299, 299)
    assert (float(seen[0].max()), float(seen[1].min())) == pytest.approx((-1, 1), abs=1e-5)


class Means(torch.nn.Module):
    """Three features of a picture."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.float().mean((2, 3))


class Whole(torch.nn.Module):
    """No features."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.float()


def test_any_network_as_torchscript(tmp_path):
    for name, network in (("means", Means()), ("whole", Whole())):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            torch.jit.script(network).save(tmp_path / f"{name}.pt")
    space = features_from(tmp_path / "means.pt")
    x = torch.randint(0, 256, (5, 1, 4, 4), dtype=torch.uint8)
    torch.testing.assert_close(space(x), x.float().mean((1, 2, 3))[:, None].expand(5, 3))
    with pytest.raises(InputError, match=r"must be \[n, d\]"):
        features_from(tmp_path / "whole.pt")(x)
    found = fn.metrics.evaluate(
        x.repeat(10, 1, 1, 1), torch.randint(0, 256, (80, 1, 4, 4), dtype=torch.uint8), features=space
    )
    assert found.measures[0].name == "Frechet distance (means features)"


def test_what_is_no_space_of_features_is_refused_in_one_line(tmp_path):
    (tmp_path / "text.pt").write_text("hello")
    (tmp_path / "text.safetensors").write_text("hello")
    save_file({"a": torch.zeros(3)}, tmp_path / "other.safetensors")
    save_file({"a": torch.zeros(3)}, tmp_path / "odd.safetensors", metadata={"judge": json.dumps({"shape": [1]})})
    for name, says in (
        ("text.pt", "no TorchScript"), ("text.safetensors", "cannot be read"), ("none.pt", "no such file"),
        ("other.safetensors", "neither a judge nor"), ("odd.safetensors", "is no judge"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=says) as error:
            features_from(tmp_path / name)
        assert "\n" not in str(error.value)
