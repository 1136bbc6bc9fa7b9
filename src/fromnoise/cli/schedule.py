"""`fromnoise schedule linear cosine`: the signal-to-noise ratio of schedules, in numbers and as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fromnoise.cli.common import Json, Plugin, load_plugins, parse_settings, result, save_figure, text_table
from fromnoise.errors import InputError

if TYPE_CHECKING:
    from fromnoise.schedule import Schedule


def schedule(
    names: Annotated[list[str], typer.Argument(help="One or more: linear, cosine, sigmoid, vp, edm, flow, trig.")],
    plot: Annotated[
        Path | None, typer.Option(help="Draw log SNR and the scales to this file (.png, .svg, .pdf).")
    ] = None,
    at: Annotated[str, typer.Option(help="The indices k = 0..T-1 to print.")] = "0,250,500,750,999",
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="A setting, such as --set linear.T=500.", metavar="K=V")
    ] = None,
    plugin: Plugin = None,
    as_json: Json = False,
) -> None:
    """Print alpha_bar and SNR of schedules at several indices, and draw the schedules with --plot."""
    from fromnoise.schedule import schedules

    load_plugins(plugin)
    settings = parse_settings(set_)
    unknown = set(settings) - set(names)
    if unknown:
        raise InputError(f"--set {sorted(unknown)[0]}: not among the schedules asked for, {', '.join(names)}")
    made = {name: schedules.build({"name": name, **settings.get(name, {})}) for name in names}
    lengths = {s.table_length for s in made.values() if s.table_length}
    if len(lengths) > 1:
        raise InputError(f"schedules of different lengths have no common table: T = {sorted(lengths)}")
    T = lengths.pop() if lengths else 1000
    indices = _indices(at, T)
    rows: list[dict[str, Any]] = []
    for k in indices:
        row: dict[str, Any] = {"index": k, "t": f"{(k + 1) / T:g}"}
        for name, s in made.items():
            alpha, sigma = s.scales((k + 1) / T)
            row[f"alpha_bar {name}"] = f"{float(alpha) ** 2:.5g}"
            row[f"SNR {name}"] = _snr(float(alpha), float(sigma))
        rows.append(row)
    if plot is not None:
        save_figure(_figure(made), plot)
    figures = {
        name: [
            {"index": k, "alpha": float(s.alpha((k + 1) / T)), "sigma": float(s.sigma((k + 1) / T))} for k in indices
        ]
        for name, s in made.items()
    }
    text = text_table(rows) + (f"\n\npicture: {plot}" if plot else "")
    result({"T": T, "schedules": figures, "plot": str(plot) if plot else None}, as_json, text)


def _indices(at: str, T: int) -> list[int]:
    try:
        indices = [int(k) for k in at.split(",")]
    except ValueError:
        raise InputError(f"--at takes whole numbers with commas, such as 0,250,999, not {at!r}") from None
    if at == "0,250,500,750,999" and T != 1000:
        indices = [0, *(T * k // 4 for k in (1, 2, 3)), T - 1]
    if any(not 0 <= k < T for k in indices):
        raise InputError(f"--at: indices go from 0 to T - 1 = {T - 1}, not {at}")
    return indices


def _snr(alpha: float, sigma: float) -> str:
    snr = (alpha / sigma) ** 2
    return f"{snr:.2f}" if snr >= 100 else f"{snr:.4f}" if snr >= 1e-3 else f"{snr:.3g}"


def _figure(made: dict[str, Schedule]) -> Any:
    import torch

    from fromnoise import plot as pictures

    t = torch.linspace(0, 1, 513, dtype=torch.float64)[1:]
    return pictures.schedules({name: (t, *s.scales(t)) for name, s in made.items()})
