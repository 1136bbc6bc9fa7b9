"""A training in a process of its own: `python -m fromnoise.studio.worker JOBFILE`, or with a run's folder to go on.

It makes data, denoiser and settings as `fromnoise train` does, so its weights are the same to the last bit, and tells
what happens on standard output, a line of JSON for each event.
"""

from __future__ import annotations

import json
import runpy
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from fromnoise.errors import Diverged, FromnoiseError
from fromnoise.run import RunFolder
from fromnoise.studio.jobs import Job, going_on, often
from fromnoise.train import Event, Interrupted, fit


def tell(kind: str, **news: Any) -> None:
    """Print an event. Where nobody reads any more, ask the training to save itself and stop."""
    try:
        print(json.dumps({"event": kind, **news}, allow_nan=False), flush=True)
    except BrokenPipeError:
        signal.raise_signal(signal.SIGTERM)


def events(place: Path) -> tuple[Iterator[Event], Path]:
    """Return the training that a file describes, or that goes on in a run's folder, and its folder."""
    if place.is_dir():
        denoiser, points, train, config = going_on(place)
        scaling: Any = config.scaling
        return fit(denoiser, points, train, out=place, resume=True, scaling=scaling), place
    asked = json.loads(place.read_text(encoding="utf-8"))
    for plugin in asked["plugins"]:
        runpy.run_path(plugin)
    out = Path(asked["out"])
    if "job" not in asked:
        return events(out)
    job = Job.of(asked["job"])
    sys.argv[1:] = (job.command(out) or ["fromnoise", "studio"])[1:]  # what the run's environment.json shall say
    denoiser, points, plan = job.parts()
    train = often(plan.train, job.changes.get("train", {}))
    return fit(denoiser, points, train, out=out, scaling=plan.scaling), out


def watch(training: Iterator[Event], folder: RunFolder) -> None:
    """Train, and tell of it."""
    told = -1
    for event in training:
        if event.run is None:
            tell(
                "progress", step=event.step, steps=event.steps, loss=event.loss,
                floor=None if event.floor is None else event.floor.value, share=event.share,
                rate=event.rate, seconds_left=event.seconds_left,
            )  # fmt: skip
        latest = max(folder.steps(), default=-1)
        if latest > told:
            told = latest
            tell("checkpoint", step=latest)
    tell("done", step=told)


def main(arguments: list[str]) -> int:
    """Train and return the exit code, which is that of `fromnoise train`."""
    try:
        training, path = events(Path(arguments[0]))
        watch(training, RunFolder(path))
    except Interrupted as stop:
        tell("checkpoint", step=stop.step)
        tell("stopped", step=stop.step)
        return 130
    except FromnoiseError as error:
        tell("failed", error=" ".join(str(error).split()))
        return 3 if isinstance(error, Diverged) else 2
    return 0


if __name__ == "__main__":
    code = main(sys.argv[1:])
    with suppress(BrokenPipeError):
        sys.stdout.flush()
    raise SystemExit(code)
