"""Held-out rows, their loss by noise level, early stopping."""

import json

import pytest
import torch

import fromnoise as fn
from fromnoise.errors import CheckpointDamaged, ConfigError, InputError
from fromnoise.run import RunFolder
from fromnoise.training import Interrupted, Stop
from fromnoise.training.held_out import Patience


def config(**options):
    return fn.TrainConfig(**{
        "steps": 60, "batch_size": 16, "log_every": 7, "save_every": 20, "lr": 1e-3, "held_out": 0.3, "check_every": 10,
        **options,
    })  # fmt: skip


def denoiser(seed=0, **options):
    torch.manual_seed(seed)
    return fn.Denoiser(fn.nn.MLP(2, 32, **options), fn.CosineBeta(T=100), "v")


def test_points_hold_nothing_out():
    assert fn.TrainConfig().held_out == 0
    *_, last = fn.fit(denoiser(), fn.data.spiral(100), fn.TrainConfig(steps=3))
    assert last.held_out is None


def test_held_out_rows_are_never_trained_on_nor_measured():
    far = fn.data.spiral(200).x
    _, held = fn.data.source.split(200, 0.3, seed=0)
    far[held] += 1000.0
    seen = []
    d = denoiser()
    d.network.register_forward_pre_hook(lambda module, args: seen.append(args[0]) if module.training else None)
    *_, last = fn.fit(d, fn.Dataset(far), config())
    assert float(torch.cat(seen).abs().max()) < 20
    assert float(d.codec.mean.abs().max()) < 2
    assert last.held_out.loss > 1000  # the held-out ones are far off


