"""Conditions made from z: a task that tells the network a part of each sample, and is judged by the rest.

The known part is a sample's own coordinates, so it is made after the codec, in the same draw. The task, the network
and the two conditioners stand here, outside the library: nothing in it knows of them.
"""

from dataclasses import dataclass

import pytest
import torch

import fromnoise as fn
from fromnoise.cond import Cond
from fromnoise.conditioners import Conditioner
from fromnoise.errors import LabelError
from fromnoise.rng import stream
from fromnoise.training import Denoising


@dataclass(frozen=True)
class Coordinates(Conditioner):
    """A tensor of z's own shape that is never dropped."""

    value = "known"
    ndim = 1
    droppable = False

    def takes(self, words):
        return False

    def read(self, words):
        return torch.as_tensor(words, dtype=torch.float32)

    def check_fits(self, other):
        if other not in (None, self):  # a run keeps it; data have none
            raise LabelError("what is known is made by the task, not by the data")


@fn.register.conditioner("test-known")
@dataclass(frozen=True)
class Known(Coordinates):
    """The values of the known coordinates, 0 for the others."""


@fn.register.conditioner("test-known-mask")
@dataclass(frozen=True)
class KnownMask(Coordinates):
    """1 for known coordinates, 0 for the others."""

    value = "known_mask"


@fn.register.network("test-completing")
class Completing(torch.nn.Module):
    """A perceptron of x, the time, the known values and their mask, and a label."""

    def __init__(self, dim: int, classes: int = 0):
        super().__init__()
        self.shape, self.classes, self.conditioners = (dim,), classes, (Known(), KnownMask())
        self.body = fn.nn.MLP(3 * dim, 128, 3, time_dim=32, classes=classes)
        self.dim = dim

    def forward(self, x, c_noise, cond=None):
        known, mask = (cond.values[name].expand(x.shape) for name in ("known", "known_mask"))
        return self.body(torch.cat([x, known, mask], 1), c_noise, cond)[:, : self.dim]


@fn.register.loss("test-completing")
@dataclass(frozen=True)
class CompletingTask(Denoising):
    """Each coordinate is known with probability one half, clean and beside x; the loss is that of the others."""

    def draw(self, clean, draws):
        drawn = super().draw(clean, draws)
        mask = (draws.signs("known", clean.x) + 1) / 2
        cond = (drawn.cond or Cond({})).told(known=mask * clean.x, known_mask=mask)
        weight = (1 - mask) if drawn.weight is None else (1 - mask) * drawn.weight[:, None]
        return drawn._replace(cond=cond, weight=weight)

    def has_floor(self, goal):
        return False


def line(n):
    """Points near y = x^2 - 1: x tells y, and |x| follows from y."""
    generator = stream(0, "line")
    x = torch.randn(n, generator=generator)
    return torch.stack([x, x * x - 1 + 0.05 * torch.randn(n, generator=generator)], 1)


def config(**options):
    return fn.TrainConfig(**{
        "steps": 2500, "batch_size": 256, "loss": "test-completing", "weighting": "edm", "ema": 0.99,
        "times": {"name": "log-normal", "mean": -0.5, "sd": 1.2}, **options,
    })  # fmt: skip


def told(codec, values, mask):
    """The condition of samples whose coordinates are known where mask is 1."""
    mask = torch.as_tensor(mask, dtype=torch.float32)
    return {"known": codec.into(values) * mask, "known_mask": mask.expand(values.shape)}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("known") / "r"
    denoiser = fn.Denoiser(Completing(2), fn.EDM(), "edm")
    *_, last = fn.fit(denoiser, fn.Dataset(line(20_000)), config(), out=path)
    return path, last.run


@pytest.mark.unchecked
def test_the_unknown_part_follows_the_known_one(trained):
    _, run = trained
    values = torch.stack([torch.linspace(-1.5, 1.5, 400), torch.zeros(400)], 1)
    x = fn.sample(run.denoiser, 400, cond=told(run.denoiser.codec, values, [1, 0]), steps=20)
    error = x[:, 1] - (values[:, 0] ** 2 - 1)
    assert float(error.abs().median()) < 0.25  # the data's own spread is 1.4
    values = torch.stack([torch.zeros(400), torch.full((400,), 1.25)], 1)  # x = 1.5 or -1.5
    x = fn.sample(run.denoiser, 400, cond=told(run.denoiser.codec, values, [0, 1]), steps=20)
    assert float((x[:, 0].abs() - 1.5).abs().median()) < 0.3  # of the data 0.85
    assert 0.3 < float((x[:, 0] > 0).float().mean()) < 0.7
    values = torch.zeros(2000, 2)
    x = fn.sample(run.denoiser, 2000, cond=told(run.denoiser.codec, values, [0, 0]), steps=20)
    assert float(x[:, 0].std()) == pytest.approx(1.0, abs=0.1)


def test_it_loads_resumes_and_is_told_in_one_way(trained, tmp_path):
    path, run = trained
    cond = told(run.denoiser.codec, line(64), [1, 0])
    again = fn.load(path).denoiser
    assert torch.equal(fn.sample(again, 64, cond=cond, steps=4), fn.sample(run.denoiser, 64, cond=cond, steps=4))
    assert torch.equal(fn.sample(again, 64, cond=Cond(cond), steps=4), fn.sample(run.denoiser, 64, cond=cond, steps=4))
    assert [type(one).__name__ for one in again.conditioners] == ["Known", "KnownMask"]


def test_what_is_known_is_kept_when_labels_are_dropped():
    data = fn.data.labelled(a=fn.Dataset(line(500)), b=fn.Dataset(line(500) + 3))
    seen = []
    denoiser = fn.Denoiser(Completing(2, classes=2), fn.EDM(), "edm")
    denoiser.network.register_forward_pre_hook(lambda module, args: seen.append(args[2]))
    for _ in fn.fit(denoiser, data, config(steps=20, drop_cond=0.5)):
        pass
    cond = Cond.cat(seen)
    assert 0.4 < float(cond.mask("label").float().mean()) < 0.6
    assert cond.mask("known") is None or bool(cond.mask("known").all())
    assert {"label", "known", "known_mask"} == set(cond.values)
    share = cond.values["known_mask"].mean()
    assert 0.45 < float(share) < 0.55
    guided = fn.Guided(denoiser, 2.0)
    told_both = {"label": "a", **told(denoiser.codec, line(8), [1, 0])}
    assert torch.isfinite(fn.sample(guided, 8, cond=told_both, steps=3)).all()


def test_the_loss_is_on_the_rest_alone():
    denoiser = fn.Denoiser(Completing(2), fn.EDM(), "edm")
    denoiser.measure(fn.Dataset(line(1000)))
    task = config().task(denoiser)
    drawn = task.draw(fn.data.Batch(denoiser.codec.into(line(1000))[:64], None), fn.training.Draws(0, 64))
    mask = drawn.cond.values["known_mask"]
    off = drawn.target + 100 * mask  # wrong only where it is known
    assert fn.training.losses.mean_square(off, drawn.target, drawn.weight) == 0
    assert fn.training.losses.mean_square(drawn.target + 1, drawn.target, drawn.weight) > 0


def test_drawn_conditions_are_the_same_in_parts():
    def losses(parts_together):
        torch.manual_seed(0)
        denoiser = fn.Denoiser(Completing(2), fn.EDM(), "edm")
        options = config(steps=20, batch_size=32, parts_together=parts_together, log_every=1)
        return [event.loss for event in fn.fit(denoiser, fn.Dataset(line(500)), options)]

    assert losses(1) == pytest.approx(losses(0), rel=1e-4)
