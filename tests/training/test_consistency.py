"""Consistency models: where their answers lead, how they are trained, sampled, and what is refused."""

import json
import math

import pytest
import torch

import fromnoise as fn
from fromnoise.data.source import Batch
from fromnoise.errors import ConfigError, InputError, RunError, UnknownName
from fromnoise.own_grid import AnySteps, OwnGrid
from fromnoise.run.config import RunConfig
from fromnoise.samplers import settled
from fromnoise.training import ConsistencyTraining, Draws

QUICK = {"steps": 12, "batch_size": 32, "save_every": 5, "log_every": 4}
SMALL = {"name": "mlp", "hidden": 16}


def gaussian(schedule, std=0.5):
    return fn.GaussianMixture(torch.zeros(1, 2).double(), std).denoiser(schedule)


def exact_end(schedule, x_t, t, std=0.5):
    """Where the ODE of data N(0, std^2) ends: it keeps x over its standard deviation."""
    alpha, sigma = schedule.scales(t)
    return x_t * std / math.sqrt((alpha * std) ** 2 + sigma**2)


class Factors(torch.nn.Module):
    """f(x_t, t) = c x_t with a c of its own at each time of a grid, which is what Gaussian data need."""

    shape = (2,)

    def __init__(self, schedule, times):
        super().__init__()
        self.levels = torch.tensor([schedule.c_noise(t) for t in times])
        scales = [math.hypot(*schedule.scales(t)) for t in times]
        self.factors = torch.nn.Parameter(0.1 / torch.tensor(scales, dtype=torch.float64))

    def forward(self, x, c_noise, cond=None):
        place = (self.levels - torch.as_tensor(c_noise).reshape(-1, 1)).abs().argmin(1)
        return self.factors[place][:, None] * x


def fitted(schedule, n):
    """Return a student of n times that was taught until it is consistent, its task and its rows."""
    teacher, times = gaussian(schedule), schedule.grid(n, "karras")
    student = fn.Denoiser(Factors(schedule, times[:-1]), schedule, "x0", sigma_data=0.5)
    task = ConsistencyTraining(of=n, first=n, last=n, huber=10.0).bound(student).taught_by(teacher)
    x0 = 0.5 * torch.randn(512, 2, generator=torch.Generator().manual_seed(0)).double()
    drawn = task.draw(Batch(x0, None), Draws(0, 512))
    rows = torch.arange(512)
    for _ in range(n):  # each time the answers at one more time are right, from the data on
        aim = task.aim(drawn)
        with torch.no_grad():
            x = drawn.x
            place = (student.network.levels - drawn.c_noise.reshape(-1, 1)).abs().argmin(1)
            for k in range(n):
                own = rows[place == k]
                student.network.factors[k] = (x[own] * aim[own]).sum() / x[own].square().sum()
    return student, task, drawn


@pytest.mark.parametrize("schedule", [fn.VP(), fn.EDM(), fn.Trig()], ids=lambda one: type(one).__name__)
def test_a_student_of_an_exact_teacher_becomes_consistent(schedule):
    errors = []
    for n in (8, 16, 32):
        student, task, drawn = fitted(schedule, n)
        assert float(task.loss(drawn).detach()) < 1e-12  # self-consistency: f(x_t, t) = f(x_r, r)
        times = schedule.grid(n, "karras")
        x = torch.randn(64, 2, generator=torch.Generator().manual_seed(1)).double()
        found = [student(x * math.hypot(*schedule.scales(t)), t) for t in times[:-1]]
        wanted = [exact_end(schedule, x * math.hypot(*schedule.scales(t)), t) for t in times[:-1]]
        errors.append(max(float((a - b).detach().abs().max()) for a, b in zip(found, wanted, strict=True)))
    assert errors[1] < errors[0] / 2  # and its end goes to the ODE's, as Heun's rule does
    assert errors[2] < errors[1] / 2.5
    assert errors[2] < 0.05


