"""Import time, each in a fresh interpreter."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

from timing import Row, Times, ratios

TARGET = 1.1
IMPORTS = {
    "import torch": "import torch",
    "fromnoise": "import fromnoise as fn; fn.train; fn.sample; fn.data",
}
_TIMED = "import time; start = time.perf_counter(); {}; print(time.perf_counter() - start)"


def measure(*, peers: bool, quick: bool, say: Callable[[str], None]) -> list[Row]:  # noqa: ARG001
    """Return the section's row; the peers' imports are not measured."""
    repetitions = 3 if quick else 9
    say("import time")
    times: Times = {name: [] for name in IMPORTS}
    for round_ in range(repetitions + 1):  # the first only warms the disk's cache
        for name, statement in sorted(IMPORTS.items(), reverse=round_ % 2 == 0):
            seconds = _seconds(statement)
            if round_:
                times[name].append(seconds)
    torch_ms, our_ms = (1e3 * sorted(times[name])[repetitions // 2] for name in IMPORTS)
    note = f"{our_ms:,.0f} ms with train, sample and data; torch alone {torch_ms:,.0f} ms"
    place = ("import", "fresh interpreter", "fromnoise")
    return [Row.ratio(place, ratios(times["fromnoise"], times["import torch"]), TARGET, at_most=True, note=note)]


def _seconds(statement: str) -> float:
    command = [sys.executable, "-c", _TIMED.format(statement)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
