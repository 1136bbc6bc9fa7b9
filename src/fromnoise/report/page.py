"""report.html: a run on one self-contained page."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from fromnoise import plot
from fromnoise.report.assess import Result
from fromnoise.report.pictures import GUIDANCE, STEPS, guided_for_show, measured, sheets
from fromnoise.run import Run, held_out_losses
from fromnoise.run.config import AnyConfig, to_toml
from fromnoise.run.files import Writing, write
from fromnoise.run.guard import is_finite
from fromnoise.samplers import usual_steps
from fromnoise.training.floor import Floor

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f27; --quiet: #5f6875; --paper: #fff; --line: #e1e4ea; --card: #f6f7f9; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8eaef; --quiet: #a2aab8; --paper: #14171d; --line: #2b313b; --card: #1c2129; }
}
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 0; }
main { max-width: 62rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.6rem; margin: 0 0 .25rem; } h2 { font-size: 1.15rem; margin: 2.25rem 0 .5rem; }
p { max-width: 46rem; } .quiet { color: var(--quiet); }
figure { margin: 0; background: #fff; border: 1px solid var(--line); border-radius: 8px; padding: .5rem; }
figure img { display: block; max-width: 100%; height: auto; margin: 0 auto; }
.numbers { display: flex; flex-wrap: wrap; gap: .75rem; margin: 1.25rem 0; }
.numbers div { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: .6rem .9rem; }
.numbers b { display: block; font-size: 1.35rem; font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .9rem .35rem 0; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
pre { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 1rem; overflow-x: auto; }
pre, code { font: 13px/1.5 ui-monospace, monospace; }
"""


def image(figure: Figure, alt: str) -> str:
    """Return a figure as inline HTML, with its text alternative."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return _inline(buffer.getvalue(), "png", alt)


def _inline(content: bytes, kind: str, alt: str) -> str:
    data = base64.b64encode(content).decode()
    return f'<figure><img alt="{html.escape(alt)}" src="data:image/{kind};base64,{data}"></figure>'


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    head = "".join(f"<th>{html.escape(key)}</th>" for key in rows[0])
    body = "".join("<tr>" + "".join(f"<td>{html.escape(str(v))}</td>" for v in row.values()) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def table_rows(results: Sequence[Result]) -> list[dict[str, str]]:
    """Return results as rows of text for a table."""
    return [
        {
            "sampler": r.sampler,
            "2-Wasserstein": f"{r.distance:.4f}",
            "floor": f"{r.floor:.4f}",
            "ratio": f"{r.ratio:.3f}",
            "exact denoiser": "-" if r.exact_ratio is None else f"{r.exact_ratio:.3f}",
            "seconds": f"{r.seconds:.2f}",
        }
        for r in results
    ]


def write_report(run: Run, results: Sequence[Result], *, floor: Floor | None = None, gif: Path | None = None) -> Path:
    """Write report.html into the run's folder and return its path.

    Args:
        run: a run with a folder.
        results: its measured samples; the numbers at the head of the page are those of the first result.
        floor: the floor of the loss.
        gif: an animation to show.

    Raises:
        RunError: if the page cannot be written.
    """
    assert run.folder is not None
    metrics = run.history
    parts = [
        f"<h1>{html.escape(run.name)}</h1>",
        f'<p class="quiet">{html.escape(_one_line(run))}</p>',
        _numbers(run, floor, results),
    ]
    parts += _SHOWN.get(run.denoiser.codec.form, _nothing)(run, results)
    if gif is not None:
        parts += ["<h2>From noise to data</h2>", _inline(gif.read_bytes(), "gif", "points gathering from noise")]
    if results:
        parts += ["<h2>Distances</h2>", _table(table_rows(results)), _DISTANCES]
    parts += loss_of(metrics, floor, _FLOOR[run.denoiser.codec.form == "images"])
    return write_page(run.folder.path, f"{run.name}: a fromnoise run", [*parts, *settings_of(run.config)])


def loss_of(metrics: Sequence[Mapping[str, Any]], floor: Floor | None, what_it_is: str) -> list[str]:
    """Return the part of a page with a training's loss, beside its floor where that is known."""
    if not metrics:
        return []
    figure = plot.loss(
        [row["step"] for row in metrics], [row["loss"] for row in metrics],
        floor=None if floor is None else floor.value, what="" if floor is None else floor.note,
        held_out=held_out_losses(metrics),
    )  # fmt: skip
    if floor is None:
        return ["<h2>Loss</h2>", image(figure, "training loss")]
    return ["<h2>Loss against its floor</h2>", image(figure, "training loss and its floor"), what_it_is]


def settings_of(config: AnyConfig) -> list[str]:
    """Return the part of a page with a run's whole configuration."""
    return ["<h2>Configuration</h2>", f"<pre>{html.escape(to_toml(config))}</pre>"]


def write_page(folder: Path, title: str, parts: Sequence[str]) -> Path:
    """Write report.html into a folder and return its path.

    Raises:
        RunError: if it cannot be written.
    """
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>'
        f"<body><main>{''.join(parts)}</main></body></html>"
    )
    path = folder / "report.html"
    with Writing(path):
        write(path, page.encode())
    return path


