"""Runs that fromnoise 0.1 kept (format 1): they load, sample what they did, and resume.

The expected samples are of the present samplers: since 0.1 a start is a little wider and the default rule is another.
Without these two changes they were those of 0.1 to the bit.
"""

import math
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import fromnoise as fn
from fromnoise.run import RunFolder

HERE = Path(__file__).with_name("format1")
RUNS = sorted(path.name for path in HERE.iterdir() if path.is_dir())
COND = {"shapes": "spiral", "guided": "moons"}

SAMPLERS = {
    "multistep": (fn.Multistep(), 1), "ddim": (fn.DDIM(eta=0.5), 2), "learned": (fn.DDPM(variance="learned"), 3),
    "langevin": (fn.Langevin(), 3),
}  # fmt: skip


def test_the_runs_are_of_every_kind_there_was():
    assert RUNS == ["columns", "guided", "improved", "ncsn", "shapes", "spiral"]
    for name in RUNS:
        assert "format_version = 1" in (HERE / name / "config.toml").read_text()


@pytest.mark.parametrize("name", RUNS)
def test_a_run_of_format_1_gives_the_samples_that_are_kept_with_it(name):
    denoiser = fn.load(HERE / name).denoiser
    for kind, expected in load_file(HERE / f"{name}.safetensors").items():
        sampler, seed = SAMPLERS[kind]
        x = fn.sample(denoiser, 40, sampler=sampler, steps=8, seed=seed, cond=COND.get(name))
        torch.testing.assert_close(
            x, expected, rtol=1e-4, atol=1e-4
        )  # processors differ in the last bits, even of a kind


@pytest.mark.parametrize("name", RUNS)
def test_a_run_of_format_1_resumes(name, tmp_path):
    shutil.copytree(HERE / name, tmp_path / "run")
    config = tmp_path / "run/config.toml"
    config.write_text(config.read_text().replace("\nsteps = 60\n", "\nsteps = 110\n"))
    folder = RunFolder(tmp_path / "run")
    denoiser, train = folder.denoiser(), fn.TrainConfig(**folder.config.train)
    *_, last = fn.fit(denoiser, folder.data(), train, out=folder.path, resume=True, codec=folder.config.codec)
    assert (last.step, folder.steps()[0]) == (110, 110)
    assert math.isfinite(last.loss)
    assert [row["step"] for row in folder.metrics()] == [20, 40, 60, 80, 100, 110]
    before, after = fn.load(HERE / name).denoiser, fn.load(folder.path).denoiser
    assert after.sigma_data == before.sigma_data
    moved = max(float((a - b).abs().max()) for a, b in zip(before.parameters(), after.parameters(), strict=True))
    assert 0 < moved < 0.5  # it goes on from where it was
