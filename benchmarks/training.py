"""Training: optimizer steps a second beside a bare hand-tuned loop's."""

from __future__ import annotations

import itertools
import math
import statistics
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial

import ours
import torch
from network import BareTraining, Plain
from timing import Row, interleaved, times_as_fast
from torch import Tensor

POINTS = 20_480
CASES = ((64, 100, 40), (512, 50, 30), (4096, 20, 15))
"""Batch size, steps timed at a time, repetitions."""
TARGET = 0.95
BARE = "bare loop"


def measure(*, peers: bool, quick: bool, say: Callable[[str], None]) -> list[Row]:
    """Return the section's rows."""
    points = ours.spiral(POINTS)
    rows: list[Row] = []
    for batch, window, repetitions in CASES:
        say(f"training at batch {batch}")
        rows += _case(points, batch, window, max(repetitions // 5, 3) if quick else repetitions, peers)
    return rows


def _case(points: ours.fn.Dataset, batch: int, window: int, repetitions: int, peers: bool) -> list[Row]:
    what = f"batch {batch}"
    torch.manual_seed(0)
    events = ours.training(points, batch, window)
    runs: dict[str, Callable[[], object]] = {
        BARE: partial(BareTraining(points.x, batch).run, window),
        ours.NAME: partial(next, events),
    }
    notes, broken = {BARE: "fused Adam, EMA, no reading of the loss", ours.NAME: "fn.fit, article"}, []
    if peers:
        broken = _add_peers(runs, notes, points.x, batch, window)
    rounds = interleaved(runs, repetitions)
    getattr(events, "close", lambda: None)()
    notes[BARE] += f"; {rounds.note}"
    rows = []
    for name in runs:
        rate = window / statistics.median(rounds.times[name])
        rows.append(
            Row.ratio(
                ("train", what, name), times_as_fast(rounds.times, name, BARE), TARGET if name == ours.NAME else None,
                note=f"{rate:,.0f} steps/s; {notes[name]}",
            )
        )  # fmt: skip
    return rows + [Row("train", what, name, None, note=why) for name, why in broken]


def _add_peers(
    runs: dict[str, Callable[[], object]], notes: dict[str, str], points: Tensor, batch: int, window: int
) -> list[tuple[str, str]]:
    """Add a run for each peer that trains; return those that do not, with the reason."""
    from peers import PEERS

    broken: list[tuple[str, str]] = []
    for name, kind in PEERS.items():
        try:
            peer, network = kind(), Plain()
            steps = peer.training(points, batch, network)
            _check_learning(network, steps)
        except Exception as error:
            broken.append((name, f"cannot be run: {type(error).__name__}: {error}"))
            continue
        runs[name], notes[name] = partial(_take, steps, window), peer.manner
    return broken


def _take(steps: Iterator[object], count: int) -> None:
    deque(itertools.islice(steps, count), maxlen=0)


def _check_learning(network: Plain, steps: Iterator[object]) -> None:
    """Make sure that a training changes every weight of the network, and to something finite."""
    before = [p.detach().clone() for p in network.parameters()]
    _take(steps, 3)
    for old, new in zip(before, network.parameters(), strict=True):
        if torch.equal(old, new) or not math.isfinite(float(new.detach().sum())):
            raise RuntimeError("three steps left a weight as it was, or broke it")
