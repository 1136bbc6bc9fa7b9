"""Progressive distillation: what a student is taught, its rounds, and what is refused."""

import json
import shutil

import pytest
import torch

import fromnoise as fn
from fromnoise.errors import ConfigError, InputError, RunError, RunExists
from fromnoise.own_grid import OwnGrid
from fromnoise.samplers import settled, walk
from fromnoise.training import Draws, distill_rounds, objective
from fromnoise.training.distill import Distilling, OnGrid
from fromnoise.training.distillation import rounds_of
from fromnoise.training.task import Task

SCHEDULES = [fn.CosineBeta(T=64), fn.VP(), fn.RectifiedFlow(), fn.EDM()]
QUICK = {"steps": 12, "batch_size": 32, "save_every": 5, "log_every": 4}


def spacing(schedule):
    return "karras" if schedule.table_length is None else "uniform"


def task_for(schedule, teacher, grid, predict="v"):
    student = fn.Denoiser(fn.nn.MLP(2, 8), schedule, predict, grid=grid)
    return Distilling(teacher="", weights="").bound(student).taught_by(teacher)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("steps", [1, 4, 8])
def test_one_step_with_the_target_lands_where_the_teachers_two_steps_do(schedule, steps):
    teacher = fn.GaussianMixture(torch.tensor([[0.7, -0.2]]).double(), 0.6).denoiser(schedule)
    grid = OwnGrid(steps=steps, of=2 * steps, spacing=spacing(schedule))
    task = task_for(schedule, teacher, grid)
    own, finer = grid.times(schedule), OwnGrid(steps=2 * steps, of=2 * steps, spacing=grid.spacing).times(schedule)
    x = torch.randn(steps, 2, generator=torch.Generator().manual_seed(0)).double()
    x_t = x * torch.tensor([sum(s * s for s in schedule.scales(t)) ** 0.5 for t in own[:-1]])[:, None]
    target = task.target_of(x_t, torch.tensor(own[:-1], dtype=torch.float64), None)
    for k in range(steps):
        *_, last = walk(teacher, fn.DDIM(), finer[2 * k : 2 * k + 3], x_t[k : k + 1])
        alpha_t, sigma_t = schedule.scales(own[k])
        alpha_s, sigma_s = schedule.scales(own[k + 1]) if own[k + 1] else (1.0, 0.0)
        step = sigma_s / sigma_t * x_t[k] + (alpha_s - sigma_s / sigma_t * alpha_t) * target[k]
        torch.testing.assert_close(step[None], last.x_s, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("predict", ["x0", "v", "edm", "flow"])
def test_a_network_that_gives_the_drawn_target_answers_with_the_teachers_step(predict):
    schedule = fn.VP()
    teacher = fn.FiniteSet(fn.data.moons(60).x.double()).denoiser(schedule)
    grid = OwnGrid(steps=4, of=8, spacing="karras")
    task = task_for(schedule, teacher, grid, predict)
    x0 = fn.data.moons(32, seed=1).x.double()
    drawn = task.draw(fn.data.source.Batch(x0, None), Draws(0, 32))
    assert set(drawn.t.tolist()) == set(grid.times(schedule)[:-1])  # every start, stratified
    alpha, sigma = (torch.as_tensor(scale)[:, None] for scale in schedule.scales(drawn.t))
    prediction = task.denoiser.prediction
    x_t = drawn.x / prediction.input_scale(alpha, sigma)
    answer = prediction.x0_hat(drawn.target, x_t, alpha, sigma)
    torch.testing.assert_close(answer, task.target_of(x_t, drawn.t, None), rtol=1e-6, atol=1e-6)


def test_a_student_that_can_represent_the_answer_learns_the_composed_steps():
    """On Gaussian data every step is linear: a student that is linear at each of its times must reach a loss of 0."""
    schedule = fn.VP()
    teacher = fn.GaussianMixture(torch.zeros(1, 2).double(), 0.5).denoiser(schedule)
    grid = OwnGrid(steps=2, of=4, spacing="karras")
    times = grid.times(schedule)

    class Linear(torch.nn.Module):
        shape = (2,)

        def __init__(self):
            super().__init__()
            self.factors = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))

        def forward(self, x, c_noise, cond=None):
            first = c_noise.reshape(-1, 1) < schedule.c_noise(0.5 * (times[0] + times[1]))
            return torch.where(first, self.factors[0], self.factors[1]) * x

    student = fn.Denoiser(Linear(), schedule, "x0", sigma_data=teacher.sigma_data, grid=grid)
    task = Distilling(teacher="", weights="").bound(student).taught_by(teacher)
    x0 = 0.5 * torch.randn(512, 2, generator=torch.Generator().manual_seed(0)).double()
    drawn = task.draw(fn.data.source.Batch(x0, None), Draws(0, 512))
    optimizer = torch.optim.LBFGS(
        student.network.parameters(), max_iter=100, line_search_fn="strong_wolfe", tolerance_change=0, tolerance_grad=0
    )

    def closure():
        optimizer.zero_grad()
        loss = task.loss(drawn)
        loss.backward()
        return loss

    for _ in range(4):
        optimizer.step(closure)
    assert float(task.loss(drawn).detach()) < 1e-16
    start = torch.randn(50, 2, generator=torch.Generator().manual_seed(1)).double()
    finest = teacher.schedule.grid(4, "karras")
    theirs = fn.sample(teacher, 50, sampler="ddim", grid=finest, start=start, dtype=torch.float64)
    mine = fn.sample(student, 50, start=start, dtype=torch.float64)
    assert float((mine - theirs).abs().max()) < 1e-6


