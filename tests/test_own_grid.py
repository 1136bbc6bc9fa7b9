"""A denoiser that answers at its own times alone brings sampler and steps, and refuses others wherever it is used."""

import json

import pytest
import torch

import fromnoise as fn
from fromnoise.denoiser_like import Wrapper
from fromnoise.errors import ConfigError, InputError
from fromnoise.own_grid import OwnGrid
from fromnoise.samplers import settled

GRID = OwnGrid(steps=4, of=64)


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    """A run of points whose denoiser has a grid of four steps."""
    with fn.rng.seeded(0, "test"):
        denoiser = fn.Denoiser(fn.nn.MLP(2, 16), fn.CosineBeta(T=64), "v", grid=GRID)
    path = tmp_path_factory.mktemp("student") / "run"
    *_, last = fn.fit(denoiser, fn.data.moons(100), fn.TrainConfig(steps=3, batch_size=16), out=path)
    return last.run


def test_its_times_are_some_of_the_finest_grids():
    for schedule in (fn.CosineBeta(T=64), fn.VP(), fn.EDM()):
        times, finest = GRID.times(schedule), schedule.grid(64)
        assert times == [finest[k] for k in (0, 16, 32, 48, 64)]
    karras = OwnGrid(steps=2, of=8, spacing="karras")
    assert karras.times(fn.EDM()) == [fn.EDM().grid(8, "karras")[k] for k in (0, 4, 8)]
    for bad, says in (
        ({"steps": 3, "of": 64}, "not a multiple of 3"),
        ({"steps": 0, "of": 4}, "steps"),
        ({"of": 4}, "missing"),
    ):
        with pytest.raises(ConfigError, match=says):
            OwnGrid(**bad)


def test_sampler_and_steps_are_its_own_and_cost_one_evaluation_each(student):
    denoiser = fn.load(student.folder.path).denoiser
    assert denoiser.grid == GRID
    assert settled(denoiser) == (fn.DDIM(), 4)
    asked = []
    denoiser.network.register_forward_hook(lambda module, args, out: asked.append(len(out)))
    x = fn.sample(denoiser, 7)
    assert len(asked) == 4
    assert torch.equal(x, fn.sample(denoiser, 7, sampler="ddim", steps=4))
    assert torch.equal(x, fn.sample(denoiser, 7, grid=GRID.times(denoiser.schedule), sampler=fn.DDIM()))
    assert fn.trajectory(denoiser, 3).times == GRID.times(denoiser.schedule)


@pytest.mark.parametrize(
    "options",
    [{"sampler": "multistep"}, {"sampler": fn.DDIM(eta=1)}, {"steps": 2}, {"sampler": "heun", "steps": 2}],
    ids=str,
)
def test_other_samplers_and_steps_are_refused(student, options):
    for denoiser in (student.denoiser, Wrapper(student.denoiser)):
        with pytest.raises(InputError, match="distilled to 4 steps"):
            fn.sample(denoiser, 3, **options)


def test_other_times_and_paths_are_refused_whoever_asks(student):
    denoiser, x = student.denoiser, torch.zeros(3, 2)
    for t in (1.0, 0.25, torch.tensor([1.0, 0.5, 0.75])):
        assert denoiser(x, t).shape == (3, 2)
    for t in (0.3, torch.tensor([1.0, 0.5, 0.9]), 0.0):
        with pytest.raises(InputError, match="at their times alone"):
            denoiser(x, t)
    with pytest.raises(InputError, match="on no other"):
        denoiser.on(fn.VP())
    with pytest.raises(InputError, match="at their times alone"):
        fn.sample(denoiser, 3, sampler="ddim", grid=[1.0, 0.4, 0.0])
    with pytest.raises(InputError, match="a model of few steps has none"):
        fn.log_likelihood(denoiser, x)


def test_commands_take_its_steps_when_nothing_is_said(student, run_cli, tmp_path):
    run = student.folder.path
    code, out, err = run_cli("sample", run, "-n", "5", "--out", tmp_path / "x.csv", "--json")
    assert code == 0, err
    assert (json.loads(out)["sampler"]["name"], json.loads(out)["steps"]) == ("ddim", 4)
    code, out, err = run_cli("evaluate", run, "-n", "100", "--json")
    assert code == 0, err
    assert (json.loads(out)["sampler"], json.loads(out)["steps"]) == ("ddim", 4)
    assert run_cli("plot", run, "samples", "-n", "50", "--out", tmp_path / "x.png")[0] == 0
    assert run_cli("plot", run, "trajectory", "-n", "50", "--out", tmp_path / "x.gif")[0] == 0
    assert json.loads(run_cli("info", run, "--json")[1])["grid"] == {"steps": 4, "of": 64, "spacing": "uniform"}
    for command in (
        ("sample", run, "--sampler", "heun"), ("sample", run, "--steps", "3"), ("sample", run, "--schedule", "vp"),
        ("evaluate", run, "-n", "50", "--elbo"), ("plot", run, "elbo"),
    ):  # fmt: skip
        code, _, err = run_cli(*command)
        assert (code, err.count("\n")) == (2, 1), err
        assert "distilled" in err or "few steps" in err


def test_a_notebook_shows_it_by_its_own_steps(student):
    assert "samples of the run" in student._repr_html_()
    assert "svg" in fn.trajectory(student.denoiser, 20)._repr_html_()


def test_the_page_is_told_its_times(student):
    from fromnoise.export import run_payload

    given = run_payload("tested", student)
    assert given["network"] is not None
    assert given["few_steps"] == {"sampler": "ddim", "steps": 4, "most": None, "finest": [1, 0.75, 0.5, 0.25, 0]}


def test_it_is_not_guided(tmp_path):
    network = fn.nn.MLP(2, 16, classes=3)
    denoiser = fn.Denoiser(network, fn.CosineBeta(T=64), "v", grid=GRID)
    with pytest.raises(InputError, match="guidance cannot move"):
        fn.Guided(denoiser, 2.0)
    x = torch.zeros(2, 2)
    assert torch.equal(fn.Guided(denoiser, 1.0)(x, 1.0, "1"), denoiser(x, 1.0, "1"))
