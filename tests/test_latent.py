"""Latents: an autoencoder as a codec, and the runs that hold a copy of it."""

import pickle
import shutil

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import fromnoise as fn
from fromnoise.data import stored
from fromnoise.data.codec import codecs
from fromnoise.data.source import held_apart
from fromnoise.data.stored import Stored, stored_of
from fromnoise.data.views import Flipped
from fromnoise.errors import CheckpointDamaged, InputError
from fromnoise.latent import Autoencoder, Latent
from fromnoise.nn.autoencoder import KLAutoencoder, Posterior, autoencoders
from fromnoise.report import ceiling_of_samples
from fromnoise.run import latents_of
from fromnoise.training.plan import prepare

DIGITS = fn.data.digits(400)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return fn.train_autoencoder(DIGITS, factor=2, channels=3, steps=60, out=tmp_path_factory.mktemp("runs") / "ae")


@pytest.fixture(scope="module")
def codec(trained):
    return trained.latents.fitted(DIGITS)


def test_through_the_codec_and_back_is_the_autoencoders_reconstruction(trained, codec):
    x = DIGITS.x[:100]
    assert torch.equal(codec.out(codec.into(codec.store(x))), trained.autoencoder.reconstructed(x))


def test_how_many_there_are_changes_no_bit_of_any(codec):
    z = torch.randn(600, *codec.shape, generator=torch.Generator().manual_seed(0))
    assert torch.equal(codec.out(z), torch.cat([codec.out(part) for part in z.split(7)]))
    every = codec.store(DIGITS.x)
    assert torch.equal(every[5:8], codec.store(DIGITS.x[5:8]))
    assert codec.store(DIGITS.x[:0]).shape == (0, 6, 4, 4)


def test_latents_have_mean_0_and_variance_1_in_each_channel(codec):
    z = codec.into(codec.store(DIGITS.x), torch.Generator().manual_seed(0)).double()
    assert codec.shape == tuple(z.shape[1:]) == (3, 4, 4)
    torch.testing.assert_close(z.mean((0, 2, 3)), torch.zeros(3, dtype=torch.float64), atol=0.03, rtol=0)
    torch.testing.assert_close(z.square().mean((0, 2, 3)), torch.ones(3, dtype=torch.float64), atol=0.05, rtol=0)


def test_a_latent_is_drawn_from_its_law(codec):
    kept = codec.store(DIGITS.x[:1]).expand(4000, -1, -1, -1)
    z = codec.into(kept, torch.Generator().manual_seed(0)).double()
    law = Posterior.of_moments(kept[:1])
    torch.testing.assert_close(z.var(0), codec.variance(kept[:1])[0].double(), rtol=0.15, atol=0)
    mean = ((law.mean - codec.mean) / codec.std)[0].double()
    assert ((z.mean(0) - mean).abs() < 5 * z.std(0) / 4000**0.5).all()


def test_a_run_holds_a_copy_of_the_autoencoder(trained, tmp_path):
    place = tmp_path / "ae"
    shutil.copytree(trained.folder.path, place)
    run = fn.train(DIGITS, latent=place, steps=10, out=tmp_path / "run", seed=0)
    x = fn.sample(run.denoiser, 8, steps=4, seed=1)
    assert x.dtype == torch.uint8
    assert x.shape[1:] == DIGITS.shape
    shutil.rmtree(place)
    again = fn.load(tmp_path / "run")
    assert fn.equal(fn.sample(again.denoiser, 8, steps=4, seed=1), x)
    assert again.denoiser.codec.equals(run.denoiser.codec)
    assert again.source.shape == DIGITS.shape
    assert again.denoiser.shape == (3, 4, 4)


def test_a_codec_that_was_edited_is_refused(trained, tmp_path):
    fn.train(DIGITS, latent=trained, steps=2, out=tmp_path / "run")
    path = tmp_path / "run" / "codec.safetensors"
    tensors = load_file(path)
    name = "network.decoder.conv_out.weight"
    for broken in (tensors[name] + 1, tensors[name][:, :4].clone(), tensors[name] * torch.nan, tensors[name].half()):
        save_file({**tensors, name: broken.contiguous()}, path)
        with pytest.raises(CheckpointDamaged):
            fn.load(tmp_path / "run")
    save_file({key: value for key, value in tensors.items() if key != name}, path)
    with pytest.raises(CheckpointDamaged):
        fn.load(tmp_path / "run")
    for more in (torch.zeros(1), torch.zeros(2**22)):
        save_file({**tensors, "more": more}, path)
        with pytest.raises(CheckpointDamaged):
            fn.load(tmp_path / "run")