def test_times_are_the_starts_of_the_students_steps_alone():
    law = OnGrid(OwnGrid(steps=4, of=64))
    t = law.at(fn.VP(), (torch.arange(400) + 0.5) / 400)
    values, counts = t.unique(return_counts=True)
    assert values.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert counts.tolist() == [100] * 4


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    path = tmp_path_factory.mktemp("teacher") / "moons"
    return fn.train(
        fn.data.moons(200), network={"name": "mlp", "hidden": 16}, steps=60, batch_size=32, out=path, lr=3e-3
    )


def test_rounds_halve_the_steps_down_to_the_last(teacher):
    assert [grid.steps for grid in rounds_of(teacher, 4)] == [512, 256, 128, 64, 32, 16, 8, 4]
    assert [grid.steps for grid in rounds_of(teacher, 3, 24)] == [12, 6, 3]
    with pytest.raises(InputError, match=r"a power of two steps, and 3 is none: .* 768 \(--from 768\)"):
        rounds_of(teacher, 3)
    assert [(grid.steps, grid.of) for grid in rounds_of(teacher, 2, 8)] == [(4, 8), (2, 8)]
    for to, of in ((4, 4), (4, 12), (8, 4), (3, 8)):
        with pytest.raises(InputError, match="cannot be halved"):
            rounds_of(teacher, to, of)
    with pytest.raises(InputError, match="1024 steps cannot be halved to 2048: a student takes 512 at most"):
        rounds_of(teacher, 2048)
    with pytest.raises(InputError, match="to must be"):
        rounds_of(teacher, 0)


def test_students_are_runs_and_go_on_bit_for_bit(teacher, tmp_path):
    whole = [one for one in distill_rounds(teacher, 2, tmp_path / "whole", of=8, **QUICK) if one.event.run is not None]
    assert [(one.number, one.count, one.steps) for one in whole] == [(1, 2, 4), (2, 2, 2)]
    assert (tmp_path / "whole" / "rounds" / "0004" / "config.toml").exists()
    own = fn.train(
        torch.randn(60, 2), network={"name": "mlp", "hidden": 8}, steps=2, batch_size=8, out=tmp_path / "own"
    )
    list(distill_rounds(own, 2, tmp_path / "of own", of=8, **QUICK))
    assert [fn.load(tmp_path / "of own" / part).holds_data for part in ("", "rounds/0004")] == [True, False]
    student = fn.load(tmp_path / "whole")
    assert student.denoiser.grid == OwnGrid(steps=2, of=8, spacing="karras")
    assert settled(student.denoiser) == (fn.DDIM(), 2)
    calls = []
    student.denoiser.network.register_forward_hook(lambda module, args, out: calls.append(1))
    fn.sample(student.denoiser, 9)
    assert len(calls) == 2

    stop = fn.training.Stop()
    with pytest.raises(fn.training.Interrupted):
        for one in distill_rounds(teacher, 2, tmp_path / "halves", of=8, stop=stop, **QUICK):
            stop.asked = one.number == 2
    for _ in distill_rounds(teacher, 2, tmp_path / "halves", of=8, resume=True, **QUICK):
        pass
    again = fn.load(tmp_path / "halves")
    for a, b in zip(student.denoiser.network.parameters(), again.denoiser.network.parameters(), strict=True):
        assert torch.equal(a, b)
    further = [one for one in distill_rounds(again, 1, tmp_path / "one", **QUICK) if one.event.run is not None]
    assert [one.steps for one in further] == [1]
    with pytest.raises(InputError, match="distilled to 2 steps already"):
        rounds_of(again, 1, 16)


