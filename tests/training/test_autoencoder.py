"""The training of autoencoders: the loss's terms, resuming, and settings that are refused."""

import shutil

import pytest
import torch
from torch import nn

import fromnoise as fn
from fromnoise.data.codec import codecs
from fromnoise.errors import ConfigError, InputError
from fromnoise.latent import Autoencoder
from fromnoise.metrics import psnr
from fromnoise.nn.autoencoder import KLAutoencoder
from fromnoise.training import AutoencoderPlan, Autoencoding, Draws
from fromnoise.training.judge import judge_of
from fromnoise.training.perceptual import Perceptual

DIGITS = fn.data.digits(300)


def model(seed=0, **network):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = Autoencoder(KLAutoencoder(DIGITS.shape, 2, 2, **network))
    made.measure(DIGITS, codecs.build({"name": "pixels", "kind": "signed"}))
    return made


def drawn(task, n=16, seed=0):
    x = task.model.codec.into(DIGITS.x[:n])
    return task.draw(fn.data.Batch(x, None), Draws(seed, n))


def test_reconstructions_get_better():
    before = psnr(model().reconstructed(DIGITS.x), DIGITS.x)
    run = fn.train_autoencoder(DIGITS, factor=2, steps=100, seed=0)
    after = psnr(run.autoencoder.reconstructed(DIGITS.x), DIGITS.x)
    assert after > before + 5, (before, after)
    assert run.loss < 0.2
    held = [row["held_out"]["loss"] for row in run.history if "held_out" in row]
    assert held
    assert held[-1] < 0.2


@pytest.mark.parametrize("error", ["l1", "l2"])
def test_the_loss_is_error_and_divergence_per_number(error):
    task = Autoencoding(error=error, kl=0.01).bound(model())
    rows = drawn(task)
    with torch.no_grad():
        x_hat, law = task.network(rows.x, rows.also["eps"])
    off = (x_hat - rows.x).abs()
    by_hand = torch.distributions.kl_divergence(
        torch.distributions.Normal(law.mean, (0.5 * law.log_variance).exp()), torch.distributions.Normal(0.0, 1.0)
    )
    wanted = (off if error == "l1" else off**2).mean() + 0.01 * by_hand.sum() / rows.x.numel()
    torch.testing.assert_close(task.loss(rows), wanted)


def test_latents_are_drawn_anew_in_every_round():
    task = Autoencoding().bound(model())
    x = fn.data.Batch(task.model.codec.into(DIGITS.x[:16]), None)
    draws = Draws(0, 16)
    first, second = (task.draw(x, draws.at(k)).also["eps"] for k in (0, 1))
    assert first.shape == (16, 2, 4, 4)
    assert not torch.equal(first, second)
    assert torch.equal(task.draw(x, draws.at(0)).also["eps"], first)


