"""The exact law behind a data set."""

from __future__ import annotations

import torch

from fromnoise.data.codec import Affine, Codec
from fromnoise.data.dataset import Dataset
from fromnoise.data.distribution import Distribution
from fromnoise.errors import InputError
from fromnoise.exact.mixture import GaussianMixture
from fromnoise.rng import stream


def mixture_of_data(
    data: Dataset, codec: Codec | None = None, *, at_most: int = 10_000, seed: int = 0
) -> GaussianMixture:
    """Return the exact law behind a data set, in the units of `codec`.

    Up to `at_most` samples it is the finite set of them all. Above, it is the true distribution where that is a curve
    with Gaussian jitter (1,024 Gaussians along each curve), else the finite set of a subsample. `note` says which.
    """
    codec = codec or Affine()
    if not _is_small(data, codec, at_most):
        raise InputError(
            f"the exact law of {min(len(data), at_most):,} samples whose codec draws z anew each time takes too much "
            "memory: give fewer samples"
        )
    if len(data) > at_most:
        true = _true_law(data, codec)
        if true is not None:
            return true
    rows, note = slice(None), f"all {len(data):,} samples"
    if len(data) > at_most:
        rows = torch.randperm(len(data), generator=stream(seed, "subsample"))[:at_most]
        note = f"{at_most:,} of {len(data):,} samples"
    cond = data.cond_for(data.conditioners)
    cond = None if cond is None else cond.rows(rows)
    stored = codec.store(data.x[rows])
    spread, known = codec.variance(stored), {"cond": cond, "conditioners": data.conditioners, "note": note}
    if spread is not None:  # each sample is a Gaussian of its own
        return GaussianMixture(codec.into(stored), covariances=torch.diag_embed(spread.flatten(1)), **known)
    return GaussianMixture(codec.into(stored, stream(seed, "codec")), 0.0, **known)


def _is_small(data: Dataset, codec: Codec, at_most: int) -> bool:
    """Return whether the exact law behind a data set can be had: where a codec draws, only of few and small z."""
    first = codec.store(data.x[:1])
    if codec.variance(first) is None:
        return True
    return min(len(data), at_most) * codec.into(first).numel() ** 2 <= _LARGEST


_LARGEST = 2**18
"""How many numbers the covariances of samples may have together."""


def _true_law(data: Dataset, codec: Codec, count: int = 1024) -> GaussianMixture | None:
    known = data.distribution
    parts: tuple[Distribution, ...] = () if known is None else known.parts or (known,)
    if not parts or any(part.centres is None for part in parts) or not isinstance(codec, Affine) or codec.std.dim() > 0:
        return None
    u = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    means = torch.cat([part.centres(u) for part in parts if part.centres is not None])
    std = torch.cat([torch.full((count,), part.jitter, dtype=torch.float64) for part in parts])
    labels = torch.arange(len(parts)).repeat_interleave(count) if data.classes else None
    return GaussianMixture(
        codec.exactly_into(means).float(),
        (std / codec.std.double()).float(),
        labels=labels,
        label_names=data.label_names,
        note="the true distribution",
    )