def test_a_teacher_that_has_gone_or_changed_is_told(teacher, tmp_path):
    copied = tmp_path / "teacher"
    shutil.copytree(teacher.folder.path, copied)
    list(distill_rounds(fn.load(copied), 4, tmp_path / "student", of=8, **QUICK))
    changed = fn.train(
        fn.data.moons(200), network={"name": "mlp", "hidden": 16}, steps=61, batch_size=32, out=copied, lr=3e-3,
        resume=True,
    )  # fmt: skip
    with pytest.raises(RunError, match=r"loss\.weights was"):
        list(distill_rounds(changed, 4, tmp_path / "student", of=8, resume=True, **QUICK))
    student = fn.load(tmp_path / "student")
    assert student.loss is not None
    shutil.rmtree(copied)
    assert fn.sample(student.denoiser, 5).shape == (5, 2)  # it needs its teacher no more
    config = fn.TrainConfig(**student.config.train)
    with pytest.raises(RunError, match="no run"):
        config.task(student.denoiser).check()
    with pytest.raises(ConfigError, match="grid of its own"):
        config.task(teacher.denoiser)
    learned = {"name": "mlp", "hidden": 16, "learned_variance": True}
    hybrid = fn.train(
        fn.data.moons(50), recipe="improved", network=learned, steps=1, batch_size=8, out=tmp_path / "hybrid"
    )
    with pytest.raises(ConfigError, match="cannot be distilled"):
        next(distill_rounds(hybrid, 4, tmp_path / "x", of=8))
    assert not (tmp_path / "x").exists()
    with pytest.raises(InputError, match="on the disk"):
        next(distill_rounds(fn.train(fn.data.moons(50), steps=1, batch_size=8), 4, tmp_path / "x"))


def test_rounds_that_were_begun_otherwise_are_refused_before_anything_is_trained(teacher, tmp_path):
    fn.distill(teacher, 1, of=8, out=tmp_path / "few", **QUICK)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "few").rglob("*") if path.is_file()}
    for changes, reason in (
        ({"of": 8, **QUICK, "steps": 20}, "begun with 12 optimizer steps, and not 20"),
        ({"of": 16, **QUICK}, "was begun for other steps"),
        ({"of": 2, **QUICK}, "a round of another distillation"),
        ({"of": 8, "method": "consistency", **QUICK}, "a round of another distillation"),
    ):
        with pytest.raises(InputError, match=reason):
            fn.distill(teacher, 1, out=tmp_path / "few", resume=True, **changes)
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "few").rglob("*") if path.is_file()}
    with pytest.raises(ConfigError, match="no density"):
        fn.distill(teacher, 1, of=8, out=tmp_path / "no", weighting="elbo", **QUICK)
    assert not (tmp_path / "no").exists()


