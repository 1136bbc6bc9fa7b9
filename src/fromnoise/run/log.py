"""What the lines of metrics.jsonl say together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fromnoise.run.guard import is_finite


def last_loss(rows: Sequence[Mapping[str, Any]]) -> float:
    """Return the mean loss over the last tenth of the steps that these lines of metrics.jsonl tell of."""
    done = max((row["step"] for row in rows), default=0)
    last = [float(row["loss"]) for row in rows if row["step"] > 0.9 * done]
    return sum(last) / len(last) if last else math.nan


def held_out_losses(rows: Sequence[Mapping[str, Any]]) -> dict[int, float]:
    """Return the held-out loss by step, as far as these lines of metrics.jsonl tell of it."""
    told = {row["step"]: row.get("held_out") for row in rows}
    losses = {step: held["loss"] for step, held in told.items() if isinstance(held, Mapping) and "loss" in held}
    return {step: float(loss) for step, loss in losses.items() if is_finite(loss)}
