"""`fromnoise evaluate RUN --ema 0.05,0.1,0.2`: one run under averages of several lengths, made after its training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fromnoise.cli.common import text_table
from fromnoise.errors import InputError

if TYPE_CHECKING:
    from fromnoise.run import Run


def lengths_of(text: str) -> list[float]:
    """Return the lengths that `--ema` names.

    Raises:
        InputError: if they are none.
    """
    from fromnoise.run.averages import exponent

    try:
        lengths = [float(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"--ema takes numbers with commas between them, such as 0.05,0.1,0.2, not {text!r}") from None
    for length in lengths:
        exponent(length)
    return lengths


def curve(
    trained: Run, lengths: list[float], measured: Callable[[Run], dict[str, Any]], device: str
) -> tuple[dict[str, Any], list[str]]:
    """Measure a run under each length; return the results as data and as lines.

    Args:
        trained: the run.
        lengths: relative to the training.
        measured: returns a run's measures by name, under "measures", and perhaps "agreement".
        device: where it is measured.
    """
    from fromnoise.run import load
    from fromnoise.training.held_out import held_out_loss_of

    rows, shown = list[dict[str, Any]](), list[dict[str, str]]()
    for length in lengths:
        assert trained.folder is not None
        run = replace(load(trained.folder.path, ema=length), opened=trained.opened)
        assert run.folder is not None
        run.denoiser.conditioners = trained.denoiser.conditioners  # where a user says that they are
        run.denoiser.to(device)
        held = held_out_loss_of(run.denoiser, run.source, run.config.train) if run.holds_data else None
        found = measured(run)
        name, first = next(iter(found["measures"].items()))
        row = {
            "ema": length, "profile_error": run.folder.averages.error(length, run.step),
            "held_out": None if held is None else held.loss, **found,
        }  # fmt: skip
        rows.append(row)
        shown.append({
            "length": f"{length:g}",
            "profile's error": f"{row['profile_error']:.1%}",
            **({} if held is None else {"held-out loss": f"{held.loss:.4f}"}),
            name: f"{first['value']:.4f} +- {first['error']:.4f}",
            "in floors": "-" if first["ratio"] is None else f"{first['ratio']:.3f}",
            **({"agreement": f"{found['agreement']:.2%}"} if "agreement" in found else {}),
        })  # fmt: skip
    wrong = max(row["profile_error"] for row in rows) > _POOR
    lines = ["averages of the weights, by their length in parts of the training", text_table(shown)]
    if wrong:
        lines.append(
            "where the profile's error is large the average is another than asked for: train with a smaller save_every"
        )
    return {"ema": rows}, lines


_POOR = 0.2
