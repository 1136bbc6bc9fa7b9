"""One training at a time in a run folder."""

import os
import signal
import subprocess
import sys
import time

import pytest

import fromnoise as fn
from fromnoise.errors import RunError
from fromnoise.run import RunFolder


def training(out, *more):
    command = [sys.executable, "-m", "fromnoise", "train", "spiral", "-n", "300", "--steps", "200000", "--no-report"]
    return [*command, "--out", str(out), "--set", "train.save_every=50", "--set", "train.log_every=50", *more]


@pytest.mark.slow
def test_a_second_training_is_refused_and_harms_nothing(tmp_path):
    out = tmp_path / "two"
    first = subprocess.Popen(training(out), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        folder, until = RunFolder(out), time.monotonic() + 60
        while len(folder.steps()) < 3 and time.monotonic() < until:
            time.sleep(0.05)
        second = subprocess.run(training(out, "--resume"), check=False, capture_output=True, text=True, timeout=120)
        assert second.returncode == 2
        assert second.stderr.startswith("error: another training is at work in")
        assert second.stderr.count("\n") == 1
        assert first.poll() is None
    finally:
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
    steps = [row["step"] for row in folder.metrics()]
    assert steps == list(range(50, 50 * len(steps) + 1, 50))
    done = folder.steps()[0]  # the lock died with its process
    more = subprocess.Popen(training(out, "--resume"), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 60
        while folder.steps()[0] <= done and time.monotonic() < until:
            time.sleep(0.05)
        assert folder.steps()[0] > done
    finally:
        more.kill()
        more.wait()


def test_a_suspended_training_holds_its_folder_until_it_is_closed(tmp_path):
    def fit(resume):
        denoiser = fn.Denoiser(fn.nn.MLP(2, 8), fn.VP(), "v")
        config = fn.TrainConfig(steps=30, log_every=10, save_every=10)
        return fn.fit(denoiser, fn.data.spiral(50), config, out=tmp_path / "r", resume=resume)

    events = fit(False)
    next(events)
    with pytest.raises(RunError, match="another training is at work"):
        next(fit(True))
    events.close()
    *_, last = fit(True)
    assert last.step == 30
    assert fn.load(tmp_path / "r").step == 30
