"""Latents from the command line: an autoencoder, a model in its latents, and what goes wrong."""

import json
import shutil
import tarfile

import numpy as np
import pytest
from PIL import Image

import fromnoise as fn


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    fn.train_autoencoder("digits", factor=2, channels=2, steps=20, out=root / "ae")
    small = {"name": "unet", "widths": [16, 32]}
    fn.train("digits", latent=root / "ae", network=small, steps=10, out=root / "run")
    fn.train("digits", network=small, steps=1, out=root / "pixels")
    return root


def test_two_commands_from_pictures_to_samples_in_latents(run_cli, tmp_path):
    ae, out = tmp_path / "ae", tmp_path / "run"
    code, said, err = run_cli("train-autoencoder", "digits", "--factor", "2", "--steps", "30", "--out", ae, "--json")
    assert code == 0, err
    found = json.loads(said)
    assert found["latent"] == [4, 4, 4]
    assert found["psnr"] > 5
    assert 0 < found["ssim"] < 1
    assert (ae / "report.html").stat().st_size > 10_000
    code, said, err = run_cli("train", "digits", "--latent", ae, "--steps", "10", "--net", "dit", "--out", out)
    assert code == 0, err
    assert "4 times fewer positions" in said
    assert "a training step" in said
    assert "next: fromnoise sample" in said
    shutil.rmtree(ae)
    code, _, err = run_cli("sample", out, "-n", "6", "--steps", "4", "--label", "3", "--out", tmp_path / "s.npz")
    assert code == 0, err
    assert np.load(tmp_path / "s.npz")["x"].shape == (6, 1, 8, 8)
    assert "The autoencoder&#x27;s ceiling" in (out / "report.html").read_text().replace("'", "&#x27;")


@pytest.mark.slow
def test_what_there_is_to_see_of_an_autoencoder(run_cli, runs, tmp_path):
    code, said, err = run_cli("evaluate", runs / "ae", "-n", "150", "--json")
    assert code == 0, err
    found = json.loads(said)
    assert found["space"] == "classifier features"
    assert found["distance"] > 0
    assert found["ceiling_ratio"] > 0
    for kind in ("samples", "reconstructions", "loss"):
        code, _, err = run_cli("plot", runs / "ae", kind, "--out", tmp_path / f"{kind}.png")
        assert code == 0, err
        with Image.open(tmp_path / f"{kind}.png") as picture:
            assert picture.size[0] > 200
    code, said, _ = run_cli("info", runs / "ae")
    assert code == 0
    assert "an autoencoder" in said
    code, said, err = run_cli("plot", runs / "ae", "guidance")
    assert code == 2
    assert "reconstructions" in err


@pytest.mark.slow
def test_a_model_in_latents_has_every_command_of_pictures(run_cli, runs, tmp_path):
    run = runs / "run"
    code, said, err = run_cli("evaluate", run, "-n", "100", "--elbo", "--steps", "4", "--json")
    assert code == 0, err
    assert json.loads(said)["ceiling"]
    assert json.loads(said)["likelihood"]["bits_per_dim"]
    for kind in ("samples", "trajectory", "neighbours", "guidance", "dissolve", "loss"):
        out = tmp_path / f"{kind}.{'gif' if kind == 'trajectory' else 'png'}"
        code, _, err = run_cli("plot", run, kind, "--steps", "3", "--out", out)
        assert code == 0, (kind, err)
    picture = tmp_path / "three.png"
    Image.fromarray(fn.data.digits().x[3, 0].numpy()).save(picture)
    code, _, err = run_cli("encode", run, picture, "--tolerance", "0.01", "--out", tmp_path / "noise.npz")
    assert code == 0, err
    assert np.load(tmp_path / "noise.npz")["x"].shape == (1, 2, 4, 4)
    code, _, err = run_cli("decode", run, tmp_path / "noise.npz", "--tolerance", "0.01", "--out", tmp_path / "back.npz")
    assert code == 0, err
    assert np.load(tmp_path / "back.npz")["x"].shape == (1, 1, 8, 8)
    code, _, err = run_cli("sample", run, "-n", "2", "--known", picture, "--mask", picture)
    assert code == 2
    assert "cannot be kept" in err


