"""Distillation: what students of few steps keep of their teacher, and what they cost.

    python benchmarks/distillation.py points                                # spiral and shapes, some minutes
    python benchmarks/distillation.py mnist mnist-train-png.tar.gz --out runs/quality

**points**: the ratio of the 2-Wasserstein distance to its floor, with little noise, of students of the spiral in 4, 2
and 1 steps, by both methods, and of their teacher with as many evaluations; on shapes the class accuracy of guided
students and of their guided teacher. **mnist**: a student of 4 steps of the run `unet-10` of `quality.py`, which is
trained if it is not there, judged as there: agreement and Frechet distance in floors, at guidance 1.5.
"""

import argparse
import json
import os
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import quality
import torch
from machine import described

import fromnoise as fn
from fromnoise.cond import Cond
from fromnoise.own_grid import OwnGrid
from fromnoise.report import Assessor, at_scales
from fromnoise.samplers import Sampler, settled

RESULTS = Path(__file__).parent / "results" / "distillation.json"
GUIDANCE = 1.5


def ratio(run: fn.Run, sampler: Sampler | None = None, steps: int | None = None) -> float:
    """Return the ratio to the floor of 1,000 samples, by a student's own sampler and steps where none are given.

    DDIM steps through the times that students are taught at.
    """
    times = None
    if steps is not None and sampler == fn.DDIM():
        times = OwnGrid(steps=steps, of=1024, spacing="karras").times(run.denoiser.schedule)
    return Assessor(run, n=1000, exact=False)(*settled(run.denoiser, sampler, steps), grid=times).ratio


def spiral(out: Path) -> dict:
    """Distill the spiral to 4, 2 and 1 steps by both methods."""
    teacher = fn.train("spiral", out=out / "spiral", resume=True)
    rows = {"teacher, ddim 1024": {"evaluations": 1024, "ratio": ratio(teacher, fn.DDIM(), 1024)}}
    for to in (4, 2, 1):
        began = time.perf_counter()
        student = fn.distill(teacher, to, out=out / f"spiral-{to}", resume=True)
        seconds = time.perf_counter() - began
        rows[f"progressive {to}"] = {"evaluations": to, "ratio": ratio(student), "seconds": seconds}
        for rule in (fn.DDIM(), fn.Multistep()):
            rows[f"teacher, {type(rule).__name__} {to}"] = {"evaluations": to, "ratio": ratio(teacher, rule, to)}
    began = time.perf_counter()
    student = fn.distill(teacher, 1, method="consistency", out=out / "spiral-consistency", resume=True)
    seconds = time.perf_counter() - began
    alone = fn.train("spiral", loss="consistency", out=out / "spiral-alone", resume=True)
    for to in (4, 2, 1):
        rows[f"consistency {to}"] = {"evaluations": to, "ratio": ratio(student, None, to), "seconds": seconds}
        rows[f"consistency, no teacher, {to}"] = {"evaluations": to, "ratio": ratio(alone, None, to)}
    return rows


def accuracy(run: fn.Run, scale: float, sampler: str | None = None, steps: int | None = None) -> float:
    """Return the mean class accuracy of 2,000 guided samples of each label."""
    rule, count = settled(run.denoiser, sampler, steps)
    found = [
        at_scales(run, run.denoiser, label, (scale,), sampler=rule, steps=count, n=2000, seed=0)[0].accuracy
        for label in run.denoiser.label_names
    ]
    return sum(found) / len(found)


def shapes(out: Path) -> dict:
    """Distill shapes to 4 steps, guided by 1 to 5."""
    teacher = fn.train("shapes", out=out / "shapes", resume=True)
    student = fn.distill(teacher, 4, out=out / "shapes-4", resume=True)
    return {
        f"{name}, guidance {scale:g}": {"accuracy": accuracy(run, scale)}
        for scale in (1.0, 2.0, 3.0, 5.0)
        for name, run in (("teacher, multistep 50", teacher), ("student, 4 steps", student))
    }


def mnist(data: str, out: Path) -> dict:
    """Distill the U-Net of MNIST to 4 steps and judge it beside its teacher."""
    judge = quality.the_judge(fn.data.open(data))
    teacher = quality.trained("unet-10", data, out)
    began = time.perf_counter(), time.process_time()
    student = fn.distill(teacher, 4, out=out / "unet-10-4", resume=True)
    taken = time.perf_counter() - began[0], time.process_time() - began[1]
    rows = {"distilling": {"seconds": taken[0], "thread_seconds": taken[1]}}
    for name, run, sampler, steps in (
        ("teacher, multistep 50", teacher, fn.Multistep(), 50),
        ("teacher, multistep 12", teacher, fn.Multistep(), 12),
        ("teacher, multistep 4", teacher, fn.Multistep(), 4),
        ("teacher, ddim 4", teacher, fn.DDIM(), 4),
        ("student, 4 steps", student, None, None),
    ):
        rows[name] = judged(run, judge, sampler, steps)
        print(name, rows[name], flush=True)
    return rows


def judged(run: fn.Run, judge: quality.Judge, sampler: Sampler | None, steps: int | None) -> dict:
    """Return agreement and distance of samples guided by 1.5."""
    rows, held = run.parts()
    labels = torch.arange(quality.SAMPLES) % len(judge.label_names)
    x = fn.sample(
        fn.Guided(run.denoiser, GUIDANCE), quality.SAMPLES, sampler=sampler, steps=steps,
        cond=Cond({"label": labels}), seed=1,
    )  # fmt: skip
    found = fn.metrics.evaluate(x, rows, features=judge, held_out=held).measures[0]
    return {"agreement": judge.agreement(x, labels), "ratio": found.ratio, "ratio_error": found.ratio_error}


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("points", "mnist"))
    parser.add_argument("data", nargs="?")
    parser.add_argument("--out", type=Path, default=Path("runs/distillation"))
    parser.add_argument("--json", type=Path, default=RESULTS)
    given = parser.parse_args()
    if given.what == "mnist" and given.data is None:
        parser.error("mnist needs its archive")
    found = {"spiral": spiral, "shapes": shapes} if given.what == "points" else {"mnist": None}
    table = json.loads(given.json.read_text()) if given.json.exists() else {}
    print(described(), flush=True)
    for name, measure in found.items():
        rows = mnist(given.data, given.out) if measure is None else measure(given.out)
        table[name] = {"machine": described(), "rows": rows}
        print(f"\n{name}")
        for row, values in rows.items():
            print(f"  {row:<32}" + "  ".join(f"{key} {value:,.4g}" for key, value in values.items()), flush=True)
        given.json.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
