"""Memory: by how much the peak grows with the number of samples.

Run as a program it is the process that is measured: `python memory.py WHO N STEPS FILE` samples N points into FILE and
prints its own peak in bytes.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from timing import Row

FEW, MANY, STEPS = 100_000, 1_000_000, 2
TARGET = 64.0
KINDS = ("fromnoise, .npy", "fromnoise, .csv")


def measure(*, peers: bool, quick: bool, say: Callable[[str], None]) -> list[Row]:
    """Return the section's rows."""
    names: list[str] = list(KINDS)
    if peers:
        from peers import PEERS

        names += list(PEERS)
    many = FEW * 3 if quick else MANY
    return [_row(name, many, say) for name in names]


def _row(name: str, many: int, say: Callable[[str], None]) -> Row:
    say(f"peak memory of {name}")
    what = f"{FEW:,} -> {many:,} points"
    target = TARGET if name in KINDS else None
    try:
        low, high = (_peak(name, n) for n in (FEW, many))
    except subprocess.CalledProcessError as error:
        return Row("memory", what, name, None, target=target, note=f"cannot be run: {_last_line(error.stderr)}")
    manner = "fn.sample_chunks, chunk by chunk" if name in KINDS else "the whole batch at once"
    note = f"peaks {low / 2**20:,.0f} and {high / 2**20:,.0f} MiB; {manner}, {STEPS} steps"
    return Row("memory", what, name, (high - low) / (many - FEW), target=target, at_most=True, note=note)


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["it said nothing"])[-1]


def _peak(name: str, n: int) -> int:
    """Return the peak resident memory, in bytes, of a fresh process that samples n points."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "samples.csv" if name.endswith(".csv") else "samples.npy")
        command = [sys.executable, __file__, name, str(n), str(STEPS), str(file)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(_last_line(done.stdout))


def own_peak() -> int:
    """Return this process's peak resident memory in bytes.

    Linux's ru_maxrss starts from what the parent had at the fork, so the kernel's own figure is preferred there.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def main(name: str, n: int, steps: int, file: Path) -> None:
    """Sample, and print the peak."""
    import torch
    from network import Plain

    torch.manual_seed(0)
    network = Plain().eval().requires_grad_(False)
    if name in KINDS:
        import ours

        ours.sample_to_file(ours.denoiser_of(network), n, steps, file)
    else:
        import numpy as np
        from peers import PEERS

        np.save(file, PEERS[name]().sample(network, torch.randn(n, 2), steps).numpy())
    print(own_peak())


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
