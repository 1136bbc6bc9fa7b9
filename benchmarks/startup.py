"""Import time, each in a fresh interpreter."""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Callable

from timing import Row, Times, ratios

TORCH, OURS = "import torch", "import fromnoise"
IMPORTS = {
    TORCH: TORCH,
    OURS: OURS,
    "and train, sample, data": "import fromnoise as fn; fn.train; fn.sample; fn.data",
}
"""What is timed; fromnoise loads a name when it is first used."""
TARGETS = {OURS: 1.1}
_TIMED = "import time; start = time.perf_counter(); {}; print(time.perf_counter() - start)"


def measure(*, peers: bool, quick: bool, say: Callable[[str], None]) -> list[Row]:  # noqa: ARG001
    """Return the section's rows; the peers' imports are not measured."""
    repetitions = 3 if quick else 9
    say("import time")
    times: Times = {name: [] for name in IMPORTS}
    for round_ in range(repetitions + 1):  # the first only warms the disk's cache
        for name, statement in sorted(IMPORTS.items(), reverse=round_ % 2 == 0):
            seconds = _seconds(statement)
            if round_:
                times[name].append(seconds)
    rows = []
    for name, seconds in times.items():
        place, note = ("import", "fresh interpreter", name), f"{1e3 * statistics.median(seconds):,.0f} ms"
        rows.append(Row.ratio(place, ratios(seconds, times[TORCH]), TARGETS.get(name), at_most=True, note=note))
    return rows


def _seconds(statement: str) -> float:
    command = [sys.executable, "-c", _TIMED.format(statement)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
