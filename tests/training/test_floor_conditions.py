"""The floor of a network that sees only a part of the data's conditions."""

import pytest
import torch
from PIL import Image

import fromnoise as fn
from fromnoise.cond import Cond
from fromnoise.conditioners import Labels, Vector
from fromnoise.errors import InputError
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


def test_the_floor_of_pictures_in_files_is_that_of_the_same_pictures_in_memory(tmp_path):
    digits = fn.data.digits()
    few = digits.take(torch.arange(120))
    for k, (x, label) in enumerate(zip(few.x, few.labels, strict=True)):
        place = tmp_path / "pictures" / str(int(label))
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(x[0].numpy()).save(place / f"{k}.png")
    network = fn.nn.DiT(few.shape, 32, 1, 2, patch=4, classes=10)
    for settings, x in (({}, few.x), ({"flip": True}, torch.cat([few.x, few.x.flip(3)]))):
        files = fn.data.open(tmp_path / "pictures", settings=settings)
        memory = fn.Dataset(x, few.labels.repeat(len(x) // 120), few.label_names)
        here, there = (floor(network, data, drop_cond=0.2)[0] for data in (memory, files))
        assert here.value == pytest.approx(there.value, abs=4 * (here.error + there.error))
        assert here.note == there.note == f"all {len(x)} samples"
        assert fn.loss_floor(files, "edm").value == pytest.approx(fn.loss_floor(memory, "edm").value, rel=0.05)


def test_the_floor_of_many_pictures_is_that_of_a_part_and_says_so():
    x = torch.randint(0, 256, (1500, 3, 40, 40), dtype=torch.uint8)
    found, _ = floor(fn.nn.DiT((3, 40, 40), 32, 1, 2, patch=8), fn.Dataset(x))
    assert found.note == "1,024 of 1,500 samples"


def test_a_condition_that_training_puts_noise_on_has_no_floor():
    for noise in (0.0, 0.1):
        data = fn.data.open("digits", settings={"from_size": 4, "from_noise": noise})
        network = fn.nn.UNet(data.shape, (8, 16), image=(1, 4, 4))
        found, _ = floor(network, data)
        assert found is None if noise else found.value < 0.01


def test_the_error_of_a_floor_is_how_far_floors_of_other_seeds_lie():
    data = fn.data.spiral(500)
    found = [fn.loss_floor(data, "linear", draws=1024, seed=seed) for seed in range(40)]
    spread = torch.tensor([one.value for one in found]).std()
    assert 0.7 < float(spread) / (sum(one.error for one in found) / 40) < 1.4


def test_a_floor_leaves_conditions_out_as_the_training_does():
    """Each of two conditions is left out alone too, so that the network knows less than with both or none."""
    data = two_conditions(200)
    denoiser = fn.Denoiser(fn.nn.MLP(2, 8, classes=2, cond_dim=2), fn.VP(), "v")
    denoiser.measure(data)
    task = Denoising().bound(denoiser, drop_cond=0.3)
    found = task.floor(data)
    by_label = Denoising().bound(denoiser, drop_cond=0.0)
    alone = [floor(fn.nn.MLP(2, 8, **kind), data)[0].value for kind in ({}, {"classes": 2})]
    none, label = 0.3 + 0.7 * 0.3**2, 0.7 * 0.3 * 0.7  # the vector, where it is known, leaves nothing to learn
    assert by_label.floor(data).value < 1e-6
    assert found.value == pytest.approx(none * alone[0] + label * alone[1], abs=6 * found.error)


def test_loss_floor_knows_no_floor_where_a_training_knows_none():
    noisy = fn.data.open("digits", settings={"from_size": 4, "from_noise": 0.1})
    data = fn.data.shapes(90)
    given = Cond({"label": data.labels}, {"label": torch.arange(90) % 3 > 0})
    partly = fn.Dataset(data.x, cond=given, conditioners=data.conditioners)
    for source in (noisy, partly):
        with pytest.raises(InputError, match="conditions are noisy in training, or some samples have none"):
            fn.loss_floor(source, "cosine")
    for draws in (-4, 31):
        with pytest.raises(InputError, match="draws must be a whole number of at least 32"):
            fn.loss_floor(data, "cosine", draws=draws)