def test_a_resumed_training_is_the_one_that_was_never_interrupted(tmp_path):
    settings = {"factor": 2, "steps": 12, "save_every": 5, "seed": 3, "loss": {"adversarial": 0.1}}
    whole = fn.train_autoencoder(DIGITS, out=tmp_path / "whole", **settings)
    shutil.copytree(tmp_path / "whole", tmp_path / "again")
    shutil.rmtree(tmp_path / "again" / "checkpoints" / "000000012")
    again = fn.train_autoencoder(DIGITS, out=tmp_path / "again", resume=True, **settings)
    for a, b in zip(whole.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(a, b)
    loaded = fn.load_autoencoder(tmp_path / "again")
    assert torch.equal(loaded.autoencoder.reconstructed(DIGITS.x[:9]), whole.autoencoder.reconstructed(DIGITS.x[:9]))
    assert loaded.source.identity == DIGITS.identity


def test_the_adversarial_term_moves_the_autoencoder_one_way_and_its_critic_the_other():
    made = model(critic=8)
    nn.init.normal_(made.inner.decoder.conv_out.weight, std=0.5)
    task = Autoencoding(kl=0.0, adversarial=1.0).bound(made)
    rows = drawn(task)
    rows = rows._replace(also={**rows.also, "progress": torch.ones(16)})
    plain = Autoencoding(kl=0.0).bound(made).loss(rows)
    loss = task.loss(rows)
    loss.backward()
    critic = made.inner.critic
    with torch.no_grad():
        x_hat, _ = made.inner(rows.x, rows.also["eps"])
        torch.testing.assert_close(loss, plain - critic(x_hat).mean())
    told = [p.grad.clone() for p in critic.parameters()]
    own = torch.relu(1 - critic(rows.x)).mean() + torch.relu(1 + critic(x_hat)).mean()
    for a, b in zip(told, torch.autograd.grad(own, list(critic.parameters())), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-7)
    later = {**rows.also, "progress": torch.zeros(16)}  # before it begins there is none of it
    torch.testing.assert_close(task.loss(rows._replace(also=later)), plain)


def test_the_critic_is_no_part_of_the_codec():
    run = fn.train_autoencoder(DIGITS, factor=2, steps=4, loss={"adversarial": 0.1})
    assert run.config.network["critic"] == 32
    codec = run.latents.fitted(DIGITS)
    assert not [name for name in codec.tensors() if "critic" in name]
    assert torch.equal(codec.reconstructed(DIGITS.x[:5]), run.autoencoder.reconstructed(DIGITS.x[:5]))


def test_the_perceptual_term_is_a_distance_that_gradients_pass(tmp_path):
    judge_of(DIGITS).save(tmp_path / "judge.safetensors")
    seen = Perceptual.from_file(str(tmp_path / "judge.safetensors"), "", model().codec)
    x = model().codec.into(DIGITS.x[:8])
    assert seen.distance(x, x) == 0
    near, far = (seen.distance(x + s * torch.ones_like(x).cumsum(3) / 8, x) for s in (0.05, 0.3))
    assert 0 < near < far
    moved = (x + 0.1).requires_grad_()
    seen.distance(moved, x).backward()
    assert moved.grad.abs().sum() > 0
    plain = Autoencoding(kl=0.0).bound(model())
    task = Autoencoding(kl=0.0, perceptual=2.0, features=str(tmp_path / "judge.safetensors")).bound(plain.model)
    rows = drawn(task)
    with torch.no_grad():
        x_hat, _ = task.network(rows.x, rows.also["eps"])
        torch.testing.assert_close(task.loss(rows), plain.loss(rows) + 2 * seen.distance(x_hat, rows.x))


class Means(nn.Module):
    def forward(self, x):
        return x.float().mean((2, 3))


def test_features_come_from_the_data_s_labels_or_from_a_file(tmp_path):
    torch.jit.script(Means()).save(str(tmp_path / "means.pt"))
    for features in ("classifier", str(tmp_path / "means.pt")):
        loss = {"perceptual": 0.1, "features": features}
        run = fn.train_autoencoder(DIGITS, factor=2, steps=2, loss=loss, out=tmp_path / features[-3:])
        kept = run.config.train["loss"]
        assert len(kept["features_sum"]) == 64
        assert kept["features"].startswith("/")
    (tmp_path / "means.pt").write_bytes(b"other")
    with pytest.raises(InputError, match="no TorchScript"):
        fn.train_autoencoder(DIGITS, factor=2, steps=2, loss=loss, out=tmp_path / ".pt", resume=True)


class Counts(nn.Module):
    def forward(self, x):
        return x.to(torch.int32).float().mean((2, 3))


class Asserts(nn.Module):
    def forward(self, x):
        assert x.shape[2] == 99
        return x.mean((2, 3))


@pytest.mark.parametrize(("module", "says"), [(Counts, "no gradient"), (Asserts, "cannot take these pictures")])
def test_a_network_that_nothing_can_be_learned_of_is_refused_before_the_training(module, says, tmp_path):
    torch.jit.script(module()).save(str(tmp_path / "net.pt"))
    loss = {"perceptual": 0.1, "features": str(tmp_path / "net.pt")}
    with pytest.raises(InputError, match=says):
        fn.train_autoencoder(DIGITS, factor=2, steps=2, loss=loss, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


REFUSED = {
    "features without a weight": (
        lambda: fn.train_autoencoder(DIGITS, factor=2, steps=1, loss={"features": "x.pt"}), "set train.loss.perceptual"
    ),
    "a critic without a weight": (
        lambda: fn.train_autoencoder(DIGITS, factor=2, steps=1, network={"critic": 8}), "set train.loss.adversarial"
    ),
    "patience with a critic": (
        lambda: fn.train_autoencoder(DIGITS, factor=2, steps=1, patience=2, loss={"adversarial": 0.1}), "patience"
    ),
    "points": (lambda: fn.train_autoencoder("spiral", steps=1), "is for pictures"),
    "a factor of 3": (lambda: fn.train_autoencoder(DIGITS, factor=3, steps=1), "factor"),
    "a size that cannot be divided": (
        lambda: fn.train_autoencoder(torch.zeros(9, 1, 6, 6, dtype=torch.uint8), steps=1), "bring the pictures to 8 x 8"
    ),
    "widths of other levels": (lambda: fn.train_autoencoder(DIGITS, network={"widths": [16] * 4}, steps=1), "3 levels"),
    "a weighting": (lambda: fn.train_autoencoder(DIGITS, steps=1, weighting="edm"), "is a setting of denoisers"),
    "dropping": (lambda: fn.train_autoencoder(DIGITS, steps=1, drop_cond=0.1), "is a setting of denoisers"),
    "an unknown loss": (lambda: fn.train_autoencoder(DIGITS, steps=1, loss={"error": "l3"}), "error"),
    "a denoiser's loss": (
        lambda: fn.train_autoencoder(DIGITS, factor=2, steps=1, loss={"name": "denoising"}), "is for denoisers"
    ),
    "a denoiser with its loss": (lambda: fn.train(DIGITS, steps=1, loss="autoencoding"), "train-autoencoder"),
    "features that are not there": (
        lambda: fn.train_autoencoder(DIGITS, factor=2, steps=1, loss={"perceptual": 1.0, "features": "x.pt"}), "x.pt"
    ),
    "features without labels": (
        lambda: fn.train_autoencoder(DIGITS.x, factor=2, steps=1, loss={"perceptual": 1.0}), "judge needs pictures"
    ),
    "a schedule": (lambda: AutoencoderPlan.from_recipe(changes={"schedule": "edm"}), "setting of denoisers"),
    "an unknown setting": (lambda: fn.train_autoencoder(DIGITS, steps=1, depth=3), "depth"),
    "the recipe of a denoiser": (lambda: fn.train(DIGITS, recipe="autoencoder", steps=1), "autoencoder"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_trained_is_refused(kind):
    act, says = REFUSED[kind]
    with pytest.raises(InputError, match=says) as caught:
        act()
    assert "\n" not in str(caught.value)


def test_a_critic_alone_needs_its_width():
    with pytest.raises(ConfigError, match=r"network\.critic"):
        Autoencoding(adversarial=0.1).bound(model()).check()
    with pytest.raises(ConfigError, match=r"loss\.features"):
        Autoencoding(perceptual=0.1).bound(model()).check()


def test_levels_without_a_width_have_the_last_that_is_given():
    each, last = (KLAutoencoder((1, 16, 16), 4, widths=widths) for widths in ((8, 4, 4), (8, 4)))
    shapes = {name: p.shape for name, p in each.named_parameters()}
    assert shapes == {name: p.shape for name, p in last.named_parameters()}
