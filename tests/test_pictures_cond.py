"""Pictures as conditions: reading them, the networks that take them, and that they decide what is made."""

import pytest
import torch

import fromnoise as fn
from fromnoise.cond import Cond
from fromnoise.data.views import FromSmall, shrunk
from fromnoise.errors import InputError, LabelError
from fromnoise.nn import DiT, UNet
from fromnoise.pictures_cond import Image
from fromnoise.report.pictures import sheets, told_each
from fromnoise.training.draws import Draws

ONE = Image(shape=(1, 4, 4))


def test_whole_numbers_are_taken_to_between_minus_1_and_1():
    x = torch.tensor([0, 127, 255], dtype=torch.uint8).repeat(16)[:16].reshape(1, 4, 4)
    read = ONE.read(x)
    assert read.dtype == torch.float32
    assert (float(read.min()), float(read.max())) == (-1, 1)
    assert torch.equal(ONE.read(read), read)
    assert torch.equal(ONE.read(x.numpy()), read)


def test_floats_that_may_lie_between_0_and_1_are_told_of():
    with pytest.warns(UserWarning, match="give 2 \\* x - 1"):
        ONE.read(torch.rand(1, 4, 4))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (torch.zeros(1, 5, 4), "shape"), (torch.zeros(4, 4), "shape"), ("a", "an array"), (7, "shape"),
        (torch.full((1, 4, 4), 3.0), "-1..1"), (torch.full((1, 4, 4), float("nan")), "-1..1"),
        (torch.zeros(1, 4, 4, dtype=torch.int64), "uint8"),
    ],
)  # fmt: skip
def test_what_is_no_such_picture_is_refused(words, says):
    with pytest.raises(LabelError, match=says):
        ONE.read(words)


@pytest.mark.parametrize(
    "make", [lambda: UNet((1, 8, 8), (8, 16), image=(2, 4, 4)), lambda: DiT((1, 8, 8), 32, 1, image=(2, 4, 4))]
)
def test_networks_take_one_picture_for_all_or_one_each_and_nothing_for_0(make):
    torch.manual_seed(0)
    net = make()
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.2)
    x, small = torch.randn(3, 1, 8, 8), torch.randn(3, 2, 4, 4)
    each = net(x, 0.3, Cond({"image": small}))
    for k in range(3):
        alone = net(x[k : k + 1], 0.3, Cond({"image": small[k : k + 1]}))
        torch.testing.assert_close(each[k : k + 1], alone, rtol=1e-4, atol=1e-4)
    shared = net(x, 0.3, Cond({"image": small[:1]}))
    torch.testing.assert_close(shared, net(x, 0.3, Cond({"image": small[:1].expand(3, -1, -1, -1)})))
    nothing = net(x, 0.3, Cond({"image": torch.zeros(1, 2, 4, 4)}))
    torch.testing.assert_close(net(x, 0.3, None), nothing)
    hidden = Cond({"image": small}, {"image": torch.tensor([False])})
    torch.testing.assert_close(net(x, 0.3, hidden), nothing)
    assert float((each - nothing).detach().abs().max()) > 1e-3


def test_the_small_picture_is_the_mean_of_what_it_covers():
    x = torch.arange(64, dtype=torch.uint8).reshape(1, 1, 8, 8)
    small = shrunk(x, 4)
    assert int(small[0, 0, 0, 0]) == round((0 + 1 + 8 + 9) / 4)
    source = FromSmall(fn.data.digits(n=40), 4)
    batch = source.read(torch.tensor([3, 7]))
    assert batch.cond is not None
    assert set(batch.cond.values) == {"label", "image"}
    torch.testing.assert_close(batch.cond.values["image"], ONE.read(shrunk(batch.x, 4)))
    with pytest.raises(InputError, match="smaller than the pictures"):
        FromSmall(fn.data.digits(n=40), 8)
    with pytest.raises(InputError, match="for pictures of whole numbers"):
        FromSmall(fn.data.moons(40), 1)


def test_guidance_goes_towards_the_label_and_keeps_the_picture():
    source = FromSmall(fn.data.digits(n=60), 4)
    run = fn.train(source, steps=2, batch_size=8, network={"name": "unet", "widths": (8, 16)})
    cond = source.read(torch.arange(4)).cond
    seen = []
    run.denoiser.network.register_forward_pre_hook(lambda m, args: seen.append(args[2]))
    fn.sample(fn.Guided(run.denoiser, 2.0), n=4, cond=cond, steps=1)
    doubled = seen[0]
    assert doubled.mask("image") is None or bool(doubled.mask("image").all())
    rows = len(doubled) // 2
    assert doubled.mask("label").tolist() == [True] * rows + [False] * rows
    with pytest.raises(LabelError, match="never without a condition 'image'"):
        fn.sample(run.denoiser, n=2, cond="3", steps=1)


