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
from workers import Prepared

POINTS = 20_480
CASES = ((64, 100, 40), (512, 50, 30), (4096, 20, 15))
"""Batch size, steps timed at a time, repetitions."""
TARGET = 0.95
BARE = "bare loop"


def measure(*, peers: bool, quick: bool, say: Callable[[str], None]) -> list[Row]:
    """Return the section's rows."""
    rows: list[Row] = []
    for batch, window, repetitions in CASES:
        say(f"training at batch {batch}")
        rows += _case(batch, window, max(repetitions // 5, 3) if quick else repetitions, peers)
    return rows


def _case(batch: int, window: int, repetitions: int, peers: bool) -> list[Row]:
    names = [BARE, ours.NAME]
    if peers:
        from peers import PEERS

        names += list(PEERS)
    rounds = interleaved({name: ("training", "prepared", (name, batch, window)) for name in names}, repetitions)
    what, rows = f"batch {batch}", []
    for name, seconds in rounds.times.items():
        note = f"{window / statistics.median(seconds):,.0f} steps/s; {rounds.notes[name]}"
        note += f"; {rounds.note}" if name == BARE else ""
        fast = times_as_fast(rounds.times, name, BARE)
        rows.append(Row.ratio(("train", what, name), fast, TARGET if name == ours.NAME else None, note=note))
    return rows + [Row("train", what, name, None, note=why) for name, why in rounds.failed.items()]


def prepared(name: str, batch: int, window: int) -> Prepared:
    """Prepare one contender: what is timed is `window` steps of a training under way."""
    torch.manual_seed(0)
    points = ours.spiral(POINTS)
    if name == BARE:
        return Prepared(partial(BareTraining(points.x, batch).run, window), "fused Adam, EMA, loss never read")
    if name == ours.NAME:
        events = ours.training(points, batch, window)
        next(events)
        return Prepared(partial(next, events), "fn.fit, article")
    from peers import PEERS

    peer, network = PEERS[name](), Plain()
    steps = peer.training(points.x, batch, network)
    _check_learning(network, steps)
    return Prepared(partial(_take, steps, window), peer.manner)


def _take(steps: Iterator[object], count: int) -> None:
    deque(itertools.islice(steps, count), maxlen=0)


def _check_learning(network: Plain, steps: Iterator[object]) -> None:
    """Make sure that a training changes every weight of the network, and to something finite."""
    before = [p.detach().clone() for p in network.parameters()]
    _take(steps, 3)
    for old, new in zip(before, network.parameters(), strict=True):
        if torch.equal(old, new) or not math.isfinite(float(new.detach().sum())):
            raise RuntimeError("three steps left a weight as it was, or broke it")
