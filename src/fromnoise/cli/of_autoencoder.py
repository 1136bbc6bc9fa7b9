"""What `evaluate`, `plot` and `info` do of the run of an autoencoder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fromnoise.cli.common import bar, save_figure
from fromnoise.errors import UnknownName

if TYPE_CHECKING:
    from fromnoise.run import AutoencoderRun

KINDS = ("loss", "reconstructions")
"""What can be plotted of it."""


def evaluated(
    run: AutoencoderRun, features: str | None, *, n: int, pairs: int, seed: int
) -> tuple[dict[str, Any], list[str]]:
    """Measure an autoencoder's reconstructions; return the results as data and as lines."""
    from fromnoise.cli.evaluate_images import space_of
    from fromnoise.report import ceiling_of

    space = space_of(run, features)
    found = ceiling_of(run.autoencoder, *run.parts(), features=space, most=n, pairs=pairs, seed=seed)
    return found.row(), found.lines()


def plotted(run: AutoencoderRun, kind: str, path: Path, seed: int) -> dict[str, Any]:
    """Draw an autoencoder's loss, or pictures above their reconstructions.

    Raises:
        UnknownName: if there is no such plot of an autoencoder.
    """
    import torch

    from fromnoise import plot as pictures
    from fromnoise.rng import stream
    from fromnoise.run import held_out_losses

    if kind == "loss":
        rows = run.history
        figure = pictures.loss(
            [row["step"] for row in rows], [row["loss"] for row in rows], held_out=held_out_losses(rows)
        )
        save_figure(figure, path)
        return {}
    if kind not in ("samples", "reconstructions"):
        raise UnknownName("plot of an autoencoder", kind, KINDS)
    kept, held = run.parts()
    source = held or kept
    chosen = torch.randperm(len(source), generator=stream(seed, "reconstructions"))[:30]
    with bar("reconstructing"):
        x = source.read(chosen).x
        x_hat = run.autoencoder.reconstructed(x).cpu()
    each: dict[str, torch.Tensor] = {}
    for k, (a, b) in enumerate(zip(x.split(10), x_hat.split(10), strict=True)):
        each |= {f"pictures {k + 1}": a, f"decoded {k + 1}": b}
    title = f"{run.name}: pictures above their reconstructions"
    save_figure(pictures.pictures(each, title=title, ends=run.autoencoder.codec.ends), path)
    return {}


def described(run: AutoencoderRun) -> dict[str, Any]:
    """Describe the run of an autoencoder."""
    assert run.folder is not None
    config, model, loss = run.config, run.autoencoder, run.loss
    return {
        "run": str(run.folder.path), "of": "an autoencoder", "data": config.data,
        "samples": config.data.get("n", "unknown"), "holds data": run.folder.holds_data,
        "pictures": list(model.shape), "latents": list(model.latent_shape), "network": config.network,
        "parameters": sum(p.numel() for p in model.network.parameters()), "train": config.train, "step": run.step,
        "loss": "none yet" if loss is None else loss, "checkpoints": run.folder.steps(),
        "format": config.format_version,
    }  # fmt: skip