def test_the_step_of_the_teacher_is_of_second_order():
    schedule = fn.VP()
    task = ConsistencyTraining().bound(fn.Denoiser(fn.nn.MLP(2, 8), schedule, "v"))
    x, teacher, errors = torch.randn(9, 2, generator=torch.Generator().manual_seed(0)).double(), gaussian(schedule), []
    for gap in (0.2, 0.1, 0.05):
        t, r = torch.full((9,), 0.6, dtype=torch.float64), torch.full((9,), 0.6 - gap, dtype=torch.float64)
        found = task.taught_step(teacher, x, t, r, None)
        kept = [math.hypot(0.5 * schedule.alpha(s), schedule.sigma(s)) for s in (0.6, 0.6 - gap)]
        errors.append(float((found - x * kept[1] / kept[0]).abs().max()))
    assert errors[0] / errors[1] > 5
    assert errors[1] / errors[2] > 5


def test_the_number_of_steps_doubles_as_the_training_goes():
    schedule = fn.VP()
    task = ConsistencyTraining(first=1, last=16, of=64).bound(fn.Denoiser(fn.nn.MLP(2, 8), schedule, "v"), in_all=50)
    times = schedule.grid(64, "karras")
    t = torch.full((6,), times[10], dtype=torch.float64)
    r = task.next_time(t, torch.tensor([0.0, 0.19, 0.21, 0.5, 0.99, 1.0]).double())
    gaps = [64, 64, 32, 16, 4, 4]
    assert r.tolist() == [times[min(10 + gap, 64)] for gap in gaps]
    for in_all, last in ((100, 1), (1000, 16), (7500, 64)):  # no more than the finest grid, and 200 steps apart
        assert ConsistencyTraining(of=64).bound(task.denoiser, in_all=in_all).end == last
    assert Draws(0, 8, 4).at(3).progress(32).unique().tolist() == [12 / 32, 13 / 32, 14 / 32, 15 / 32]
    assert Draws(0, 8, name="held out").progress(32).unique().tolist() == [1.0]


def test_without_a_teacher_both_ends_have_the_same_noise():
    schedule = fn.EDM()
    student = fn.Denoiser(fn.nn.MLP(2, 8), schedule, "edm", sigma_data=0.7)
    task = ConsistencyTraining(first=16, last=16, of=64).bound(student)
    x0 = torch.randn(64, 2, generator=torch.Generator().manual_seed(0)).double()
    drawn = task.draw(Batch(x0, None), Draws(0, 64))
    alpha, sigma = (scale[:, None] for scale in schedule.scales(drawn.t))
    eps = (drawn.x / student.prediction.input_scale(alpha, sigma) - alpha * x0) / sigma
    r = drawn.also["r"]
    assert bool((r < drawn.t).all())
    alpha_r, sigma_r = (scale[:, None] for scale in schedule.scales(r.clamp(min=1e-3)))
    near = r > 1e-3
    torch.testing.assert_close((alpha_r * x0 + sigma_r * eps)[near], drawn.also["x_r"][near])
    end = drawn.also["r"] == 0
    assert 0 < int(end.sum()) < 64
    torch.testing.assert_close(drawn.also["x_r"][end], x0[end])
    torch.testing.assert_close(task.aim(drawn)[end], x0[end])


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    path = tmp_path_factory.mktemp("teacher") / "moons"
    return fn.train(fn.data.moons(200), network=SMALL, steps=60, batch_size=32, out=path)


@pytest.mark.parametrize("schedule", ["vp", "edm", "flow", "trig", {"name": "cosine", "T": 64}])
@pytest.mark.parametrize("predict", ["v", "x0", "edm", "flow"])
def test_it_is_trained_on_every_path_without_a_teacher(schedule, predict, tmp_path):
    run = fn.train(
        100 * fn.data.moons(60).x, network=SMALL, schedule=schedule, predict=predict, steps=8, batch_size=16,
        loss={"name": "consistency", "last": 64}, out=tmp_path / "run",
    )  # fmt: skip
    again = fn.load(tmp_path / "run")
    assert isinstance(again.denoiser.grid, AnySteps)
    assert settled(again.denoiser) == (fn.Consistency(), 2)
    calls = []
    again.denoiser.network.register_forward_hook(lambda module, args, out: calls.append(1))
    for steps in (1, 3, 7):
        x = fn.sample(again.denoiser, 9, steps=steps)
        assert torch.isfinite(x).all()
        assert len(calls) == steps
        calls.clear()
    assert torch.equal(fn.sample(again.denoiser, 9), fn.sample(run.denoiser, 9))