def _points(run: Run, results: Sequence[Result]) -> list[str]:
    """Return data and samples side by side."""
    if run.denoiser.shape[0] < 2:
        return []
    held = run.folder is not None and run.folder.holds_data
    every = max(1, len(run.source) // 2000)
    panels = {"data": run.source.x[::every][:2000]} if held else {}
    panels |= {r.sampler: r.samples for r in results[:4]}
    captions = [""] * held + [f"ratio to the floor {r.ratio:.2f}" for r in results[:4]]
    head = "Data and samples" if held else "Samples"
    return [f"<h2>{head}</h2>", image(plot.side_by_side(panels, captions=captions), head.lower())]


def _pictures(run: Run, _results: Sequence[Result]) -> list[str]:
    """Return samples of every label, training pictures, and the way from noise to a few samples."""
    found, ends = sheets(run), run.denoiser.codec.ends
    how = f"{usual_steps(run.denoiser, STEPS)} steps of the default sampler"
    how += f", guidance {GUIDANCE:g}" if guided_for_show(run) is not run.denoiser else ""
    parts = [
        "<h2>Samples</h2>",
        f'<p class="quiet">{how}</p>',
        image(plot.pictures(found.samples, ends=ends), "samples"),
    ]
    if found.small:
        parts += ["<h2>What they were enlarged from</h2>", image(plot.pictures(found.small), "the smaller pictures")]
    if found.data:
        parts += ["<h2>Training pictures</h2>", image(plot.pictures(found.data, ends=ends), "training pictures")]
    way = plot.pictures(found.way, columns=found.times, ends=ends)
    parts += ["<h2>From noise to data</h2>", image(way, "pictures at times between noise and data")]
    if not found.data:
        return parts
    quality = measured(run)
    if quality.distances is not None:
        parts += ["<h2>Distances</h2>", f"<pre>{html.escape(str(quality.distances))}</pre>", _SPACE]
    if quality.ceiling is not None:
        parts += ["<h2>The autoencoder's ceiling</h2>", f"<pre>{html.escape(str(quality.ceiling))}</pre>", _CEILING]
    near = plot.pictures(quality.neighbours, columns=quality.far, ends=ends)
    parts += ["<h2>Nearest training pictures</h2>", image(near, "samples above the training pictures nearest to them")]
    if quality.near is not None:
        parts.append(f'<p class="quiet">{html.escape(str(quality.near))}</p>')
    return parts + _levels(run)


def _levels(run: Run) -> list[str]:
    """Return the held-out loss over the noise levels at the first, the middle and the last check."""
    checks = dict[int, tuple[Sequence[float], Sequence[float]]]()
    for row in run.history:
        match row.get("held_out"):
            case {"levels": list() as levels, "losses": list() as losses} if len(levels) == len(losses):
                if all(map(is_finite, (*levels, *losses))):
                    checks[row["step"]] = levels, losses
            case _:
                pass
    steps = sorted(checks)
    if not steps:
        return []
    chosen = {step: checks[step] for step in sorted({steps[0], steps[len(steps) // 2], steps[-1]})}
    return ["<h2>Held-out loss by noise level</h2>", image(plot.levels(chosen), "held-out loss over noise levels")]


def _nothing(_run: Run, _results: Sequence[Result]) -> list[str]:
    return []


_SHOWN = {"points": _points, "images": _pictures}
"""What a page shows of samples of each form."""

_SPACE = (
    '<p class="quiet">The floor is the same number for real pictures, as many as samples. With '
    "<code>fromnoise evaluate</code> the space is that of a classifier, which sees shapes, and tells how many are "
    "what they were asked to be.</p>"
)
_CEILING = (
    '<p class="quiet">Reconstructions of training pictures, measured as the samples are: what the autoencoder loses no '
    "model in its latents can bring back.</p>"
)
_DISTANCES = (
    '<p class="quiet">Two finite sets of one distribution are never at distance 0: the floor is the distance of two '
    "fresh draws of the data. The ratio is distance over floor: 1 is as good as fresh data. The exact denoiser, driven "
    "by the same sampler from the same noise, shows the sampler's own part of the error in its own ratio.</p>"
)
_FLOOR = (
    '<p class="quiet">The best denoiser there can be is known exactly, so its loss is too: no network gets below '
    "the dashed line on average.</p>",
    '<p class="quiet">The dashed line is the loss of a network that copies the training pictures. To near it while the '
    "held-out loss rises is to learn them by heart.</p>",
)
"""What the floor is: of a known law, and of a finite set of pictures."""


def _one_line(run: Run) -> str:
    c = run.config
    size = sum(p.numel() for p in run.denoiser.network.parameters())
    return (
        f"{len(run.source):,} samples; {c.network['name']} of {size:,} parameters predicts {c.predict['name']} on the "
        f"{c.schedule['name']} schedule; {run.step:,} steps of {c.train['batch_size']}"
    )


def _numbers(run: Run, floor: Floor | None, results: Sequence[Result]) -> str:
    loss, finite = run.loss, run.denoiser.codec.form == "images"
    shown = [] if loss is None else [("loss", f"{loss:.4f}")]
    held = held_out_losses(run.history)
    if held:
        shown.append(("held-out loss", f"{held[max(held)]:.4f}"))
    if floor is not None:
        shown.append(("loss of copying the data" if finite else "floor", f"{floor.value:.4f}"))
        shown += [] if loss is None else [("progress towards it" if finite else "progress", floor.describe(loss))]
    if results:
        shown.append((f"ratio to the floor, {results[0].sampler}", f"{results[0].ratio:.3f}"))
    return cards(shown)


def cards(numbers: Sequence[tuple[str, str]]) -> str:
    """Return numbers by name as cards side by side."""
    return '<div class="numbers">' + "".join(f"<div>{k}<b>{v}</b></div>" for k, v in numbers) + "</div>"
