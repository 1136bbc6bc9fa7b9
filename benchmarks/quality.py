"""Quality of pictures for the compute spent: MNIST by the recipe `image`, judged by one fixed judge.

    python benchmarks/quality.py mnist-train-png.tar.gz --out runs/quality          # trains what is not there yet
    python benchmarks/quality.py mnist-train-png.tar.gz --only unet-10,dit-10

Runs are tied to the pictures seen, not to the clock, and the seconds of one thread are told beside. A tenth of the
archive is held out by every run and by the judge. Each row has 5,000 samples, labels in equal numbers, of 12 steps of
`Multistep`; its Frechet distance is to the held-out pictures, and its floor is that of 5,000 of the other pictures to
the same. The judge is `results/mnist-judge.safetensors`; it is trained where that file is missing.
"""

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from machine import described

import fromnoise as fn
from fromnoise.cond import Cond
from fromnoise.training.judge import Judge, judge_of
from fromnoise.training.plan import prepare

HERE = Path(__file__).parent
JUDGE = HERE / "results" / "mnist-judge.safetensors"
SAMPLES, STEPS = 5000, 12


class Planned(NamedTuple):
    """A run: its changes to the recipe, and the guidance scales and lengths of averages at which it is judged.

    The length None is the recipe's own average; any other is made after the training.
    """

    changes: dict[str, Any]
    scales: tuple[float, ...] = (1.0, 1.25, 1.5)
    lengths: tuple[float | None, ...] = (None,)


_DIT = {"steps": 9400, "drop_cond": 0.2}

RUNS = {
    "unet-small": Planned({"network": {"name": "unet", "widths": [32, 64]}, "train": {"steps": 790}}, (1.0, 2.0)),
    "unet-10": Planned({}),
    "unet-20": Planned({"train": {"steps": 18_800}}),
    "dit-10-tenth": Planned({"network": "dit"}),
    "dit-10": Planned({"network": "dit", "train": _DIT}, lengths=(None, 0.03)),
    "dit-20": Planned({"network": "dit", "train": {**_DIT, "steps": 18_800}}, lengths=(None, 0.03)),
}


def the_judge(source: fn.data.Source) -> Judge:
    """Return the judge, from its file or trained."""
    if not JUDGE.exists():
        made = judge_of(source)
        for p in (*made.network.parameters(), *made.network.buffers()):
            p.data = p.data.half().to(p.dtype)  # as the file keeps them
        held = fn.data.source.held_apart(source, 0.1, 0)[1]
        assert held is not None
        x, cond = held.read(slice(None))
        assert cond is not None
        made.accuracy = made.agreement(x, cond.values["label"])
        made.save(JUDGE, half=True)
    return Judge.load(JUDGE)


HEAD = """
| run | pictures seen | seconds of a thread | average | guidance | agreement | Frechet distance, in floors |
| --- | --- | --- | --- | --- | --- | --- |"""


def line(name: str, seen: int, seconds: int, row: dict[str, Any]) -> str:
    """Return a line of the table: a run under a guidance scale, as `judged` found it."""
    average = row.get("average") or "the recipe's"
    return (
        f"| {name} | {seen:,} | {seconds:,} | {average} | {row['guidance']:g} | {row['agreement']:.2%} | "
        f"{row['ratio']:.2f} +- {row['ratio_error']:.2f} |"
    )


def trained(name: str, data: str, folder: Path) -> fn.Run:
    """Return a run, trained if it is not there or not at its end."""
    place = folder / name
    plan, source = prepare(data, None, RUNS[name].changes)
    if not (place / "cpu_seconds").exists():
        began = time.process_time()
        plan.assemble(source).run(place, resume=True)
        (place / "cpu_seconds").write_text(f"{time.process_time() - began:.0f}")
    return fn.load(place)


def judged(run: fn.Run, judge: Judge, guidance: float, average: float | None = None) -> dict[str, Any]:
    """Return agreement and distance of a run's samples under a guidance scale, of weights averaged so."""
    if average is not None:
        assert run.folder is not None
        run = fn.load(run.folder.path, ema=average)
    rows, held = run.parts()
    labels = torch.arange(SAMPLES) % len(judge.label_names)
    denoiser = run.denoiser if guidance == 1 else fn.Guided(run.denoiser, guidance)
    x = fn.sample(
        denoiser, SAMPLES, sampler=fn.Multistep(), steps=STEPS, cond=Cond({"label": labels}), seed=1, precision="bf16"
    )
    found = fn.metrics.evaluate(x, rows, features=judge, held_out=held).measures[0]
    return {
        "average": average, "guidance": guidance, "agreement": judge.agreement(x, labels), "distance": found.value,
        "floor": found.floor, "ratio": found.ratio, "ratio_error": found.ratio_error,
    }  # fmt: skip


def main() -> None:
    """Train what is missing, judge, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--out", type=Path, default=Path("runs/quality"))
    parser.add_argument("--only", default=",".join(RUNS))
    parser.add_argument("--json", type=Path, default=HERE / "results" / "quality.json")
    given = parser.parse_args()
    source = fn.data.open(given.data)
    judge = the_judge(source)
    print(f"{described()}\njudge: {judge.accuracy:.2%} right on held-out pictures")
    print(HEAD, flush=True)
    table = json.loads(given.json.read_text()) if given.json.exists() else {}
    for name in given.only.split(","):
        plan, run = RUNS[name], trained(name, given.data, given.out)
        seconds = int((given.out / name / "cpu_seconds").read_text())
        seen = run.step * run.config.train["batch_size"]
        rows = [judged(run, judge, guidance, length) for length in plan.lengths for guidance in plan.scales]
        table[name] = {"pictures": seen, "seconds": seconds, "rows": rows}
        for row in rows:
            print(line(name, seen, seconds, row), flush=True)
        given.json.write_text(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
