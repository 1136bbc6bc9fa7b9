"""Loss-aware times: what they draw, that the mean loss stays as it is, and that a training with them resumes."""

import pytest
import torch

import fromnoise as fn
from fromnoise.errors import CheckpointDamaged, ConfigError
from fromnoise.training import LossAware, Stop, Task

SCHEDULES = [fn.LinearBeta(T=30), fn.LinearBeta(T=1000), fn.LinearBeta(T=257), fn.VP(), fn.EDM()]


def heard(law, schedule, loss, rounds=40):
    """Let a law hear a loss that is a function of the time."""
    for k in range(rounds):
        t = law.draw(schedule, 512, torch.Generator().manual_seed(k))
        weight = law.importance(schedule, t)
        law.hear(schedule, t, loss(t) * weight)
        law.turn()
    return law


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_it_draws_in_proportion_to_the_loss_and_the_mean_stays(schedule):
    law = heard(LossAware(bins=20), schedule, lambda t: 0.01 + t**6)
    n = 200_000
    t = law.draw(schedule, n, torch.Generator().manual_seed(99))
    uniform = schedule.uniform_time((torch.arange(n, dtype=torch.float64) + 0.5) / n)
    loss, weight = 0.01 + t**6, law.importance(schedule, t)
    mean = float((0.01 + uniform**6).mean())
    assert float((loss * weight).mean()) == pytest.approx(mean, rel=0.01)
    assert float(weight.mean()) == pytest.approx(1, rel=0.01)
    assert float((loss * weight).var()) < 0.2 * float((0.01 + uniform**6).var())  # which is what it is for
    often = float((t > 0.9).double().mean())
    assert often > 3 * float((uniform > 0.9).double().mean())


def test_until_every_part_was_heard_often_enough_times_are_uniform():
    law, schedule = LossAware(bins=10, history=3), fn.VP()
    t = torch.full((50,), 0.95, dtype=torch.float64)
    law.hear(schedule, t, torch.full((50,), 7.0))
    law.turn()
    u = (torch.arange(100, dtype=torch.float64) + 0.5) / 100
    torch.testing.assert_close(law.at(schedule, u), schedule.uniform_time(u))
    assert torch.equal(law.importance(schedule, t), torch.ones(50, dtype=torch.float64))


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_every_trained_time_can_be_drawn_and_no_other(schedule):
    law = heard(LossAware(bins=16), schedule, lambda t: 1e-2 + (t < 0.3) * 1.0)
    t = law.at(schedule, torch.linspace(0, 1 - 1e-12, 400_001, dtype=torch.float64))
    assert float(t.min()) > 0
    assert float(t.max()) <= 1
    torch.testing.assert_close(torch.as_tensor(schedule.nearest(t)), t)
    if schedule.table_length is not None:
        assert len(t.unique()) == schedule.table_length


def test_losses_of_rows_have_the_mean_that_is_trained_on():
    data = fn.data.moons(64)
    for recipe, loss in (("points", "denoising"), ("improved", "hybrid")):
        d = fn.training.Plan.from_recipe(recipe).assemble(data).denoiser
        config = fn.TrainConfig(batch_size=64, loss=loss, weighting="min-snr")
        task = config.task(d)
        drawn = task.draw(fn.data.source.Batch(torch.randn(64, 2), None), fn.training.Draws(0, 64, device="cpu").at(0))
        each = task.losses(drawn)
        assert each.shape == (64,)
        torch.testing.assert_close(each.mean(), task.loss(drawn))


def settings(**given):
    own = {
        "steps": 300,
        "save_every": 37,
        "log_every": 50,
        "batch_size": 32,
        "times": {"name": "loss-aware", "bins": 8},
    }
    return {**own, "held_out": 0.2, "check_every": 100, **given}


def plan(**given):
    changes = {"network": {"name": "mlp", "hidden": 16}, "train": settings(**given), "schedule": {"name": "linear"}}
    return fn.training.Plan.from_recipe("points", {**changes, "predict": "eps"}).assemble(fn.data.moons(80))


@pytest.mark.parametrize("at", [50, 200])
def test_a_training_with_it_resumes_bit_for_bit(tmp_path, at):
    whole = plan().run(tmp_path / "whole")
    stop = Stop()
    with pytest.raises(KeyboardInterrupt):
        for event in plan().fit(tmp_path / "r", stop=stop):
            stop.asked = event.step >= at
    again = plan().run(tmp_path / "r", resume=True)
    for a, b in zip(whole.denoiser.parameters(), again.denoiser.parameters(), strict=True):
        assert torch.equal(a, b)
    law = LossAware(8)
    law.restore(again.folder.load(again.denoiser).state["times"])
    assert all(len(part) == 10 for part in law.state()["heard"])
    assert float(law.importance(fn.LinearBeta(), torch.tensor([0.01, 0.99], dtype=torch.float64)).std()) > 0.1


@pytest.mark.parametrize("drawn_from", [None, [], [[float("nan")]] * 8, [["x"]] * 8, [[1.0] * 11] * 8, [[True]] * 8])
def test_a_state_that_is_none_is_refused(drawn_from):
    with pytest.raises(CheckpointDamaged, match=r"times\.drawn_from"):
        LossAware(8).restore({"drawn_from": drawn_from, "heard": [[]] * 8})


def test_a_loss_that_tells_its_mean_alone_is_refused():
    with pytest.raises(ConfigError, match="hear the loss of each row"):
        fn.train(fn.data.moons(50), steps=1, predict="score", loss="sliced", times="loss-aware")
    assert Task.losses is fn.training.Sliced.losses


def test_what_is_held_out_keeps_the_weight_that_its_times_were_drawn_with():
    law, schedule = LossAware(bins=8), fn.LinearBeta(T=200)
    d = fn.training.Plan.from_recipe("improved", {"schedule": {"name": "linear", "T": 200}}).assemble(fn.data.moons(64))
    task = fn.TrainConfig(batch_size=64, loss="hybrid").task(d.denoiser)
    goal = fn.training.Objective(task.goal.schedule, task.goal.prediction, law, task.goal.weighting)
    task = task.bound(d.denoiser, goal)
    drawn = task.draw(fn.data.source.Batch(torch.randn(64, 2), None), fn.training.Draws(0, 64).at(0))
    before = task.losses(drawn)
    heard(law, schedule, lambda t: 0.01 + t**6)
    assert float(law.importance(schedule, drawn.t).std()) > 0.1
    torch.testing.assert_close(task.losses(drawn), before)
