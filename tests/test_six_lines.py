"""The six lines that hold for every kind of data: open, train, sample, evaluate, load, the same samples again."""

import pytest
import torch

import fromnoise as fn
from emoji_example import HAS_EMOJI


def table():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(300, 7, generator=generator, dtype=torch.float64)
    return (x @ torch.randn(7, 7, generator=generator, dtype=torch.float64) * 10 + 100).numpy()


def told():
    where = torch.rand(300, 2, generator=torch.Generator().manual_seed(0))
    return where.numpy() + 0.1, where.numpy()


DIGITS = fn.data.digits(150)

KINDS = {
    "spiral": ("spiral", None),
    "labelled shapes": ("shapes", "circles"),
    "an array": (table(), None),
    "condition vectors": (told(), [0.25, 0.75]),
    "digits": ("digits", "3"),
    "latents of digits": ("digits", "3"),
    "captioned digits": (DIGITS.captioned([f"the digit {k}" for k in DIGITS.labels.tolist()]), "the digit 3"),
    "captioned emoji": (None, "red heart"),
}
"""What is opened, and the condition to sample under."""


@pytest.fixture(scope="module")
def autoencoder(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "autoencoder"
    return fn.train_autoencoder("digits", factor=2, steps=20, out=out).folder.path


@pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=[pytest.mark.slow] if KINDS[k][0] is None else []) for k in KINDS]
)
def test_six_lines(kind, tmp_path, monkeypatch, request):
    what, cond = KINDS[kind]
    if what is None:
        if not HAS_EMOJI:
            pytest.skip("needs fonts-noto-color-emoji and unicode-data")
        what = request.getfixturevalue("emoji_folder") / "seen"
    source = fn.data.open(what)
    more = {"latent": request.getfixturevalue("autoencoder")} if kind.startswith("latents") else {}
    steps = 200 if len(source.shape) < 3 else 20
    run = fn.train(source, out=tmp_path / "x", seed=0, steps=steps, batch_size=64, **more)
    x = fn.sample(run.denoiser, n=64, cond=cond, steps=10, seed=1)
    assert fn.evaluate(x, against=source)
    monkeypatch.setattr(fn.run.RunFolder, "data", lambda self: pytest.fail("loading read the training data"))
    again = fn.load(tmp_path / "x")
    assert fn.equal(fn.sample(again.denoiser, n=64, cond=cond, steps=10, seed=1), x)
    assert x.dtype == source.x.dtype
    assert x.shape[1:] == source.shape
