"""What must also hold on a CUDA device; skipped, with the reason, where there is none."""

import pytest
import torch

import fromnoise as fn

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and there is none here"),
]


@pytest.mark.parametrize("schedule", [fn.LinearBeta(), fn.EDM()], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_training_and_sampling_on_the_device(schedule, precision, tmp_path):
    denoiser = fn.Denoiser(fn.nn.MLP(2, 64, fourier=16, classes=3), schedule, "v").to("cuda")
    config = fn.TrainConfig(steps=400, batch_size=256, drop_cond=0.1, precision=precision, save_every=200)
    events = list(fn.fit(denoiser, fn.data.shapes(3000), config, out=tmp_path / "r"))
    assert events[-1].progress > 0.5
    x = fn.sample(denoiser, 700, cond="moons", steps=10, precision=precision)
    assert x.device.type == "cuda"
    assert torch.isfinite(x).all()
    assert torch.equal(fn.sample(denoiser, 40, cond="moons", steps=10, precision=precision), x[:40])
    on_cpu = fn.load(tmp_path / "r").denoiser
    z = torch.randn(50, 2)
    torch.testing.assert_close(on_cpu(z, 0.5), denoiser(z.cuda(), 0.5).cpu(), rtol=1e-3, atol=1e-3)


def test_resumed_equals_uninterrupted_on_the_device(tmp_path):
    def fit(path, steps_before_stop=None):
        torch.manual_seed(0)
        denoiser = fn.Denoiser(fn.nn.MLP(2, 32), fn.LinearBeta()).to("cuda")
        config = fn.TrainConfig(steps=60, batch_size=32, log_every=1, save_every=20)
        for event in fn.fit(denoiser, fn.data.spiral(300), config, out=path, resume=True):
            if event.step == steps_before_stop:
                return

    fit(tmp_path / "whole")
    fit(tmp_path / "halves", steps_before_stop=45)
    fit(tmp_path / "halves")
    whole, halves = (fn.load(tmp_path / name).denoiser.network.state_dict() for name in ("whole", "halves"))
    assert all(torch.equal(whole[k], halves[k]) for k in whole)


def test_exact_answers_on_the_device():
    x = fn.data.spiral(500).x
    z = torch.randn(100, 2)
    here, there = fn.FiniteSet(x).denoiser(fn.EDM()), fn.FiniteSet(x.cuda()).denoiser(fn.EDM())
    torch.testing.assert_close(here(z, 0.5), there(z.cuda(), 0.5).cpu(), rtol=1e-4, atol=1e-4)
    assert fn.sample(there, 10, steps=5).device.type == "cuda"