def test_the_loss_is_told_by_noise_level_and_kept(tmp_path):
    events = list(fn.fit(denoiser(), fn.data.shapes(300), config(), out=tmp_path / "r"))
    checked = [e.step for e in events if e.step % 10 == 0]
    assert checked[-1] == 60
    rows = [json.loads(line) for line in (tmp_path / "r" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "held_out" in row] == [10, 20, 30, 40, 50, 60]
    assert [row["step"] for row in rows] == sorted({*range(7, 61, 7), *range(10, 61, 10)})
    found = events[-1].held_out
    assert rows[-1]["held_out"]["loss"] == found.loss
    assert len(found.levels) == len(found.losses) == 8
    assert list(found.levels) == sorted(found.levels)
    assert found.loss == pytest.approx(sum(found.losses) / 8)


def test_it_is_the_averaged_weights_loss_under_the_same_noise_every_time():
    events = list(fn.fit(denoiser(), fn.data.spiral(300), config(steps=20, lr=1e-12, check_every=5)))
    losses = {e.held_out.loss for e in events if e.held_out is not None}
    assert max(losses) - min(losses) < 1e-5  # nothing is learned, and the noise is the same
    with_average = list(fn.fit(denoiser(), fn.data.spiral(300), config(lr=3e-2, ema=0.99)))[-1].held_out
    without = list(fn.fit(denoiser(), fn.data.spiral(300), config(lr=3e-2, ema=0.0)))[-1].held_out
    assert with_average.loss != without.loss


@pytest.mark.unchecked
def test_it_is_near_the_floor_of_the_law_where_the_model_is_good():
    """A mixture that 2,000 samples tell nearly all of: the held-out loss is the law's floor within a few per cent."""
    law = fn.GaussianMixture(torch.tensor([[1.0, 0.5], [-1.0, -0.4]]), 0.4)
    data = fn.Dataset(law.sample(4000, seed=0))
    d = fn.Denoiser(fn.nn.MLP(2, 64), fn.CosineBeta(T=100), "v")
    *_, last = fn.fit(d, data, fn.TrainConfig(steps=3000, held_out=0.25, check_every=1000))
    floor = fn.loss_floor(fn.GaussianMixture(d.codec.into(law.means), 0.4 / float(d.codec.std)), d.schedule, "v")
    assert last.held_out.loss == pytest.approx(floor.value, rel=0.1)


def test_held_out_rows_leave_the_training_as_it_would_be_without_a_look_at_them():
    ends = []
    for every in (5, 60):
        d = denoiser()
        list(fn.fit(d, fn.data.spiral(300), config(check_every=every)))
        ends.append(d.network.state_dict())
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


@pytest.mark.parametrize("loss", ["denoising", "sliced", "hybrid"])
def test_every_task_has_a_held_out_loss(loss):
    d = fn.Denoiser(fn.nn.MLP(2, 16, learned_variance=loss == "hybrid"), fn.LinearBeta(), "eps")
    *_, last = fn.fit(d, fn.data.spiral(300), config(loss=loss))
    assert len(last.held_out.losses) == 8
    assert all(torch.isfinite(torch.tensor(last.held_out.losses)))


# -- early stopping ----------------------------------------------------------------------------------------------------


def overfitting(**options):
    """Settings with which 30 samples are soon learned by heart."""
    return fn.TrainConfig(**{
        "steps": 4000, "batch_size": 64, "lr": 3e-3, "held_out": 0.5, "check_every": 50, "patience": 4,
        "save_every": 50, "log_every": 50, "keep": 100, **options,
    })  # fmt: skip


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    path = tmp_path_factory.mktemp("early") / "r"
    events = list(fn.fit(denoiser(fourier=16), fn.data.spiral(60), overfitting(), out=path))
    return path, events


def test_a_training_that_learns_by_heart_is_stopped(stopped):
    path, events = stopped
    last = events[-1]
    assert last.step < 4000
    losses = {e.step: e.held_out.loss for e in events if e.held_out is not None}
    best = min(losses, key=losses.get)
    begun = best + 4 * 50
    assert last.step == last.run.step == begun + round(0.2 * begun)
    rates = {e.step: e.lr for e in events}
    assert rates[begun + 50] < 0.9 * rates[begun]
    assert rates[last.step] < 0.1 * rates[begun]  # decayed to 0
    assert RunFolder(path).steps()[0] == last.step
    assert fn.load(path).step == last.step


def test_it_resumes_bit_for_bit_before_and_inside_the_decay(stopped, tmp_path):
    path, events = stopped
    end = events[-1].step
    for stop_after in (200, end - 25):
        half, stop = tmp_path / f"r{stop_after}", Stop()
        with pytest.raises(Interrupted):
            for event in fn.fit(
                denoiser(fourier=16), fn.data.spiral(60), overfitting(log_every=25), out=half, stop=stop
            ):
                stop.asked = event.step >= stop_after
        *_, last = fn.fit(denoiser(seed=5, fourier=16), fn.data.spiral(60), overfitting(), out=half, resume=True)
        assert last.step == end
        for weights in ("ema", "model"):
            one, other = (fn.load(p, weights=weights).denoiser.network.state_dict() for p in (path, half))
            assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_stopped_run_that_is_resumed_is_done(stopped):
    path, events = stopped
    again = list(fn.fit(denoiser(fourier=16), fn.data.spiral(60), overfitting(), out=path, resume=True))
    assert [e.step for e in again] == [events[-1].step]


def test_patience_waits_for_a_new_minimum():
    patience = Patience(2)
    for step, loss in ((10, 1.0), (20, 0.9), (30, 0.95), (40, 0.8), (50, 0.81)):
        patience.hear(step, loss)
        assert patience.end(100) == 100
    patience.hear(60, 0.85)
    assert patience.stopped_at == 60
    assert patience.end(100) == 72
    assert patience.end(65) == 65
    copy = Patience(2)
    copy.restore(patience.state(), 60)
    assert copy == patience


@pytest.mark.parametrize(
    "state", [{}, {"best": "low", "waited": 0}, {"best": 0.5, "waited": -1}, {"best": True, "waited": 0},
              {"best": 0.5, "waited": 0, "stopped_at": 99}]
)  # fmt: skip
def test_what_is_no_state_of_it_is_refused(state):
    with pytest.raises(CheckpointDamaged, match="early_stopping"):
        Patience(2).restore(state, 50)


def test_what_cannot_be_held_out_says_why(tmp_path):
    with pytest.raises(ConfigError, match="held_out above 0"):
        next(fn.fit(denoiser(), fn.data.spiral(100), fn.TrainConfig(patience=3), out=tmp_path / "r"))
    with pytest.raises(InputError, match="leaves none out"):
        next(fn.fit(denoiser(), fn.data.spiral(3), fn.TrainConfig(held_out=0.01), out=tmp_path / "r"))
    with pytest.raises(InputError, match="leaves none to train on"):
        next(fn.fit(denoiser(), fn.data.spiral(3), fn.TrainConfig(held_out=0.99), out=tmp_path / "r"))
    with pytest.raises(ConfigError, match="held_out"):
        fn.TrainConfig(held_out=1.0)
    assert not (tmp_path / "r").exists()
