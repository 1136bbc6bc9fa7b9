"""`fromnoise demo`: the main job on built-in data, from nothing to a picture and a table."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from fromnoise.cli.common import Json, bar, result, say, text_table
from fromnoise.errors import RunExists


def demo(
    data: Annotated[str, typer.Argument(help="A built-in data set.")] = "spiral",
    out: Annotated[Path, typer.Option(help="The run's folder; an earlier demo there is replaced.")] = Path("runs/demo"),
    seed: Annotated[int, typer.Option(help="The seed of every random number.")] = 0,
    steps: Annotated[int | None, typer.Option(help="Optimizer steps, instead of the recipe's.")] = None,
    as_json: Json = False,
) -> None:
    """Train on built-in data, sample in four ways, measure each beside the best possible, write a report and a GIF."""
    from fromnoise.cli.train import watch
    from fromnoise.data import open as open_data
    from fromnoise.report import Assessor, table_for, table_rows, write_report
    from fromnoise.samplers import DDIM, DDPM, Multistep
    from fromnoise.training import Plan

    train = {"seed": seed} if steps is None else {"seed": seed, "steps": steps}
    plan = Plan.from_recipe("points", {"train": train})
    points = open_data(data, settings=plan.data)
    _clear(out)
    began = time.perf_counter()
    say(f"training on {points.name} with the default recipe, {plan.train.steps:,} steps")
    run, last = watch(plan.assemble(points), out, resume=False)
    trained = time.perf_counter() - began
    say("sampling: one model, four samplers; the exact denoiser beside each")
    assessor = Assessor(run, n=1000, seed=seed)
    results = []
    for rule, count in ((DDPM(), 1000), (DDIM(), 50), (DDIM(), 10), (Multistep(), 10)):
        with bar(f"{type(rule).__name__} {count}") as progress:
            path = table_for(rule, run.denoiser.schedule)
            results.append(assessor(rule, count, schedule=path, progress=progress))
    gif = _animation(run, out)
    best = sorted(results, key=lambda r: r.ratio)
    assert run.loss is not None
    page = write_report(run, best, floor=last.floor, gif=gif)
    picture = out / "spiral.png" if data == "spiral" else out / f"{data}.png"
    _picture(run, results, picture)
    seconds = time.perf_counter() - began
    head = f"{points.name}: {run.step:,} steps in {trained:.1f} s"
    if last.floor is not None:
        head += f", loss {run.loss:.4f}, floor {last.floor.value:.4f}: {last.floor.describe(run.loss)}"
    files = [str(picture), str(gif), str(page)]
    text = "\n".join([
        "", head, "", text_table(table_rows(results)), "",
        "ratio: the distance to fresh data over its floor, 1 is as good as fresh data; exact denoiser: the ratio of",
        "the best possible model with that sampler. ddpm and ddim walk the linear table of 1,000 steps, multistep its",
        "own grid.", "",
        f"done in {seconds:.0f} s; look at {', '.join(files)}",
    ])  # fmt: skip
    out_data: dict[str, Any] = {
        "loss": run.loss, "floor": last.floor.value if last.floor else None,
        "progress": last.floor.progress(run.loss) if last.floor else None,
        "train_seconds": round(trained, 2), "seconds": round(seconds, 2), "files": files,
        "results": [r.row() for r in results],
    }  # fmt: skip
    result(out_data, as_json, text)


def _clear(out: Path) -> None:
    """Remove an earlier demo, and nothing else."""
    if not out.exists():
        return
    if (out / "config.toml").exists() and (out / ".demo").exists():
        from fromnoise.run.lock import RunLock

        with RunLock(out):
            shutil.rmtree(out)
    elif any(out.iterdir()):
        raise RunExists(f"{out} holds something that is not a demo: choose another --out")


def _animation(run: Any, out: Path) -> Path:
    import math

    from fromnoise import plot
    from fromnoise.samplers import Multistep, trajectory
    from fromnoise.schedule import schedules

    way = trajectory(run.denoiser.on(schedules.build("vp")), 2000, sampler=Multistep(), steps=40, seed=1)
    sizes = [math.hypot(a, s) for a, s in zip(way.alphas, way.sigmas, strict=True)]
    return plot.animate_trajectory(way.x, way.times, sizes, out / "trajectory.gif", title=run.source.name)


def _picture(run: Any, results: list[Any], path: Path) -> None:
    from fromnoise import plot
    from fromnoise.cli.common import save_figure

    (path.parent / ".demo").touch()
    panels = {"data": run.source.x[:1000], **{r.sampler: r.samples for r in results}}
    captions = ["", *(f"ratio to the floor {r.ratio:.2f}" for r in results)]
    save_figure(plot.side_by_side(panels, captions=captions), path)
