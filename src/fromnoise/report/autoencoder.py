"""report.html of an autoencoder: pictures beside their reconstructions, and what is lost between them."""

from __future__ import annotations

import html
from pathlib import Path

from fromnoise import plot
from fromnoise.report.ceiling import Ceiling
from fromnoise.report.page import cards, image, loss_of, settings_of, write_page
from fromnoise.run import AutoencoderRun, held_out_losses


def write_autoencoder_report(run: AutoencoderRun, ceiling: Ceiling) -> Path:
    """Write report.html into the run's folder and return its path.

    Args:
        run: a run with a folder.
        ceiling: what was measured of its reconstructions.

    Raises:
        RunError: if the page cannot be written.
    """
    assert run.folder is not None
    model, config = run.autoencoder, run.config
    size = sum(p.numel() for p in model.network.parameters())
    a, b = (" x ".join(map(str, shape)) for shape in (model.shape, model.latent_shape))
    about = (
        f"{len(run.source):,} pictures {a}; an autoencoder of {size:,} parameters, latents {b}; {run.step:,} steps of "
        f"{config.train['batch_size']}"
    )
    held = held_out_losses(run.history)
    numbers = [] if run.loss is None else [("loss", f"{run.loss:.5f}")]
    numbers += [("held-out loss", f"{held[max(held)]:.5f}")] if held else []
    numbers += [("PSNR", f"{ceiling.psnr:.2f} dB"), ("SSIM", f"{ceiling.ssim:.4f}")]
    x, x_hat = ceiling.shown
    what = "pictures above their reconstructions"
    parts = [
        f"<h1>{html.escape(run.name)}: an autoencoder</h1>",
        f'<p class="quiet">{html.escape(about)}</p>',
        cards(numbers),
        "<h2>Reconstructions</h2>",
        image(plot.pictures({"picture": x, "decoded": x_hat}, ends=run.autoencoder.codec.ends), what),
        "<h2>What is lost</h2>",
        f"<p>{html.escape(ceiling.lines()[0])}</p>",
        *([] if ceiling.distances is None else [f"<pre>{html.escape(str(ceiling.distances))}</pre>", _CEILING]),
    ]
    parts += loss_of(run.history, None, "")
    return write_page(run.folder.path, f"{run.name}: an autoencoder", [*parts, *settings_of(config)])


_CEILING = (
    '<p class="quiet">Samples of a model in these latents are decoded by this autoencoder, so no such sample is better '
    "than a reconstruction: these distances, measured as those of samples are, are the ceiling. The floor is the same "
    "number for real pictures.</p>"
)
