"""`fromnoise encode`, `decode` and `interpolate`: a run's samples as noise and back, by its probability-flow ODE."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fromnoise.cli.common import (
    Device,
    ImageOption,
    Json,
    Plugin,
    RunPath,
    bar,
    check_device,
    load_plugins,
    result,
    settle_threads,
)
from fromnoise.cli.reading import samples_from, told
from fromnoise.cli.writers import Known, usual, write, writer_for
from fromnoise.errors import InputError, whole_number

if TYPE_CHECKING:
    from torch import Tensor

    from fromnoise.data import Codec
    from fromnoise.denoiser import Denoiser

Label = Annotated[str | None, typer.Option(help="The label that the model is told.")]
Tolerance = Annotated[float, typer.Option(help="Of the ODE's solver, for each step.")]
Out = Annotated[Path | None, typer.Option(help="The file; by default in the run's folder.")]


def encode(
    run: RunPath,
    samples: Annotated[Path, typer.Argument(help="A picture, a folder of pictures, or a file of numbers.")],
    out: Out = None,
    label: Label = None,
    image: ImageOption = None,
    tolerance: Tolerance = 1e-4,
    device: Device = "cpu",
    plugin: Plugin = None,
    as_json: Json = False,
) -> None:
    """Write the noise that the run's flow turns into given samples, as an NPZ file that `decode` reads."""
    import torch

    from fromnoise.dynamics import ProbabilityFlow

    denoiser, codec = _loaded(run, plugin, device, tolerance)
    out = out or run / "samples" / f"noise-{samples.stem}.npz"
    if out.suffix.lower() not in (".npy", ".npz"):
        raise InputError(f"--out {out}: noise is written to a file that ends in .npy or .npz")
    x = samples_from(samples, denoiser, "encode")
    cond = denoiser.read(told(denoiser, label, image), len(x))
    flow = ProbabilityFlow(denoiser, tolerance)
    parts: list[Tensor] = []
    with torch.no_grad(), bar("encoding") as progress:
        for rows in _chunks(len(x)):
            z = codec.into(codec.store(x[rows])).to(denoiser.device)
            parts.append(flow.encode(z, cond and cond.rows(rows)).float().cpu())
            progress(sum(map(len, parts)), len(x))
    write(parts, len(x), "noise", out)
    length = float(torch.cat(parts).square().mean().sqrt())
    line = f"{out}: the noise of {len(x):,} samples, root mean square {length:.3f} (1 for noise of the model's own)"
    result({"out": str(out), "n": len(x), "rms": length}, as_json, line)


def decode(
    run: RunPath,
    noise: Annotated[Path, typer.Argument(help="A file of noise, .npz or .npy, such as encode writes.")],
    out: Out = None,
    label: Label = None,
    image: ImageOption = None,
    tolerance: Tolerance = 1e-4,
    device: Device = "cpu",
    plugin: Plugin = None,
    as_json: Json = False,
) -> None:
    """Write what the run's flow turns given noise into."""
    import torch

    from fromnoise.data.files import read_file
    from fromnoise.data.numbers import as_data
    from fromnoise.dynamics import ProbabilityFlow

    denoiser, codec = _loaded(run, plugin, device, tolerance)
    out = out or run / "samples" / f"decoded-{noise.stem}{usual(codec.form)[0]}"
    writer_for(codec.form, out)
    z = as_data(read_file(noise)[0]).float()
    if tuple(z.shape[1:]) != denoiser.shape or not len(z) or not torch.isfinite(z).all():
        raise InputError(f"{noise}: noise of this run is finite and [n, {str(list(denoiser.shape))[1:-1]}]")
    if torch.equal(z, z.round()):
        raise InputError(f"{noise} holds whole numbers, as samples do, and no noise: encode writes that of samples")
    cond = denoiser.read(told(denoiser, label, image), len(z))
    flow = ProbabilityFlow(denoiser, tolerance)

    def made() -> Iterable[Tensor]:
        with torch.no_grad(), bar("decoding") as progress:
            for rows in _chunks(len(z)):
                yield codec.out(flow.decode(z[rows].to(denoiser.device), cond and cond.rows(rows))).cpu()
                progress(min(rows.stop, len(z)), len(z))

    write(made(), len(z), codec.form, out, Known(ends=codec.ends))
    result({"out": str(out), "n": len(z)}, as_json, f"{out}: {len(z):,} samples")


def interpolate(
    run: RunPath,
    first: Annotated[Path, typer.Argument(help="A sample: a picture, or a file of numbers whose first is taken.")],
    second: Annotated[Path, typer.Argument(help="Another.")],
    n: Annotated[int, typer.Option("-n", help="How many, both ends among them.")] = 10,
    out: Out = None,
    label: Label = None,
    image: ImageOption = None,
    tolerance: Tolerance = 1e-4,
    device: Device = "cpu",
    plugin: Plugin = None,
    as_json: Json = False,
) -> None:
    """Write samples on the way from one to another, through the noise that the run's flow maps them to."""
    import torch

    from fromnoise import dynamics

    n = whole_number("-n", n, least=2)
    denoiser, codec = _loaded(run, plugin, device, tolerance)
    out = out or run / "samples" / f"between-{first.stem}-{second.stem}{usual(codec.form)[0]}"
    writer_for(codec.form, out)
    a, b = (samples_from(path, denoiser, "interpolate")[0] for path in (first, second))
    cond = denoiser.read(told(denoiser, label, image), 1)
    with torch.no_grad():
        x = dynamics.interpolate(denoiser, a, b, n, cond, tolerance=tolerance).cpu()
    write([x], n, codec.form, out, Known(ends=codec.ends))
    result({"out": str(out), "n": n}, as_json, f"{out}: {n} samples from {first} to {second}")


_TOGETHER = 64
"""How many samples the solver takes at once; its steps suit the hardest of them."""


def _chunks(count: int) -> Iterable[slice]:
    """Return the rows that the solver takes at once, of so many."""
    return (slice(first, first + _TOGETHER) for first in range(0, count, _TOGETHER))


def _loaded(path: Path, plugin: list[Path] | None, device: str, tolerance: float) -> tuple[Denoiser, Codec]:
    """Return a run's denoiser on a device, and its codec."""
    from fromnoise.run import load

    if not 1e-12 <= tolerance <= 0.1:
        raise InputError(f"--tolerance must lie between 1e-12 and 0.1, not {tolerance}")
    load_plugins(plugin)
    denoiser = load(path).denoiser.to(check_device(device))
    settle_threads(denoiser.shape)
    return denoiser, denoiser.codec
