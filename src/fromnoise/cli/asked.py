"""What `fromnoise evaluate` is asked for, and how what it measured is given as data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fromnoise.metrics import Evaluation
    from fromnoise.samplers import Sampler


@dataclass(frozen=True)
class Asked:
    """What the options ask for.

    Attributes:
        sampler: the rule; the denoiser's usual one when None.
        steps: its steps; the sampler's own number when None.
        n: how many samples.
        label: of all samples, or None.
        guidance: its scale, or None.
        schedule: another path than the run's own, or None.
        file: of samples to measure in place of new ones, or None.
        features: of pictures: pixels, classifier, or a file.
        pairs: the number of comparisons with the data.
        exact: whether the exact denoiser is measured too.
        elbo: whether the likelihood is.
        seed: of every random number.
    """

    sampler: Sampler | None
    steps: int | None
    n: int
    label: str | None
    guidance: float | None
    schedule: str | None
    file: Path | None
    features: str | None
    pairs: int
    exact: bool
    elbo: bool
    seed: int


def measures_of(found: Evaluation) -> dict[str, Any]:
    """Return an evaluation's measures as data; a ratio to a floor that is 0, but for chance, is None."""
    return {
        m.name: {
            "value": m.value, "error": m.error, "floor": m.floor, "floor_error": m.floor_error,
            "ratio": m.ratio if math.isfinite(m.ratio) else None,
            "ratio_error": m.ratio_error if math.isfinite(m.ratio) else None,
        }
        for m in found.measures
    }  # fmt: skip