def test_a_resumed_run_in_latents_is_the_one_that_was_never_interrupted(trained, tmp_path):
    whole = fn.train(DIGITS, latent=trained, steps=12, save_every=5, out=tmp_path / "whole", seed=0)
    shutil.copytree(tmp_path / "whole", tmp_path / "again")
    shutil.rmtree(tmp_path / "again" / "checkpoints" / "000000012")
    resumed = fn.train(DIGITS, latent=trained, steps=12, save_every=5, out=tmp_path / "again", seed=0, resume=True)
    for a, b in zip(whole.denoiser.network.parameters(), resumed.denoiser.network.parameters(), strict=True):
        assert torch.equal(a, b)


def test_another_autoencoder_cannot_go_on_with_a_run(trained, tmp_path):
    fn.train(DIGITS, latent=trained, steps=2, out=tmp_path / "run")
    other = fn.train_autoencoder(DIGITS, factor=2, channels=3, steps=3)
    with pytest.raises(fn.FromnoiseError, match=r"codec\.weights"):
        fn.train(DIGITS, latent=other, steps=2, out=tmp_path / "run", resume=True)


def test_latents_are_taken_once_and_then_come_from_the_cache(trained, monkeypatch):
    rows = held_apart(DIGITS, 0.25, 3)[0]
    codec, counts = trained.latents, []
    plain = Autoencoder.moments

    def counted(self, x):
        counts.append(len(x))
        return plain(self, x)

    monkeypatch.setattr(Autoencoder, "moments", counted)
    first = stored_of(rows, codec)
    assert sum(counts) == len(rows)
    second = stored_of(rows, trained.latents)
    assert sum(counts) == len(rows)
    assert torch.equal(first, second)
    assert torch.equal(first, codec.store(rows.read(slice(None)).x))
    fitted, generator = codec.fitted(rows), torch.Generator()
    at = torch.tensor([5, 0, 5])
    z = Stored(rows, fitted).z(at, generator.manual_seed(0))
    assert torch.equal(z, fitted.into(codec.store(rows.read(at).x), generator.manual_seed(0)))


def test_other_rows_and_mirror_images_have_entries_of_their_own(trained):
    codec = trained.latents
    kept, held = held_apart(DIGITS, 0.25, 3)
    flipped = fn.data.open("digits", settings={"n": 400, "flip": True})
    each = [stored_of(part, codec) for part in (DIGITS, kept, held, flipped)]
    assert [len(one) for one in each] == [400, len(kept), len(held), 800]
    torch.testing.assert_close(each[3][:400], codec.store(flipped.base.x), atol=1e-5, rtol=1e-4)
    assert not torch.allclose(each[3][400:], each[3][:400], atol=1e-2)


def test_a_source_of_the_users_own_is_not_cached(trained):
    class Mine:
        name, shape, suggests, conditioners, distribution = "mine", DIGITS.shape, {"recipe": "image"}, (), None
        identity = {"name": "mine"}  # noqa: RUF012

        def __init__(self, x):
            self.x = x

        def __len__(self):
            return len(self.x)

        def read(self, rows):
            return fn.data.Batch(self.x[rows], None)

        def take(self, rows):
            return Mine(self.x[rows])

        def resident(self, device, budget):
            return self

    first, second = (stored_of(Mine(x), trained.latents) for x in (DIGITS.x[:10], DIGITS.x[10:20]))
    assert not torch.equal(first, second)
    assert stored._content(Mine(DIGITS.x)) is None