def test_places_that_are_taken_are_refused_before_anything_is_trained(teacher, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").write_bytes(b"cat")
    shutil.copytree(teacher.folder.path, tmp_path / "run")
    for name, reason in (("photos", "exists and is not a run"), ("run", "already holds a run")):
        with pytest.raises(RunExists, match=reason):
            fn.distill(teacher, 1, of=8, out=tmp_path / name, **QUICK)
        assert not (tmp_path / name / "rounds").exists()


@pytest.mark.unchecked
@pytest.mark.parametrize("guidance", [3.0, (1.0,), "1,5"])
def test_guidance_is_two_scales(teacher, tmp_path, guidance):
    with pytest.raises(InputError, match="the lowest and the highest scale"):
        fn.distill(teacher, 1, of=8, out=tmp_path / "no", guidance=guidance, **QUICK)


def test_a_run_with_other_weights_than_its_folders_is_no_teacher(tmp_path):
    fn.train("moons", network={"name": "mlp", "hidden": 8}, steps=20, batch_size=8, out=tmp_path / "run")
    with pytest.raises(InputError, match="other weights than that gives"):
        fn.distill(fn.load(tmp_path / "run", weights="model"), 2, of=4, out=tmp_path / "no", **QUICK)


def test_ten_samples_are_distilled_without_distances(run_cli, tmp_path):
    fn.train(torch.randn(10, 2), network={"name": "mlp", "hidden": 8}, steps=5, batch_size=8, out=tmp_path / "ten")
    code, text, err = run_cli("distill", tmp_path / "ten", "--to", "2", "--from", "8", "--steps-per-round", "4")
    assert code == 0, err
    assert "10 samples are too few" in text


def test_a_teacher_of_other_steps_is_refused():
    schedule = fn.VP()
    student = fn.Denoiser(fn.nn.MLP(2, 8), schedule, "v", grid=OwnGrid(steps=4, of=16))
    task = Task.bound(Distilling(teacher="", weights=""), student, objective(student))
    other = fn.Denoiser(fn.nn.MLP(2, 8), schedule, "v", grid=OwnGrid(steps=16, of=16))
    with pytest.raises(ConfigError, match="learns from 8"):
        task.taught_by(other)


@pytest.mark.parametrize("predict", ["eps", "x0"])
def test_teachers_of_tables_and_of_other_predictions_are_distilled(predict, tmp_path):
    run = fn.train(
        fn.data.moons(100), schedule=fn.LinearBeta(T=100), predict=predict, network={"name": "mlp", "hidden": 16},
        steps=20, batch_size=16, out=tmp_path / "t",
    )  # fmt: skip
    *_, last = distill_rounds(run, 4, tmp_path / "s", **QUICK, weighting="truncated-snr")
    assert (last.number, last.count) == (4, 4)  # of 64, the most that 100 entries allow
    assert fn.sample(fn.load(tmp_path / "s").denoiser, 3).isfinite().all()


def test_a_student_of_pictures_is_shown_by_its_own_steps(run_cli, tmp_path):
    from fromnoise.export.pictures import pictures_payload
    from fromnoise.report import write_report

    run = fn.train(
        fn.data.digits(n=120), network={"name": "unet", "widths": (8,)}, steps=2, batch_size=8, out=tmp_path / "t"
    )
    student = fn.distill(run, 2, out=tmp_path / "s", of=8, steps=2, batch_size=8)
    shown = pictures_payload(student)
    assert shown is not None
    assert shown["strip"].startswith("data:image/png")
    assert "2 steps of the default sampler" in write_report(student, []).read_text()
    for kind in ("samples", "trajectory", "neighbours"):
        assert run_cli("plot", tmp_path / "s", kind, "--out", tmp_path / f"{kind}.png")[0] == 0
    assert run_cli("export", tmp_path / "s", "--to", "html", tmp_path / "s.html")[0] == 0
    assert run_cli("sample", tmp_path / "s", "--label", "3", "--guidance", "2")[0] == 0
    code, _, err = run_cli("sample", tmp_path / "s", "--label", "3", "--guidance", "7")
    assert (code, err.count("\n")) == (2, 1)
    assert "scales of 1 to 5, and 7" in err


def test_the_command_distills_and_says_how_good_the_student_is(teacher, run_cli, tmp_path):
    run, out = teacher.folder.path, tmp_path / "few"
    options = ("--from", "8", "--steps-per-round", "8", "--batch-size", "32", "--out", out)
    code, text, err = run_cli("distill", run, "--to", "2", *options, "--json")
    assert code == 0, err
    found = json.loads(text)
    assert [row["steps"] for row in found["rounds"]] == [4, 2]
    assert [(row["model"], row["sampler"], row["evaluations"]) for row in found["samples"]] == [
        ("student", "ddim", 2), ("teacher", "ddim", 2), ("teacher", "multistep", 2), ("teacher", "ddim", 8),
    ]  # fmt: skip
    assert run_cli("sample", out, "-n", "4", "--out", tmp_path / "x.csv")[0] == 0
    for arguments, says in (
        ((run, "--to", "2", *options), "already holds a run"),
        ((run, "--to", "3", "--from", "8"), "cannot be halved to 3"),
        ((run, "--to", "2048"), "cannot be halved"),
        ((tmp_path / "none",), "no run"),
        ((run, "--set", "nonsense=1", "--out", tmp_path / "y"), "nonsense"),
    ):
        code, _, err = run_cli("distill", *arguments)
        assert (code, err.count("\n")) == (2, 1), err
        assert says in err
    assert run_cli("distill", run, "--to", "2", *options, "--resume")[0] == 0
    few = ("--steps-per-round", "4", "--batch-size", "32", "--out", tmp_path / "rounds")
    code, text, err = run_cli("distill", run, "--to", "3", "--rounds", "2", *few, "--json")
    assert code == 0, err
    assert [row["steps"] for row in json.loads(text)["rounds"]] == [6, 3]
    for more in (("--rounds", "0"), ("--rounds", "2", "--from", "8"), ("--rounds", "1", "--method", "consistency")):
        code, _, err = run_cli("distill", run, "--to", "2", *more, "--out", tmp_path / "no")
        assert (code, err.count("\n")) == (2, 1), err
    assert not (tmp_path / "no").exists()
