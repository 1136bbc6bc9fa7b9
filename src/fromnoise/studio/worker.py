"""A training in a process of its own: `python -m fromnoise.studio.worker JOBFILE [PLUGIN ...]`.

Given a run's folder instead of the file, it continues that run's training.

It makes data, denoiser and settings as `fromnoise train` does, so its weights are bit-identical. It writes its events
to standard output, a line of JSON for each.
"""

from __future__ import annotations

import json
import math
import runpy
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from fromnoise.errors import Diverged, FromnoiseError
from fromnoise.studio.jobs import Job, going_on
from fromnoise.training import Event, Interrupted, Stop, stop_on_signals


def tell(kind: str, **news: Any) -> None:
    """Print an event. If nobody reads the output any more, ask the training to save its state and stop."""
    try:
        print(json.dumps({"event": kind, **news}, allow_nan=False), flush=True)
    except BrokenPipeError:
        signal.raise_signal(signal.SIGTERM)


def events(place: Path, stop: Stop) -> Iterator[Event]:
    """Return the events of the training in a job file, or of the rest of the training in a run's folder."""
    if place.is_dir():
        return going_on(place).fit(place, resume=True, stop=stop)
    asked = json.loads(place.read_text(encoding="utf-8"))
    out = Path(asked["out"])
    if "job" not in asked:
        return events(out, stop)
    job = Job.from_post(asked["job"])
    sys.argv[1:] = (job.command(out) or ["fromnoise", "studio"])[
        1:
    ]  # the command that the run's environment.json records
    return job.training().fit(out, stop=stop)


def watch(training: Iterator[Event]) -> None:
    """Train, and print the events."""
    for event in training:
        tell(
            "progress", step=event.step, steps=event.steps, loss=event.loss if math.isfinite(event.loss) else None,
            floor=None if event.floor is None else event.floor.value, progress=event.progress,
            rate=event.rate, seconds_left=event.seconds_left,
        )  # fmt: skip
        if event.run is not None:
            tell("done", step=event.step)


def main(arguments: list[str]) -> int:
    """Train, given a job's file or a run's folder and plugins; return the exit code, that of `fromnoise train`."""
    place, *plugins = arguments
    try:
        for plugin in plugins:
            runpy.run_path(plugin)
        with stop_on_signals() as stop:
            watch(events(Path(place), stop))
    except Interrupted as stop:
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
