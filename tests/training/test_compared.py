"""Students beside their teacher: the comparison, its picture, and teachers that have gone."""

import json
import shutil

import pytest
import torch

import fromnoise as fn
from fromnoise.errors import InputError, NoRun
from fromnoise.plot import few_steps
from fromnoise.report import compared, lineage

QUICK = {"steps": 6, "batch_size": 16}
SMALL = {"name": "mlp", "hidden": 8}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("distilled")
    teacher = fn.train("moons", network=SMALL, steps=20, batch_size=32, out=path / "moons")
    fn.distill(teacher, 1, of=4, out=path / "few", **QUICK)
    fn.distill(teacher, 2, of=8, method="consistency", out=path / "any", **QUICK)
    return path


def test_the_teachers_of_a_student_are_found_where_they_are_now(folder, tmp_path):
    grids = [one.denoiser.grid for one in lineage(fn.load(folder / "few"))]
    assert [None if grid is None else grid.steps for grid in grids] == [None, 2, 1]
    shutil.copytree(folder, tmp_path / "there")
    shutil.move(folder / "moons", folder / "away")
    try:
        with pytest.raises(NoRun, match="the teacher of moons is no longer at"):
            lineage(fn.load(folder / "few"))
        found = lineage(fn.load(tmp_path / "there" / "few"))
        assert len(found) == 3
        assert found[0].folder.path == tmp_path / "there" / "moons"
    finally:
        shutil.move(folder / "away", folder / "moons")
    with pytest.raises(InputError, match="was not distilled"):
        lineage(fn.load(folder / "moons"))


def test_a_student_stands_beside_its_teacher_with_as_many_evaluations(folder):
    found = compared(fn.load(folder / "few"), n=100)
    assert sorted((one.model.split()[0], one.evaluations) for one in found) == [
        ("ddim", 1), ("ddim", 2), ("ddim", 4), ("multistep", 1), ("multistep", 2), ("multistep", 4),
        ("student", 1), ("student", 2),
    ]  # fmt: skip
    at = {(one.model.split()[0], one.evaluations): one.x for one in found}
    torch.testing.assert_close(at["ddim", 1], at["multistep", 1])  # one step of either is x0_hat at t = 1
    found = compared(fn.load(folder / "any"), n=50)
    assert [one.evaluations for one in found if one.model == "student"] == [1, 2, 4, 8]
    fn.distill(folder / "moons", 2, of=4, method="consistency", out=folder / "short", **QUICK)
    found = compared(fn.load(folder / "short"), n=50)
    assert [one.evaluations for one in found if one.model == "student"] == [1, 2, 4]


def test_the_command_draws_and_prints_it(folder, run_cli, tmp_path):
    for name in ("few", "any"):
        out = tmp_path / f"{name}.png"
        code, text, err = run_cli("plot", folder / name, "distillation", "-n", "60", "--out", out, "--json")
        assert code == 0, err
        assert out.stat().st_size > 10_000
        assert {row["model"] for row in json.loads(text)["rows"]} == {
            "student", "ddim on the teacher", "multistep on the teacher"
        }  # fmt: skip
    code, _, err = run_cli("plot", folder / "moons", "distillation")
    assert (code, err.count("\n")) == (2, 1)
    assert "was not distilled" in err


def test_pictures_and_single_numbers_are_drawn_too(tmp_path, run_cli):
    run = fn.train(
        fn.data.digits(n=120), network={"name": "unet", "widths": (8,)}, steps=2, batch_size=8, out=tmp_path / "digits"
    )
    fn.distill(run, 2, of=4, out=tmp_path / "few", steps=2, batch_size=8)
    assert run_cli("plot", tmp_path / "few", "distillation", "--out", tmp_path / "few.png")[0] == 0
    numbers = fn.train(torch.randn(80, 1), network=SMALL, steps=2, batch_size=8, out=tmp_path / "numbers")
    fn.distill(numbers, 2, of=4, out=tmp_path / "one", **QUICK)
    assert run_cli("plot", tmp_path / "one", "distillation", "--out", tmp_path / "one.png")[0] == 0
    figure = few_steps({"student": ([1, 2], [1.2, 1.1])}, {"student": {1: torch.randn(5, 2), 2: torch.randn(5, 2)}})
    assert len(figure.subfigs) == 2
