"""Training, sampling and the exact denoiser on a CUDA device, beside bare loops on it: a table in about a minute.

python benchmarks/gpu.py [--out TABLE.md]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import ours
import torch
from network import BareTraining, Plain, bare_passes
from torch import Tensor

import fromnoise as fn
from fromnoise.training import Plan

WINDOW, ROUNDS = 200, 9
"""Optimizer steps in one timing, and timings; bare loop and fromnoise take turns."""

STEPS = 50
"""Of DDIM."""


def seconds(run: Callable[[], object]) -> float:
    """Return the wall time of a call, to the end of the device's work."""
    torch.cuda.synchronize()
    began = time.perf_counter()
    run()
    torch.cuda.synchronize()
    return time.perf_counter() - began


def compared(ours_: Callable[[], object], bare: Callable[[], object], rounds: int = ROUNDS) -> tuple[float, float]:
    """Return the median seconds of ours, and the median of how many times as fast it is."""
    for run in (ours_, bare):
        run()
    pairs = [(seconds(ours_), seconds(bare)) for _ in range(rounds)]
    return statistics.median(own for own, _ in pairs), statistics.median(other / own for own, other in pairs)


def training(batch: int, precision: str) -> str:
    """Return a row: steps a second with the article's recipe."""
    points = ours.spiral(20_480)
    settings = {"batch_size": batch, "log_every": WINDOW, "steps": 10**9, "precision": precision}
    events = Plan.from_recipe("article", {"train": settings}).assemble(points, device="cuda").fit()
    bare = BareTraining(points.x.cuda(), batch)
    own, ratio = compared(lambda: next(events), lambda: bare.run(WINDOW))
    return f"| train, batch {batch:,}, {precision} | {WINDOW / own:,.0f} steps/s | {ratio:.2f} of a bare loop |"


def sampling(n: int) -> str:
    """Return a row: points a second with DDIM."""
    network = Plain().cuda().eval()
    denoiser = Plan.from_recipe("article").assemble(ours.spiral(300), device="cuda").denoiser.eval()
    x = torch.randn(n, 2, device="cuda")

    def passes() -> Tensor:
        with torch.device("cuda"):
            return bare_passes(network, x, STEPS)

    own, ratio = compared(lambda: fn.sample(denoiser, n, sampler=fn.DDIM(), steps=STEPS), passes, 5)
    return f"| sample, {n:,} points, DDIM {STEPS} | {n / own:,.0f} points/s | {ratio:.2f} of bare passes |"


def exact() -> str:
    """Return a row: the exact denoiser of 50,000 pictures."""
    generator = torch.Generator("cuda").manual_seed(0)
    pictures = torch.rand(50_000, 3, 32, 32, generator=generator, device="cuda").mul_(2).sub_(1)
    law = fn.FiniteSet(pictures).denoiser(fn.EDM()).law
    eps = torch.randn(64, 3, 32, 32, generator=generator, device="cuda")
    law.posterior_mean(pictures[:64] + eps, 1.0, 1.0)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    own = max(seconds(lambda s=s: law.posterior_mean(pictures[:64] + s * eps, 1.0, s)) for s in (0.002, 0.1, 3.0, 80.0))
    peak = (torch.cuda.max_memory_allocated() - before) / 2**20
    return f"| exact denoiser, 64 rows of 50,000 x 3 x 32 x 32 | {1000 * own:.0f} ms | {peak:.0f} MiB over the set |"


def main() -> None:
    """Print the table, and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="where to write the table too")
    out = parser.parse_args().out
    if not torch.cuda.is_available():
        raise SystemExit("there is no CUDA device here")
    rows = [
        f"{torch.cuda.get_device_name()}, torch {torch.__version__}",
        "",
        "| what | speed | beside |",
        "|---|---|---|",
    ]
    kinds = [(batch, precision) for batch in (512, 4096, 65_536) for precision in ("float32", "bf16")]
    trainings = [partial(training, *kind) for kind in kinds]
    for make in (*trainings, partial(sampling, 100_000), partial(sampling, 1_000_000), exact):
        rows.append(make())
        print(rows[-1], flush=True)
    if out is not None:
        out.write_text("\n".join(rows) + "\n")


if __name__ == "__main__":
    main()
