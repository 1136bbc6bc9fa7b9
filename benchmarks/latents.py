"""Latent diffusion for the compute spent: an autoencoder of MNIST, and denoisers in its latents, judged as pixels are.

    python benchmarks/latents.py mnist-train-png.tar.gz --out runs/latents       # trains what is not there yet
    python benchmarks/latents.py mnist-train-png.tar.gz --only dit
    python benchmarks/latents.py mnist-train-png.tar.gz --only ""                # the autoencoder and the times alone

The autoencoder's reconstructions and the samples are judged by the judge of `quality.py`, beside the same floors; runs
are tied to the pictures seen. A training step is timed against the same transformer with patches of 2 on pixels and
against the U-Net of the recipe `image`, one after the other in this process, batches of 64 in bfloat16.
"""

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from machine import described
from quality import HEAD, HERE, judged, line, the_judge

import fromnoise as fn
from fromnoise.cond import Cond
from fromnoise.nn import DiT, UNet
from fromnoise.report import ceiling_of
from fromnoise.training.plan import prepare

WIDTH, DEPTH = 96, 3
"""Of the transformers, in latents and on pixels alike."""

RUNS = {"dit": {"network": {"name": "dit", "width": WIDTH, "depth": DEPTH}}, "unet": {"network": "unet"}}
"""The denoisers in latents, changes to the recipe."""

SCALES, BATCH, TIMES = (1.0, 1.25, 1.5), 64, 5


def timed(work, place: Path):
    """Do some work if its result is not there, and return the seconds of a thread that it took."""
    kept = place / "cpu_seconds"
    if not kept.exists():
        began = time.process_time()
        work()
        kept.write_text(f"{time.process_time() - began:.0f}")
    return int(kept.read_text())


def step_of(network, shape, classes: int) -> float:
    """Return the milliseconds of a training step of a network, the least of some."""
    x, told = torch.zeros(BATCH, *shape), Cond({"label": torch.arange(BATCH) % classes})
    best = float("inf")
    for _ in range(TIMES + 1):
        began = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16):
            out = network(x, torch.zeros(BATCH), told)
        out.float().square().mean().backward()
        best = min(best, time.perf_counter() - began)
    return 1000 * best


def main() -> None:
    """Train what is missing, judge, print tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--out", type=Path, default=Path("runs/latents"))
    parser.add_argument("--only", default=",".join(RUNS))
    parser.add_argument("--steps", type=int, default=None, help="of the denoisers; the recipe's when not given")
    parser.add_argument("--json", type=Path, default=HERE / "results" / "latents.json")
    given = parser.parse_args()
    source = fn.data.open(given.data)
    judge = the_judge(source)
    print(f"{described()}\njudge: {judge.accuracy:.2%} right on held-out pictures\n")
    place = given.out / "autoencoder"
    seconds = timed(lambda: fn.train_autoencoder(given.data, out=place, resume=True), place)
    autoencoder = fn.load_autoencoder(place)
    rows, held = autoencoder.parts()
    ceiling = ceiling_of(autoencoder.autoencoder, rows, held, features=judge, most=5000, pairs=6)
    seen = autoencoder.step * autoencoder.config.train["batch_size"]
    print(f"autoencoder: {seen:,} pictures seen, {seconds:,} seconds of a thread")
    print("\n".join(ceiling.lines()), flush=True)
    found = {"machine": described(), "autoencoder": {"pictures": seen, "seconds": seconds, **ceiling.row()}, "runs": {}}
    if given.json.exists():  # what was measured before of other runs stays
        found["runs"] = json.loads(given.json.read_text())["runs"]
    classes = len(judge.label_names)
    latent: Any = autoencoder.autoencoder.latent_shape
    pixels: Any = autoencoder.autoencoder.shape
    steps = {
        "transformer in latents, patches of 1": step_of(
            DiT(latent, WIDTH, DEPTH, patch=1, classes=classes), latent, classes
        ),
        "U-Net in latents": step_of(UNet(latent, (96,), classes=classes), latent, classes),
        "transformer on pixels, patches of 2": step_of(
            DiT(pixels, WIDTH, DEPTH, patch=2, classes=classes), pixels, classes
        ),
        "transformer on pixels, patches of 4": step_of(
            DiT(pixels, WIDTH, DEPTH, patch=4, classes=classes), pixels, classes
        ),
        "U-Net on pixels": step_of(UNet(pixels, classes=classes), pixels, classes),
    }
    found["step_ms"] = steps
    first = next(iter(steps.values()))
    print("\n| a training step of 64 | ms | times the first |\n| --- | --- | --- |")
    print("\n".join(f"| {name} | {ms:.0f} | {ms / first:.2f} |" for name, ms in steps.items()), flush=True)
    given.json.write_text(json.dumps(found, indent=1))
    print(HEAD, flush=True)
    for name in filter(None, given.only.split(",")):
        folder, codec = given.out / name, autoencoder.latents
        train = {} if given.steps is None else {"train": {"steps": given.steps}}
        plan, data = prepare(given.data, None, {**RUNS[name], **train}, codec=codec)
        spent = timed(lambda: plan.assemble(data, codec=codec).run(folder, resume=True), folder)  # noqa: B023 called now
        run = fn.load(folder)
        seen = run.step * run.config.train["batch_size"]
        rows = [judged(run, judge, scale) for scale in SCALES]
        found["runs"][name] = {"pictures": seen, "seconds": spent, "rows": rows}
        for row in rows:
            print(line(f"{name} in latents", seen, spent, row), flush=True)
        given.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