WRONG = {
    "another size": (torch.zeros(20, 1, 16, 16, dtype=torch.uint8), "1 x 16 x 16, .* for 1 x 8 x 8"),
    "other channels": (torch.zeros(20, 3, 8, 8, dtype=torch.uint8), "3 x 8 x 8"),
    "floats": (torch.zeros(20, 1, 8, 8), "whole numbers 0..255"),
    "whole numbers where floats are": (torch.zeros(20, 1, 8, 8, dtype=torch.uint8), "of floats"),
    "points": (torch.zeros(20, 2), "and the autoencoder is for"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_samples_that_the_autoencoder_is_not_for_are_refused(kind, trained):
    x, says = WRONG[kind]
    if "floats are" in kind:
        trained = fn.train_autoencoder(DIGITS.x / 255, factor=2, steps=1)
    with pytest.raises(InputError, match=says):
        fn.train(x, latent=trained, steps=1)


def test_an_autoencoder_and_a_denoiser_are_not_mistaken_for_one_another(trained, tmp_path):
    with pytest.raises(InputError, match="is the run of an autoencoder"):
        fn.load(trained.folder.path)
    fn.train(DIGITS, latent=trained, steps=1, out=tmp_path / "run")
    with pytest.raises(InputError, match="is no run of an autoencoder"):
        fn.load_autoencoder(tmp_path / "run")
    with pytest.raises(InputError, match="give one of the two"):
        fn.train(DIGITS, latent=trained, codec="pixels", steps=1)
    with pytest.raises(InputError, match="give the run of a trained one"):
        fn.train(DIGITS, codec="latent", steps=1)


def test_what_pixels_alone_allow_is_refused_in_latents(trained):
    run = fn.train(DIGITS, latent=trained, steps=1, seed=0)
    with pytest.raises(InputError, match="cannot be kept"):
        fn.Inpainted(run.denoiser, DIGITS.x[0], torch.arange(64).reshape(1, 8, 8) < 32)
    with pytest.raises(InputError, match="does not keep the order"):
        fn.Clipped(run.denoiser)


def test_likelihoods_are_of_latents(trained):
    run = fn.train(DIGITS, latent=trained, steps=30, seed=0)
    bound = fn.elbo(run.denoiser, DIGITS, steps=20, draws=16)
    assert bound.of == "latents, in the denoiser's units"
    assert bound.of in str(bound)
    assert bound.dimension == 48
    assert bound.units == 0
    assert fn.log_likelihood(run.denoiser, DIGITS.x[:2], tolerance=1e-3, trace="hutchinson").shape == (2,)
    with pytest.raises(InputError, match="shape"):
        fn.elbo(run.denoiser, torch.zeros(8, 3, 4, 4))


def test_encode_and_decode_through_noise(trained):
    run = fn.train(DIGITS, latent=trained, steps=30, seed=0)
    x = fn.dynamics.interpolate(run.denoiser, DIGITS.x[0], DIGITS.x[1], 3, tolerance=1e-4)
    assert x.shape == (3, 1, 8, 8)
    assert x.dtype == torch.uint8
    ends = trained.autoencoder.reconstructed(DIGITS.x[:2])
    assert (x[[0, 2]].int() - ends.int()).abs().max() <= 12
    with pytest.raises(InputError, match="none of this denoiser's"):
        fn.dynamics.interpolate(run.denoiser, torch.zeros(3, 4, 4), torch.zeros(3, 4, 4), 3)


def test_every_sampler_ends_in_pictures(trained):
    run = fn.train(DIGITS, latent=trained, steps=10, seed=0)
    for name in ("ddim", "ddpm", "heun", "dpm-solver", "unipc", "sde", "multistep"):
        x = fn.sample(run.denoiser, 4, sampler=fn.samplers.samplers.build(name), steps=6)
        assert x.dtype == torch.uint8
        assert x.shape == (4, 1, 8, 8)
    way = fn.trajectory(run.denoiser, 2, steps=4)
    assert way.x.shape[1:] == (2, 1, 8, 8)
    assert way.x.dtype == torch.uint8


def test_a_codec_can_be_copied_to_other_processes_and_is_known_by_its_weights(codec):
    again = pickle.loads(pickle.dumps(codec))
    assert again.equals(codec)
    x = DIGITS.x[:4]
    assert torch.equal(again.out(again.into(again.store(x))), codec.out(codec.into(codec.store(x))))
    other = Latent.from_autoencoder(
        Autoencoder(KLAutoencoder(DIGITS.shape, 2, 3), fn.data.Pixels("signed").fitted(DIGITS))
    )
    assert not other.fitted(DIGITS).equals(codec)
    assert codecs.settings(codec)["weights"] != codecs.settings(other)["weights"]


def test_floats_have_an_autoencoder_too(tmp_path):
    x = DIGITS.x.float() / 16 - 3
    run = fn.train_autoencoder(x, factor=2, steps=30, out=tmp_path / "ae")
    again = fn.load_autoencoder(tmp_path / "ae")
    y = again.autoencoder.reconstructed(x[:5])
    assert y.dtype == torch.float32
    assert torch.equal(y, run.autoencoder.reconstructed(x[:5]))
    d = fn.train(x, latent=tmp_path / "ae", steps=3)
    assert fn.sample(d.denoiser, 3, steps=2).dtype == torch.float32


def test_the_floor_of_a_few_latents_is_that_of_their_laws(trained):
    few = fn.data.digits(30)
    law = fn.exact.mixture_of_data(few, trained.latents.fitted(few))
    z = trained.latents.fitted(few)
    torch.testing.assert_close(
        law.mean_and_variance()[1].mean(),
        z.into(z.store(few.x), torch.Generator().manual_seed(0)).double().var(0, correction=0).mean(),
        rtol=0.1, atol=0,
    )  # fmt: skip
    with pytest.raises(InputError, match="give fewer samples"):
        fn.exact.mixture_of_data(DIGITS, trained.latents.fitted(DIGITS))


def test_subsets_of_subsets_and_what_is_flipped_first_have_entries_of_their_own(trained, tmp_path):
    for k in range(60):
        Image.fromarray(DIGITS.x[k, 0].numpy()).save(tmp_path / f"{k:02}.png")
    files, codec = fn.data.open(tmp_path), trained.latents
    first, second = (held_apart(files.take(torch.arange(a, a + 30)), 0.2, 0)[0] for a in (0, 30))
    assert len(first) == len(second)
    for part in (first, second):
        assert torch.equal(stored_of(part, codec), codec.store(part.read(slice(None)).x))
    rows = torch.arange(20)
    for part in (Flipped(files).take(rows), Flipped(files.take(rows))):
        assert torch.equal(stored_of(part, codec), codec.store(part.read(slice(None)).x))


def test_the_same_weights_under_other_settings_are_another_codec(codec):
    settings = {**codec.network, "groups": 8}
    network = autoencoders.build(settings)
    network.load_state_dict(codec.autoencoder.inner.state_dict())
    other = Latent.from_autoencoder(Autoencoder(network, codec.autoencoder.codec))
    assert other.store_key != codec.store_key


def test_a_perfect_autoencoder_reaches_the_floor():
    class Perfect:
        def reconstructed(self, x):
            return x

    rows, held = held_apart(fn.data.digits(), 0.1, 0)
    for apart, n in ((held, 500), (held, 150), (None, 500)):
        found = ceiling_of_samples(Perfect(), rows, apart, n=n).measures[0]
        assert 0.8 < found.ratio < 1.25, found


def test_a_run_in_latents_is_gone_on_with_when_the_autoencoder_is_gone(trained, tmp_path):
    shutil.copytree(trained.folder.path, tmp_path / "ae")
    settings = {"steps": 8, "save_every": 4, "seed": 0}
    whole = fn.train(DIGITS, latent=tmp_path / "ae", out=tmp_path / "r", **settings)
    shutil.rmtree(tmp_path / "ae")
    shutil.rmtree(tmp_path / "r" / "checkpoints" / "000000008")
    again = fn.train(DIGITS, latent=tmp_path / "r", out=tmp_path / "r", resume=True, **settings)
    for a, b in zip(whole.denoiser.network.parameters(), again.denoiser.network.parameters(), strict=True):
        assert torch.equal(a, b)
    with pytest.raises(InputError, match="is no run of an autoencoder"):
        latents_of(3)


def test_what_brings_its_codec_along_is_not_trained_on_pixels_by_mistake(trained):
    plan, source = prepare("digits", None, {"train": {"steps": 1}}, codec=trained.latents)
    with pytest.raises(InputError, match="give the run of a trained one"):
        plan.assemble(source)
