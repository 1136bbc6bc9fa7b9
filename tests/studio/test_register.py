"""Components of a user's own, one of each kind, go the whole way: Python, command line, run folder, studio."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fromnoise as fn
from fromnoise.errors import ConfigError
from fromnoise.schedule import Schedule, schedules

MINE = Path(__file__).with_name("own_components.py")

CHOICES = {
    "schedule": "half-cosine", "predict": "squashed", "network.name": "plain", "network.width": 16,
    "train.loss.name": "huber", "train.loss.delta": 0.5, "train.weighting.name": "flat", "train.times.name": "late",
    "train.steps": 300, "train.save_every": 300, "train.log_every": 100,
}  # fmt: skip

PYTHON = """
import sys, runpy, torch, fromnoise as fn
runpy.run_path(sys.argv[1])
again = fn.load(sys.argv[2])
x = fn.sample(again.denoiser, 50, sampler="rounding", steps=8, seed=3)
assert not torch.equal(x, fn.sample(again.denoiser, 50, sampler="ddim", steps=8, seed=3))
assert again.denoiser.prediction.reach is not None and again.denoiser.predict.reach is None
torch.save(x, sys.argv[3])
"""


def run(*words: object, folder: Path) -> str:
    done = subprocess.run([*map(str, words)], cwd=folder, capture_output=True, text=True, check=False,
                          env={**os.environ, "OMP_NUM_THREADS": "1"})  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_one_component_of_each_kind_goes_the_whole_way(studio, tmp_path):
    shutil.copy(MINE, tmp_path / "mine.py")
    command = [sys.executable, "-m", "fromnoise"]
    sets = [word for key, value in CHOICES.items() for word in ("--set", f"{key}={value}")]
    run(*command, "train", "spiral", "--plugin", "mine.py", *sets, "--out", "run", "--device", "cpu", folder=tmp_path)
    kept = (tmp_path / "run/config.toml").read_text()
    for name in ("half-cosine", "squashed", "plain", "huber", "flat", "late"):
        assert f'name = "{name}"' in kept
    run(*command, "sample", "run", "--plugin", "mine.py", "--sampler", "rounding", "--steps", 8, "--seed", 3,
        "-n", 50, "--out", "x.npy", folder=tmp_path)  # fmt: skip
    run(sys.executable, "-c", PYTHON, "mine.py", "run", "x.pt", folder=tmp_path)
    import torch

    from_python = torch.load(tmp_path / "x.pt")
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), from_python.numpy())
    shown = json.loads(run(*command, "info", "--json", "--plugin", "mine.py", folder=tmp_path))
    assert "squashed" in shown["predictions"]

    started = studio("--plugin", "mine.py")
    with started.client() as browser:
        components = browser.get("/api/form").json()["schema"]["components"]
        kinds = {"schedule": "half-cosine", "predict": "squashed", "network": "plain", "train.loss": "huber",
                 "train.weighting": "flat", "train.times": "late"}  # fmt: skip
        for kind, name in kinds.items():
            assert components[kind][name]["description"]
        assert components["network"]["plain"]["properties"]["width"]["description"] == "of the hidden layer."
        posted = {"data": "spiral", "recipe": "points", "changes": CHOICES}
        answer = browser.post("/api/trainings", json=posted)
        assert answer.status_code < 300, answer.text
        made = answer.json()["id"]
        assert list(started.news(browser, made))[-1] == ("done", {"step": 300})
    trained = next((tmp_path / "runs").iterdir())
    run(sys.executable, "-c", PYTHON, "mine.py", trained, "y.pt", folder=tmp_path)
    assert torch.equal(torch.load(tmp_path / "y.pt"), from_python)  # the same training, by another way in


def test_a_class_that_was_never_registered_is_told_the_decorator():
    class Mine(Schedule):
        pass

    with pytest.raises(ConfigError, match=r"@fromnoise\.register\.schedule\('a-name'\)"):
        schedules.settings(Mine())
    for kind in ("schedule", "network", "prediction", "loss", "weighting", "times", "sampler", "codec", "conditioner"):
        assert callable(getattr(fn.register, kind))
