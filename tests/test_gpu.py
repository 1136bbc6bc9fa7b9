"""What must also hold on a CUDA device; skipped, with the reason, where there is none."""

import pytest
import torch

import fromnoise as fn

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and there is none here"),
]


@pytest.mark.parametrize("schedule", [fn.LinearBeta(), fn.VP()], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_training_and_sampling_on_the_device(schedule, precision, tmp_path):
    denoiser = fn.Denoiser(fn.nn.MLP(2, 64, fourier=16, classes=3), schedule, "eps").to("cuda")
    config = fn.TrainConfig(steps=400, batch_size=256, drop_cond=0.1, precision=precision, save_every=200)
    events = list(fn.fit(denoiser, fn.data.shapes(3000), config, out=tmp_path / "r"))
    assert events[-1].progress > 0.5
    x = fn.sample(denoiser, 700, cond="moons", steps=10, precision=precision)
    assert x.device.type == "cuda"
    assert torch.isfinite(x).all()
    assert torch.equal(fn.sample(denoiser, 40, cond="moons", steps=10, precision=precision), x[:40])
    many = fn.sample(denoiser, 200_000, cond="moons", steps=3, precision=precision)
    assert torch.equal(many[:5000], fn.sample(denoiser, 5000, cond="moons", steps=3, precision=precision))
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


def test_rows_and_times_are_the_cpus_and_the_data_lie_on_the_device():
    from fromnoise.data.stored import Stored
    from fromnoise.training.batches import Batches

    def first(device):
        torch.manual_seed(0)
        denoiser = fn.Denoiser(fn.nn.MLP(2, 32, classes=3), fn.LinearBeta()).to(device)
        data, config = fn.data.shapes(300), fn.TrainConfig(batch_size=32, drop_cond=0.2)
        denoiser.measure(data)
        source = Stored(data.resident(torch.device(device), 1e9), denoiser.codec, denoiser.conditioners)
        assert source.x.device.type == device
        return Batches(config.task(denoiser), source, config).at(3)[0]

    here, there = first("cpu"), first("cuda")
    assert torch.equal(here.t, there.t)
    torch.testing.assert_close(here.x0, there.x0.cpu())
    assert torch.equal(here.cond.values["label"], there.cond.values["label"].cpu())
    assert torch.equal(here.cond.mask("label"), there.cond.mask("label").cpu())


@pytest.mark.parametrize("together", [1, 4])
def test_a_batch_in_parts_is_the_whole_batch_on_the_device(together):
    def losses(parts_together):
        torch.manual_seed(0)
        denoiser = fn.Denoiser(fn.nn.MLP(2, 32), fn.LinearBeta()).to("cuda")
        config = fn.TrainConfig(steps=40, batch_size=64, log_every=1, parts_together=parts_together)
        return [event.loss for event in fn.fit(denoiser, fn.data.spiral(300), config)]

    assert losses(together) == pytest.approx(losses(0), rel=1e-3)


def test_held_out_loss_and_early_stopping_on_the_device(tmp_path):
    denoiser = fn.Denoiser(fn.nn.MLP(2, 64, fourier=16), fn.CosineBeta(T=100), "v").to("cuda")
    config = fn.TrainConfig(
        steps=3000, batch_size=64, lr=3e-3, held_out=0.5, check_every=50, patience=4, log_every=50, save_every=500
    )
    *_, last = fn.fit(denoiser, fn.data.spiral(60), config, out=tmp_path / "r")
    assert last.step < 3000
    assert last.held_out is not None
    assert fn.load(tmp_path / "r").step == last.step


@pytest.mark.parametrize("what", ["spiral", "shapes"])
def test_the_six_lines_on_the_device(what, tmp_path):
    source, cond = fn.data.open(what), None if what == "spiral" else "moons"
    run = fn.train(source, out=tmp_path / "x", seed=0, steps=200, batch_size=64, device="cuda")
    x = fn.sample(run.denoiser, n=64, cond=cond, steps=10, seed=1)
    assert fn.evaluate(x, against=source)
    again = fn.load(tmp_path / "x").denoiser.to("cuda")
    assert fn.equal(fn.sample(again, n=64, cond=cond, steps=10, seed=1), x)


@pytest.mark.parametrize("network", [{"name": "unet", "widths": (16, 32)}, {"name": "dit", "width": 64, "heads": 2}])
def test_networks_of_pictures_train_resume_and_sample_on_the_device(network, tmp_path):
    digits = fn.data.digits(n=400)

    def run(name, steps, **more):
        settings = {"batch_size": 32, "decay": "constant", "save_every": 20, "log_every": 10, **more}
        return fn.train(digits, network=network, steps=steps, device="cuda", out=tmp_path / name, **settings)

    whole = run("whole", 60)
    run("halves", 40)
    halves = run("halves", 60, resume=True)
    kept, again = (each.denoiser.network.state_dict() for each in (whole, halves))
    assert all(torch.allclose(kept[k].float(), again[k].float(), atol=1e-3) for k in kept)
    guided = fn.Guided(whole.denoiser, 1.5)
    x = fn.sample(guided, 150, cond="3", steps=6, precision="bf16")
    assert x.dtype == torch.uint8
    assert torch.equal(fn.sample(guided, 20, cond="3", steps=6, precision="bf16"), x[:20])
    on_cpu, z = fn.load(tmp_path / "whole").denoiser, torch.randn(8, 1, 8, 8)
    torch.testing.assert_close(on_cpu(z, 0.4, 3), whole.denoiser(z.cuda(), 0.4, 3).cpu(), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("method", ["progressive", "consistency"])
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_guided_students_are_taught_and_resumed_on_the_device(method, precision, tmp_path):
    teacher = fn.train("shapes", steps=40, device="cuda", precision=precision, out=tmp_path / "teacher")
    settings = {"of": 8, "method": method, "steps": 20, "batch_size": 64, "save_every": 10}
    whole = fn.distill(teacher, 2, out=tmp_path / "whole", **settings)
    rounds = fn.training.distill_rounds(teacher, 2, tmp_path / "parts", log_every=5, **settings)
    next(rounds)
    rounds.close()
    parts = fn.distill(teacher, 2, out=tmp_path / "parts", resume=True, log_every=5, **settings)
    kept, again = (each.denoiser.network.state_dict() for each in (whole, parts))
    assert all(torch.allclose(kept[k], again[k], atol=1e-3) for k in kept)
    x = fn.sample(fn.Guided(whole.denoiser, 3.0), 40, cond="spiral")
    assert x.device.type == "cuda"
    assert torch.isfinite(x).all()
