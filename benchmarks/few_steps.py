"""Few evaluations on a model of pictures: how far each rule's pictures are from those it converges to.

    python benchmarks/few_steps.py runs/quality/unet-10 --n 500

All rules start from the same noise and are told the same labels. RMS is the root mean square difference of pixels, in
0..1, to the converged pictures, those of 80 steps of `Multistep`; the Frechet distance is that of a fixed judge's
features (`results/mnist-judge.safetensors`) to the held-out pictures, over its value for the converged ones. A distance
alone misleads: DDIM's error acts like guidance on a half-trained network.
"""

import argparse
import json
import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from quality import JUDGE

import fromnoise as fn
from fromnoise.cond import Cond
from fromnoise.metrics import frechet_distance
from fromnoise.samplers import Sampler
from fromnoise.training.judge import Judge

RULES = {
    "Multistep": fn.Multistep(), "Heun": fn.Heun(), "DPM++ 2M": fn.DPMSolver(), "UniPC": fn.UniPC(),
    "DDIM (EDM grid)": fn.Euler(),
}  # fmt: skip
BUDGETS = (5, 6, 7, 8, 10, 12, 20, 50)


def main() -> None:
    """Draw, compare, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--n", type=int, default=500)
    parser.add_argument("--guidance", type=float, default=1.0)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    run, judge = fn.load(given.run), Judge.load(JUDGE)
    denoiser = run.denoiser if given.guidance == 1 else fn.Guided(run.denoiser, given.guidance)
    _, held = run.parts()
    assert held is not None
    features = judge(held.read(slice(None)).x)
    cond = Cond({"label": torch.arange(given.n) % len(run.denoiser.label_names)})

    def drawn(rule: Sampler, steps: int) -> torch.Tensor:
        x = fn.sample(denoiser, given.n, sampler=rule, steps=steps, cond=cond, seed=3, precision="bf16")
        return x.double() / 255

    best = drawn(fn.Multistep(), 80)
    converged = frechet_distance(judge((255 * best).round().to(torch.uint8)), features)
    lines = [
        f"{run.name}, {run.step:,} steps of training, {given.n} samples, guidance {given.guidance:g}; converged "
        f"Frechet distance {converged:.3f}. Each cell: RMS to the converged pictures (Frechet distance over theirs).\n",
        "| rule | " + " | ".join(f"{n} evaluations" for n in BUDGETS) + " |", "| --- " * (len(BUDGETS) + 1) + "|",
    ]  # fmt: skip
    print("\n".join(lines), flush=True)
    table: dict[str, dict[int, tuple[float, float]]] = {}
    for name, rule in RULES.items():
        cells = []
        for budget in BUDGETS:
            steps = max((s for s in range(1, budget + 1) if rule.evaluations(s) <= budget), default=0)
            if not steps:
                cells.append("-")
                continue
            x = drawn(rule, steps)
            rms = float((x - best).square().mean().sqrt())
            ratio = frechet_distance(judge((255 * x).round().to(torch.uint8)), features) / converged
            table.setdefault(name, {})[budget] = rms, ratio
            cells.append(f"{rms:.4f} ({ratio:.2f})")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
        print(lines[-1], flush=True)
    behind = [
        f"{name} at {budget}" for name, row in table.items() for budget, (rms, _) in row.items()
        if rms < table["Multistep"][budget][0]
    ]  # fmt: skip
    lines.append("\nMultistep is behind: " + (", ".join(behind) or "nobody at any budget"))
    print(lines[-1])
    if given.out is not None:
        given.out.write_text("# Few evaluations on a model of pictures\n\n" + "\n".join(lines) + "\n")
        given.out.with_suffix(".json").write_text(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
