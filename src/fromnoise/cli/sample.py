"""`fromnoise sample runs/spiral -n 300`: draw samples from a run."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fromnoise.cli.common import (
    Device,
    Eta,
    GuidanceScale,
    Json,
    Plugin,
    Precision,
    RunPath,
    SamplerName,
    ScheduleOption,
    SetOption,
    StepsOption,
    bar,
    check_device,
    check_precision,
    finite,
    guided,
    load_plugins,
    make_sampler,
    put_on_path,
    result,
    whole_file,
)  # fmt: skip
from fromnoise.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor


def sample(
    run: RunPath,
    n: Annotated[int, typer.Option("-n", help="How many samples.")] = 300,
    sampler: SamplerName = "multistep",
    steps: StepsOption = None,
    label: Annotated[str | None, typer.Option(help="Only samples of this label, by name or number.")] = None,
    guidance: GuidanceScale = None,
    seed: Annotated[int, typer.Option(help="The seed of every random number.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="The file: .csv, .npy, .png, .svg or .pdf; by default in the run's folder.")
    ] = None,
    eta: Eta = None,
    schedule: ScheduleOption = None,
    set_: SetOption = None,
    weights: Annotated[str, typer.Option(help="The weights: ema (averaged) or model (the last ones).")] = "ema",
    precision: Precision = "float32",
    device: Device = "cpu",
    plugin: Plugin = None,
    as_json: Json = False,
) -> None:
    """Draw samples from a run, in the data's own units. Sample i is the same for any n."""
    from fromnoise.run import load
    from fromnoise.samplers import sample_chunks, samplers

    load_plugins(plugin)
    rule = make_sampler(sampler, eta, set_)
    trained = load(run, weights=weights)
    trained.denoiser.to(check_device(device))
    denoiser = guided(put_on_path(trained, rule, schedule), guidance, label)
    steps = rule.steps_on(denoiser.schedule) if steps is None else steps
    what = [
        label, _part("guidance", guidance), _part("on-", schedule), _part("n", n if n != 300 else None),
        "last-weights" if weights != "ema" else None, precision if precision != "float32" else None,
    ]  # fmt: skip
    out = out or run / "samples" / f"{_name(samplers.changed(rule), steps, what, seed)}.csv"
    kind = out.suffix.lower()
    if kind not in (".csv", ".npy", ".png", ".svg", ".pdf"):
        raise InputError(f"--out {out}: the name must end in .csv, .npy, .png, .svg or .pdf")
    began = time.perf_counter()
    with bar("sampling") as progress:
        parts = sample_chunks(
            denoiser, n, sampler=rule, steps=steps, cond=label, seed=seed, precision=check_precision(precision),
            progress=progress,
        )  # fmt: skip
        _write(finite(parts), n, denoiser.shape, out)
    seconds = time.perf_counter() - began
    data: dict[str, Any] = {
        "out": str(out), "n": n, "sampler": samplers.settings(rule), "steps": steps, "seed": seed,
        "label": label, "guidance": guidance, "seconds": round(seconds, 3),
    }  # fmt: skip
    result(data, as_json, f"{out}: {n:,} samples by {sampler} in {steps} steps, {seconds:.2f} s")


def _name(rule: Mapping[str, Any], steps: int, what: Sequence[str | None], seed: int) -> str:
    """Return a file's name that says how its samples were made: what is not the default is part of it."""
    settings = [_part(key.replace("_", "-"), value) for key, value in rule.items() if key != "name"]
    parts = [rule["name"], str(steps), *settings, *what, f"seed{seed}"]
    return "-".join(re.sub(r"[^\w.+-]+", "_", part) for part in parts if part)


def _part(name: str, value: Any) -> str | None:
    if value is None:
        return None
    return f"{name}{value:g}" if isinstance(value, float) else f"{name}{value}"


def _write(parts: Iterable[Tensor], n: int, shape: tuple[int, ...], out: Path) -> None:
    """Write samples as they come, so that memory does not grow with n."""
    kind = out.suffix.lower()
    if kind in (".png", ".svg", ".pdf"):
        import torch

        from fromnoise import plot
        from fromnoise.cli.common import save_figure

        save_figure(plot.scatter(torch.cat(list(parts))), out)
        return
    first, *rest = iter_first(parts)  # wrong input raises here, before anything is written
    with whole_file(out) as staging:
        if kind == ".npy":
            _write_npy(staging, first, rest[0], (n, *shape))
        else:
            _write_csv(staging, first, rest[0])


def iter_first(parts: Iterable[Tensor]) -> tuple[Tensor, Iterable[Tensor]]:
    """Return the first part and the rest, still lazy."""
    parts = iter(parts)
    return next(parts), parts


def _write_csv(path: Path, first: Tensor, rest: Iterable[Tensor]) -> None:
    import numpy as np

    columns = first[0].numel()
    names = ["x", "y"] if columns == 2 else [f"x{k}" for k in range(columns)]
    with path.open("w", encoding="utf-8") as file:
        file.write(",".join(names) + "\n")
        for part in _chain(first, rest):
            np.savetxt(file, part.flatten(1).cpu().numpy(), delimiter=",", fmt="%.9g")


def _write_npy(path: Path, first: Tensor, rest: Iterable[Tensor], shape: tuple[int, ...]) -> None:
    import numpy as np

    with path.open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for part in _chain(first, rest):
            file.write(part.cpu().numpy().astype("<f4").tobytes())


def _chain(first: Tensor, rest: Iterable[Tensor]) -> Iterable[Tensor]:
    yield first
    yield from rest
