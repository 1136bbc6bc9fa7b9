"""Timing several things fairly on a noisy machine, and the table that says what came of it."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from workers import Failed, Recipe, Worker

Times = dict[str, list[float]]

_ELSEWHERE = 0.15
"""A round is disturbed if other processes take more than this share of one core meanwhile."""
_ENOUGH = 3
_PATIENCE = 20.0
"""How many seconds, in all, to wait for other processes to be done before going on regardless."""
_BUDGET = 45.0
"""After how many seconds to be content with the rounds there are."""


@dataclass
class Rounds:
    """What `interleaved` measured.

    Attributes:
        times: each one's seconds, of the undisturbed rounds if there were enough of them.
        note: how many rounds those are.
        notes: what each one's worker said of itself.
        failed: why someone has no times.
    """

    times: Times = field(default_factory=dict)
    note: str = ""
    notes: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


def interleaved(recipes: Mapping[str, Recipe], repetitions: int) -> Rounds:
    """Time everyone `repetitions` times, each in a process of its own, taking turns.

    The machine's ups and downs then meet all of them alike. Where the system tells what other processes do, rounds
    that they disturbed are left out and done again, up to as many as were wanted.

    Args:
        recipes: how each one is prepared.
        repetitions: how many rounds.
    """
    result = Rounds()
    workers = {name: Worker(recipe) for name, recipe in recipes.items()}
    try:
        for name, worker in list(workers.items()):
            try:
                worker.wait()
                worker.run()  # untimed: the first one warms up
                result.notes[name] = worker.note
            except Failed as failure:
                result.failed[name] = f"cannot be run: {failure}"
                workers.pop(name).close()
        _take_turns(workers, repetitions, result)
    finally:
        for worker in workers.values():
            worker.close()
    return result


def _take_turns(workers: Mapping[str, Worker], repetitions: int, result: Rounds) -> None:
    rounds: list[dict[str, float]] = []
    quiet: list[dict[str, float]] = []
    patience, end = _wait(workers, _PATIENCE), time.perf_counter() + _BUDGET + _PATIENCE
    while len(quiet) < repetitions and len(rounds) < 2 * repetitions:
        if time.perf_counter() > end and len(rounds) >= _ENOUGH:
            break
        busy, start = _others(workers), time.perf_counter()
        rounds.append(_round(workers, len(rounds)))
        if _others(workers) - busy < _ELSEWHERE * (time.perf_counter() - start):
            quiet.append(rounds[-1])
        else:
            patience = _wait(workers, patience)
    used = quiet if len(quiet) >= min(_ENOUGH, repetitions) else rounds
    result.note = f"{len(quiet)} of {len(rounds)} rounds undisturbed" + ("" if used is quiet else ", all used")
    result.times = {name: [times[name] for times in used] for name in workers}


def _round(workers: Mapping[str, Worker], number: int) -> dict[str, float]:
    names = list(workers)
    first = number % len(names)
    times: dict[str, float] = {}
    for name in names[first:] + names[:first]:
        time.sleep(0.005)  # threads of the one before may still spin
        times[name] = workers[name].run()
    return times


def _wait(workers: Mapping[str, Worker], patience: float) -> float:
    """Wait while other processes are busy, at most so many seconds; return what is left of them."""
    while patience > 0:
        busy = _others(workers)
        time.sleep(0.5)
        patience -= 0.5
        if _others(workers) - busy < _ELSEWHERE * 0.5:
            break
    return patience


def _others(workers: Mapping[str, Worker]) -> float:
    """Return the processor seconds that all but us have had since the machine started; 0 if that is not known."""
    try:
        fields = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:9]
        user, nice, system, _idle, _waiting, irq, softirq, stolen = map(int, fields)
    except (OSError, ValueError):
        return 0.0
    busy = (user + nice + system + irq + softirq + stolen) / os.sysconf("SC_CLK_TCK")
    return busy - sum(os.times()[:4]) - sum(worker.cpu() for worker in workers.values())


@dataclass(frozen=True)
class Spread:
    """What is said of a ratio measured in several rounds.

    Attributes:
        median: of the rounds' ratios.
        low: their lower quartile.
        high: their upper quartile.
        best: the ratio of each one's best round, the least disturbed by other work; None where it is not known.
    """

    median: float
    low: float
    high: float
    best: float | None = None


def ratios(above: Sequence[float], below: Sequence[float]) -> Spread:
    """Return above/below, round by round."""
    values = [a / b for a, b in zip(above, below, strict=True)]
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, low, high, min(above) / min(below))


def times_as_fast(times: Times, name: str, reference: str) -> Spread:
    """Return how many times as fast as the reference something is."""
    return ratios(times[reference], times[name])


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        section: train, sample, memory or import.
        what: the case measured.
        contender: who.
        value: the ratio, or bytes a point; None where it could not be measured.
        low: the lower quartile.
        high: the upper quartile.
        best: the ratio of the best rounds.
        target: what the value must reach; None for no target.
        at_most: whether the target is a ceiling.
        note: what else there is to know: the plain measurement, why there is none.
    """

    section: str
    what: str
    contender: str
    value: float | None
    low: float | None = None
    high: float | None = None
    best: float | None = None
    target: float | None = None
    at_most: bool = False
    note: str = ""

    @classmethod
    def ratio(cls, place: tuple[str, str, str], spread: Spread, target: float | None = None, **rest: Any) -> Row:
        """Make a row of (section, what, contender) from a ratio with its spread."""
        return cls(*place, spread.median, spread.low, spread.high, spread.best, target, **rest)

    @property
    def mark(self) -> str:
        """PASS, behind, or nothing where no target is set."""
        if self.target is None or self.value is None:
            return ""
        return "PASS" if (self.value <= self.target if self.at_most else self.value >= self.target) else "behind"

    def cells(self) -> list[str]:
        """Return the table's cells."""
        digits = 1 if self.section == "memory" else 3
        value = "-" if self.value is None else f"{self.value:,.{digits}f}"
        spread = "" if self.low is None else f"{self.low:.{digits}f}..{self.high:.{digits}f}"
        target = "" if self.target is None else f"{'<=' if self.at_most else '>='} {self.target:g}"
        best = "" if self.best is None else f"{self.best:.{digits}f}"
        return [self.what, self.contender, value, spread, best, target, self.mark, self.note]

    def as_data(self) -> dict[str, Any]:
        """Return the row for a JSON file."""
        return {**asdict(self), "mark": self.mark}


HEAD = ["what", "contender", "median", "quartiles", "best", "target", "mark", "measured"]
TITLES = {
    "train": "Training steps a second, as a multiple of a bare hand-tuned loop's",
    "sample": "DDIM, as a multiple of the speed of as many bare forward passes of the same network",
    "memory": "Growth of peak memory with the number of samples, bytes a point",
    "import": "Import time, as a multiple of `import torch`",
}


def table(section: str, rows: Sequence[Row]) -> str:
    """Return a section's rows as a Markdown table, columns aligned."""
    lines = [HEAD, *(row.cells() for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEAD))]
    right = {2, 4, 5}

    def joined(cells: Sequence[str]) -> str:
        return "| " + " | ".join(c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in _numbered(cells)) + " |"

    def _numbered(cells: Sequence[str]) -> Any:
        return enumerate(zip(cells, widths, strict=True))

    rule = "|" + "|".join("-" * (w + 1) + (":" if i in right else "-") for i, w in enumerate(widths)) + "|"
    return "\n".join([f"## {TITLES[section]}", "", joined(lines[0]), rule, *map(joined, lines[1:]), ""])
