"""What a run keeps of its data, and how it notices that they are others."""

import dataclasses

import pytest
import torch

import fromnoise as fn
from fromnoise.cond import Cond
from fromnoise.errors import CheckpointDamaged, ConfigChanged, RunError


def train(data, path, **settings):
    return fn.train(data, steps=3, batch_size=16, out=path, **settings)


def test_a_changed_built_in_is_stored_and_not_made_again(tmp_path):
    spiral = fn.data.spiral(100)
    larger = dataclasses.replace(spiral, x=10 * spiral.x)
    train(larger, tmp_path / "replaced")
    assert torch.equal(fn.load(tmp_path / "replaced").source.x, larger.x)
    in_place = fn.data.spiral(100)
    in_place.x.mul_(3)
    train(in_place, tmp_path / "in place")
    assert torch.equal(fn.load(tmp_path / "in place").source.x, in_place.x)
    train(spiral, tmp_path / "as made")
    assert not (tmp_path / "as made" / "data.safetensors").exists()
    with pytest.raises(ConfigChanged, match="data"):
        train(larger, tmp_path / "as made", resume=True)


def test_masks_of_conditions_are_kept(tmp_path):
    shapes = fn.data.shapes(60)
    given = {"label": torch.arange(60) % 4 > 0}
    data = fn.Dataset(shapes.x, cond=Cond({"label": shapes.labels}, given), conditioners=shapes.conditioners)
    train(data, tmp_path / "r")
    again = fn.load(tmp_path / "r").source
    assert torch.equal(again.cond.mask("label"), given["label"])
    assert again.identity == data.identity


def test_swapped_labels_are_noticed(tmp_path):
    x, labels = torch.randn(40, 2), torch.arange(40) % 2
    train(fn.Dataset(x, labels, ("a", "b")), tmp_path / "r")
    train(fn.Dataset(x, labels, ("a", "b")), tmp_path / "r", resume=True)
    with pytest.raises(ConfigChanged, match=r"data\.conditions"):
        train(fn.Dataset(x, 1 - labels, ("a", "b")), tmp_path / "r", resume=True)
    other = fn.Dataset(x, 1 - labels, ("a", "b"))
    train(other, tmp_path / "other")
    (tmp_path / "other" / "data.safetensors").replace(tmp_path / "r" / "data.safetensors")
    with pytest.raises(CheckpointDamaged, match="edited"):
        fn.load(tmp_path / "r").source  # noqa: B018


class Own:
    """A user's source that calls itself what a built-in is called, and says nothing else of itself."""

    shape, suggests, conditioners, distribution = (2,), {"recipe": "points"}, (), None

    def __init__(self, x, identity):
        self.x, self.identity, self.name = x, identity, "spiral"

    def __len__(self):
        return len(self.x)

    def read(self, rows):
        return fn.data.Batch(self.x[rows], None)

    def take(self, rows):
        return Own(self.x[rows], self.identity)

    def resident(self, device, budget):
        return self


@pytest.mark.parametrize("identity", [{"name": "spiral", "n": 40, "seed": 0}, {"version": 3}, {}])
def test_a_users_source_is_not_taken_for_a_built_in(tmp_path, identity):
    source = Own(torch.randn(40, 2), identity)
    train(source, tmp_path / "r")
    run = fn.load(tmp_path / "r")
    assert fn.sample(run.denoiser, 3, steps=2).shape == (3, 2)
    with pytest.raises(RunError, match="trained on 'spiral', a 'Own' of its user's"):
        run.source  # noqa: B018
    train(source, tmp_path / "r", resume=True)