def test_a_student_goes_on_bit_for_bit(teacher, tmp_path):
    options = {"method": "consistency", "of": 32, **QUICK}
    whole = fn.distill(teacher, 2, out=tmp_path / "whole", **options)
    rounds = fn.training.distill_rounds(teacher, 2, tmp_path / "parts", **options)
    next(rounds)
    rounds.close()
    again = fn.distill(teacher, 2, out=tmp_path / "parts", resume=True, **options)
    assert again.step == 12
    for name, tensor in whole.denoiser.network.state_dict().items():
        assert torch.equal(tensor, again.denoiser.network.state_dict()[name]), name


def test_it_learns_guidance_scales_too(tmp_path):
    run = fn.train("shapes", network=SMALL, steps=20, batch_size=32, out=tmp_path / "shapes")
    student = fn.distill(run, 2, method="consistency", out=tmp_path / "student", **QUICK)
    calls = []
    student.denoiser.network.register_forward_hook(lambda module, args, out: calls.append(1))
    assert torch.isfinite(fn.sample(fn.Guided(student.denoiser, 3.0), 5, cond="spiral")).all()
    assert len(calls) == 2
    alone = fn.train("shapes", network=SMALL, loss="consistency", steps=4, batch_size=32)
    with pytest.raises(InputError, match="guidance cannot move"):
        fn.Guided(alone.denoiser, 2.0)


def test_commands_know_it(teacher, run_cli, tmp_path):
    out = tmp_path / "few"
    options = ("--steps-per-round", "8", "--batch-size", "32", "--out", out)
    code, text, err = run_cli(
        "distill", teacher.folder.path, "--to", "3", "--method", "consistency", *options, "--json"
    )
    assert code == 0, err
    rows = json.loads(text)["samples"]
    assert [(row["sampler"], row["evaluations"]) for row in rows if row["model"] == "student"] == [
        ("consistency", 1), ("consistency", 2), ("consistency", 3), ("consistency", 4),
    ]  # fmt: skip
    assert run_cli("evaluate", out, "-n", "100", "--steps", "5")[0] == 0
    assert json.loads(run_cli("info", out, "--json")[1])["grid"]["name"] == "any"
    code, _, err = run_cli("train", "moons", "--task", "consistency", "--steps", "5", "--out", tmp_path / "alone")
    assert code == 0, err
    assert run_cli("sample", tmp_path / "alone", "--steps", "1", "-n", "5")[0] == 0
    for command, says in (
        (("sample", out, "--sampler", "heun"), "sampled by the sampler consistency"),
        (("sample", out, "--steps", "2000"), "1 to 1,024 steps"),
        (("sample", teacher.folder.path, "--sampler", "consistency"), "trained for it"),
        (("distill", out, "--to", "2"), "is a consistency model"),
        (("distill", out, "--to", "2", "--method", "consistency"), "has no mean to follow"),
        (("distill", teacher.folder.path, "--method", "nonsense"), "unknown method of distillation 'nonsense'"),
        (("distill", teacher.folder.path, "--method", "consistency", "--to", "2000"), "1,024 steps at most"),
        (("distill", teacher.folder.path, "--method", "consistency", "--to", "0"), "to must be"),
        (("train", "moons", "--task", "consistency", "--predict", "eps", "--schedule", "vp"), "predict v, x0"),
        (("train", "moons", "--task", "nonsense"), "nonsense"),
        (("train", "moons", "--task", "consistency", "--set", "train.loss.last=4000"), "finest grid"),
        (("evaluate", out, "-n", "50", "--elbo"), "a model of few steps has none"),
    ):
        code, _, err = run_cli(*command, *(("--out", tmp_path / "no") if command[0] in ("train", "distill") else ()))
        assert (code, err.count("\n")) == (2, 1), (command, err)
        assert says in err, (command, err)
    assert not (tmp_path / "no").exists()


