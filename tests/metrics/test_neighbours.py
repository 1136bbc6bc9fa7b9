"""Nearest neighbours: that they are the nearest, and that copies are told from new samples."""

import numpy as np
import pytest
import torch

import fromnoise as fn
from fromnoise.errors import InputError
from fromnoise.metrics import memorisation, nearest
from fromnoise.metrics import neighbours as module

DATA = torch.randn(3000, 6, generator=torch.Generator().manual_seed(0))
TRAINED, HELD, FRESH = fn.Dataset(DATA[:2400]), fn.Dataset(DATA[2400:2700]), DATA[2700:]


@pytest.mark.parametrize("part", [2**24, 60])
def test_the_nearest_are_those_of_all_distances(part, monkeypatch):
    monkeypatch.setattr(module, "_NUMBERS", part)
    found = nearest(TRAINED, FRESH[:20], count=3)
    every = torch.cdist(FRESH[:20].double(), TRAINED.x.double()).sort(dim=1)
    assert torch.equal(found.rows, every.indices[:, :3])
    torch.testing.assert_close(found.distances.double(), every.values[:, :3], rtol=1e-4, atol=1e-4)
    assert torch.equal(found.x, TRAINED.x[found.rows])


def test_new_samples_are_as_far_from_both_and_copies_are_not():
    new = memorisation(FRESH, TRAINED, HELD)
    assert new.ratio == pytest.approx(1, abs=4 * new.error)
    assert new.nearer == pytest.approx(new.expected, abs=0.07)  # 300 samples: error 0.018
    copies = memorisation(TRAINED.x[:300] + 1e-3, TRAINED, HELD)
    assert copies.ratio < 1 - 4 * copies.error
    assert copies.nearer > 0.99 > copies.expected
    few = fn.Dataset(TRAINED.x[:300])
    assert memorisation(few.x + 1e-3, few, HELD).ratio < 0.02  # as many as held out, all of them copied
    with pytest.raises(InputError, match="two samples"):
        memorisation(FRESH[:1], TRAINED, HELD)


def test_mirror_images_are_compared_with_mirror_images():
    generator = torch.Generator().manual_seed(1)

    def pictures(n):  # bright on the left
        return (torch.rand(n, 1, 4, 4, generator=generator) * torch.tensor([255.0, 90.0, 20.0, 5.0])).to(torch.uint8)

    source = fn.data.open(pictures(600), settings={"flip": True})
    small = {"name": "unet", "widths": (8,)}
    run = fn.train(source, steps=1, batch_size=8, held_out=0.25, network=small)
    rows, held = run.parts()
    assert len(rows) + len(held) == 1200
    fresh = pictures(200)
    found = memorisation(torch.cat([fresh[:100], fresh[100:].flip(3)]), rows, held)
    assert found.ratio == pytest.approx(1, abs=5 * found.error)


def test_a_copy_is_at_distance_0_and_floats_are_not_taken_for_bytes():
    rng = np.random.default_rng(0)
    large = (240 + rng.integers(0, 3, (60, 3, 64, 64))).astype(np.uint8)
    assert float(nearest(large, large[:20]).distances.max()) == 0
    with pytest.raises(InputError, match=r"whole numbers 0\.\.255"):
        memorisation(large[:20] / 255.0, large[:40], large[40:])
    with pytest.raises(InputError, match=r"whole numbers 0\.\.255"):
        memorisation(large[:20] / 127.5 - 0.95, large[:40], large[40:])
