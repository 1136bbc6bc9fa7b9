"""The exact denoiser of 50,000 pictures of 3 x 32 x 32: time and memory in two lines.

python benchmarks/exact.py [THREADS]
"""

from __future__ import annotations

import resource
import sys
import time

import torch

import fromnoise as fn

PICTURES, ROWS, SIGMAS = 50_000, 64, (0.002, 0.1, 0.5, 3.0, 80.0)


def own_peak() -> float:
    """Return this process's peak resident memory in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def main() -> None:
    """Print the wall and processor time of 64 rows, the slowest of five noise levels, and the peak over the set."""
    torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(PICTURES, 3, 32, 32, generator=generator).mul_(2).sub_(1)
    eps = torch.randn(ROWS, 3, 32, 32, generator=generator)
    before = own_peak()
    law = fn.FiniteSet(x).denoiser(fn.EDM()).law
    law.posterior_mean(x[:ROWS], 1.0, 0.1)  # measures the set's norms
    slowest = (0.0, 0.0, 0.0)
    for sigma in SIGMAS:
        x_t, wall, cpu = x[:ROWS] + sigma * eps, time.perf_counter(), time.process_time()
        law.posterior_mean(x_t, 1.0, sigma)
        slowest = max(slowest, (time.perf_counter() - wall, time.process_time() - cpu, sigma))
    print(f"time    {slowest[0]:.2f} s, {slowest[1]:.2f} s of processors ({ROWS} rows at sigma = {slowest[2]:g})")
    print(f"memory  {own_peak() - before:.0f} MiB over the set of {x.nbytes / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