def folder(path, side, mode="L", n=24):
    generator = np.random.default_rng(0)
    shape = (side, side) if mode == "L" else (side, side, 3)
    path.mkdir()
    for k in range(n):
        Image.fromarray(generator.integers(256, size=shape, dtype=np.uint8), mode).save(path / f"{k:02}.png")
    return path


def test_size_and_channels_come_from_the_autoencoder(run_cli, runs, tmp_path):
    wide = folder(tmp_path / "wide", 20, "RGB")
    for more in ((), ("--size", "8")):
        out = tmp_path / f"run{len(more)}"
        code, _, err = run_cli(
            "train", wide, "--latent", runs / "ae", "--steps", "2", "--no-report", "--out", out, *more
        )
        assert code == 0, err
        assert fn.load(out).source.shape == (1, 8, 8)
    code, _, err = run_cli("train", wide, "--latent", runs / "ae", "--size", "16", "--steps", "2")
    assert code == 2
    assert "16 x 16" in err
    assert "for 1 x 8 x 8" in err


def test_pictures_that_need_a_size_have_one_in_both_commands(run_cli, tmp_path):
    place = folder(tmp_path / "photos", 12)
    Image.fromarray(np.zeros((9, 20), np.uint8)).save(place / "odd.png")
    ae = tmp_path / "ae"
    code, _, err = run_cli(
        "train-autoencoder", place, "--size", "8", "--factor", "2", "--steps", "3", "--no-report", "--out", ae
    )
    assert code == 0, err
    with tarfile.open(tmp_path / "photos.tar", "w") as archive:
        archive.add(place, "photos")
    for what in (place, tmp_path / "photos.tar"):
        out = tmp_path / what.suffix[1:] / "r"
        code, _, err = run_cli("train", what, "--latent", ae, "--steps", "2", "--no-report", "--out", out)
        assert code == 0, err


def _denoiser(runs):
    return "--latent", runs / "pixels"


REFUSED = {
    "the likelihood of an autoencoder": (lambda runs: ("evaluate", runs / "ae", "--elbo"), "leave --elbo out"),
    "no run": (lambda runs: ("train", "digits", "--latent", runs / "none"), "no run at"),
    "a denoiser in place of an autoencoder": (lambda runs: ("train", "digits", *_denoiser(runs)), "is no run of"),
    "points": (lambda runs: ("train", "spiral", "--latent", runs / "ae"), "the autoencoder is for 1 x 8 x 8"),
    "another codec too": (
        lambda runs: ("train", "digits", "--latent", runs / "ae", "--set", "codec=pixels"), "leave one of the two out"
    ),
    "samples of an autoencoder": (lambda runs: ("sample", runs / "ae"), "is the run of an autoencoder"),
    "distilling one": (lambda runs: ("distill", runs / "ae"), "is the run of an autoencoder"),
    "exporting one": (lambda runs: ("export", runs / "ae"), "is the run of an autoencoder"),
    "an autoencoder of points": (lambda runs: ("train-autoencoder", "spiral"), "is for pictures"),
    "an unknown factor": (lambda runs: ("train-autoencoder", "digits", "--factor", "3"), "factor"),
    "no channels": (lambda runs: ("train-autoencoder", "digits", "--channels", "0"), "channels"),
    "a wrong error": (lambda runs: ("train-autoencoder", "digits", "--error", "l3"), "error"),
    "a negative weight": (lambda runs: ("train-autoencoder", "digits", "--kl", "-1"), "kl"),
    "features of nothing": (
        lambda runs: ("train-autoencoder", "digits", "--factor", "2", "--perceptual", "1", "--features", "none.pt"),
        "none.pt",
    ),
    "a taken place": (lambda runs: ("train-autoencoder", "digits", "--factor", "2", "--out", runs / "ae"), "already"),
    "a setting of denoisers": (
        lambda runs: ("train-autoencoder", "digits", "--set", "train.times=uniform"), "is a setting of denoisers"
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_what_does_not_go_together_is_refused_in_one_line(kind, run_cli, runs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make, says = REFUSED[kind]
    code, _, err = run_cli(*make(runs))
    lines = [line for line in err.splitlines() if not line.startswith("note:")]
    assert (code, len(lines)) == (2, 1), err
    assert says in lines[0]
    assert not list(tmp_path.iterdir())