def test_what_needs_a_mean_refuses_it(teacher, tmp_path):
    few = fn.distill(teacher, 2, method="consistency", out=tmp_path / "few", **QUICK).denoiser
    for ask in (
        lambda: fn.elbo(few, fn.data.moons(20)),
        lambda: fn.log_likelihood(few, torch.zeros(2, 2)),
        lambda: fn.ProbabilityFlow(few),
        lambda: fn.AutoGuided(teacher.denoiser, few, 2.0),
        lambda: fn.ClassifierGuided(few, lambda x, t: x, 0),
    ):
        with pytest.raises(InputError, match="a model of few steps has none"):
            ask()
    with pytest.raises(UnknownName, match="nonsense"):
        fn.distill(teacher, 2, method="nonsense", out=tmp_path / "no")


def test_a_teacher_that_changed_is_told(teacher, tmp_path):
    fn.distill(teacher, 2, method="consistency", out=tmp_path / "few", **QUICK)
    loss = dict(fn.load(tmp_path / "few").config.train["loss"])
    student = fn.load(tmp_path / "few").denoiser
    with pytest.raises(RunError, match="has changed"):
        list(fn.fit(student, fn.data.moons(20), fn.TrainConfig(loss={**loss, "weights": "none"}, steps=2)))
    with pytest.raises(RunError, match="no run at"):
        list(fn.fit(student, fn.data.moons(20), fn.TrainConfig(loss={**loss, "teacher": "/nowhere"}, steps=2)))
    with pytest.raises(ConfigError, match="learned"):
        fn.train("moons", recipe="improved", loss="consistency", predict="v", steps=2)


def test_the_weighting_has_no_part_in_it_and_patience_is_refused(tmp_path):
    for weighting in ("elbo", "landing", "edm"):
        fn.train("moons", network=SMALL, loss="consistency", weighting=weighting, steps=2, batch_size=8)
    with pytest.raises(ConfigError, match="change their meaning"):
        fn.train("moons", loss="consistency", held_out=0.1, patience=2, steps=20, out=tmp_path / "no")
    assert not (tmp_path / "no").exists()


def test_a_denoiser_that_is_trained_on_as_usual_is_usual_again():
    denoiser = fn.Denoiser(fn.nn.MLP(2, 8), fn.VP(), "v")
    *_, few = fn.fit(denoiser, fn.data.moons(40), fn.TrainConfig(loss="consistency", steps=2))
    assert isinstance(few.run.denoiser.grid, AnySteps)
    *_, usual = fn.fit(denoiser, fn.data.moons(40), fn.TrainConfig(steps=2))
    assert usual.run.denoiser.grid is None
    assert usual.run.config.grid is None


def test_n_ends_at_the_last():
    task = ConsistencyTraining(first=3, last=8, of=64).bound(fn.Denoiser(fn.nn.MLP(2, 8), fn.VP(), "v"), in_all=50)
    t, times = torch.ones(3, dtype=torch.float64), fn.VP().grid(64, "karras")
    r = task.next_time(t, torch.tensor([0.0, 0.5, 1.0]).double())
    assert r.tolist() == [times[21], times[11], times[8]]


@pytest.mark.unchecked
@pytest.mark.parametrize("steps", [2.5, "2", True, 0, -1, 2000])
def test_odd_numbers_of_steps_are_refused(teacher, tmp_path, steps):
    few = fn.distill(teacher, 2, method="consistency", out=tmp_path / "few", **QUICK).denoiser
    with pytest.raises(InputError):
        fn.sample(few, 3, steps=steps)


def test_runs_of_both_ways_are_read_again(teacher):
    raw = teacher.config.model_dump()
    for grid, kind in (
        ({"steps": 2, "of": 8, "spacing": "karras"}, OwnGrid),
        ({"name": "any", "steps": 2, "of": 8, "spacing": "karras"}, AnySteps),
    ):
        assert type(RunConfig(**{**raw, "grid": grid}).grid) is kind
    for grid in ({"steps": 3, "of": 8}, {"name": "other", "steps": 2, "of": 8}, {"steps": "two"}, 7):
        with pytest.raises(Exception, match="grid"):
            RunConfig(**{**raw, "grid": grid})