@pytest.mark.slow
def test_a_model_that_enlarges_makes_pictures_that_shrink_to_what_it_was_told():
    source = FromSmall(fn.data.digits(), 4)
    run = fn.train(source, steps=250, network={"name": "unet", "widths": (16, 32)}, seed=0)
    held = run.parts()[1]
    x, cond = held.read(torch.arange(64))
    made = fn.sample(run.denoiser, n=64, cond=cond, steps=10)
    off = (shrunk(made, 4).float() - shrunk(x, 4).float()).square().mean().sqrt()
    others = (shrunk(x, 4).float() - shrunk(x, 4).float().roll(1, 0)).square().mean().sqrt()
    assert float(off) < 0.25 * float(others)


def test_noise_is_put_on_the_small_pictures_in_training_alone(tmp_path):
    noisy = fn.data.open("digits", settings={"from_size": 4, "from_noise": 0.5})
    network = {"name": "unet", "widths": (8,)}
    settings = {"steps": 3, "batch_size": 16, "network": network, "drop_cond": 0.0, "log_every": 1}
    run = fn.train(noisy, **settings, out=tmp_path / "r")
    plain = fn.train(fn.data.open("digits", settings={"from_size": 4}), **settings)
    assert [row["loss"] for row in run.history] != [row["loss"] for row in plain.history]
    again = fn.load(tmp_path / "r")
    assert again.source.identity["from_noise"] == 0.5
    assert any(one == Image((1, 4, 4), 0.5) for one in again.denoiser.conditioners)

    draws = Draws(0, 4096)
    clean = torch.zeros(4096, 1, 4, 4)
    seen = Image((1, 4, 4), 0.5).augmented(clean, draws)
    assert torch.equal(seen, Image((1, 4, 4), 0.5).augmented(clean, draws.at(0)))  # a step's noise is its own
    assert not torch.equal(seen, Image((1, 4, 4), 0.5).augmented(clean, draws.at(1)))
    level = seen.square().mean(dim=(1, 2, 3)).sqrt()
    assert float(seen.square().mean()) == pytest.approx(0.25 / 3, rel=0.05)  # of a level uniform in 0..0.5
    assert float(level.min()) < 0.02
    assert Image((1, 4, 4)).augmented(clean, draws) is clean
    x, cond = noisy.read(torch.arange(3))
    torch.testing.assert_close(cond.values["image"], ONE.read(shrunk(x, 4)))
    with pytest.raises(InputError, match=r"set data\.from_size"):
        fn.data.open("digits", settings={"from_noise": 0.5})


@pytest.mark.parametrize(
    "settings", [{"flip": True}, {"from_size": 4, "from_noise": 0.1}, {"flip": True, "from_size": 4}]
)
@pytest.mark.parametrize("built_in", [True, False])
def test_a_run_finds_its_data_again_as_it_saw_them(settings, built_in, tmp_path):
    what = (
        "digits" if built_in else (torch.randint(0, 256, (30, 1, 8, 8), dtype=torch.uint8), [k % 3 for k in range(30)])
    )
    source = fn.data.open(what, settings=settings)
    network = {"name": "unet", "widths": (8, 16)}
    run = fn.train(source, steps=1, batch_size=8, network=network, out=tmp_path / "r")
    again = fn.load(tmp_path / "r")
    assert again.holds_data
    assert again.source.identity == source.identity
    rows = torch.tensor([0, len(source) - 1])
    assert torch.equal(again.source.read(rows).x, source.read(rows).x)
    more = fn.train(again.source, steps=2, batch_size=8, network=network, out=tmp_path / "r", resume=True)
    assert run.step == 1
    assert more.step == 2


def test_what_is_shown_of_the_data_and_told_of_them_has_the_label_it_stands_under():
    digits = fn.data.digits()
    for source in (digits, FromSmall(digits, 4)):
        run = fn.train(source, steps=1, batch_size=8, network={"name": "unet", "widths": (8,)})
        shown = sheets(run).data
        assert list(shown) == [str(k) for k in range(10)]
        kept = {(picture.numpy().tobytes(), int(label)) for picture, label in zip(digits.x, digits.labels, strict=True)}
        trained_on = run.parts()[0]
        own = {picture.numpy().tobytes() for picture in trained_on.read(slice(None)).x}
        for name, pictures in shown.items():
            assert len(pictures) == 10
            assert all((one.numpy().tobytes(), int(name)) in kept and one.numpy().tobytes() in own for one in pictures)
    labels = torch.tensor([3, 3, 7, 0])
    told = told_each(run, labels, 4)
    assert told.values["label"].tolist() == labels.tolist()
    assert told.values["image"].shape == (4, 1, 4, 4)
