"""The exact law behind a data set."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from fromnoise.conditioners import Conditioner, label_names_of
from fromnoise.data.codec import Affine, Codec
from fromnoise.data.distribution import Distribution
from fromnoise.data.source import Source, cond_for
from fromnoise.errors import InputError
from fromnoise.exact.mixture import GaussianMixture
from fromnoise.rng import stream


def mixture_of_data(
    data: Source,
    codec: Codec | None = None,
    *,
    at_most: int = 10_000,
    seed: int = 0,
    conditioners: Sequence[Conditioner] | None = None,
) -> GaussianMixture:
    """Return the exact law behind a data set or another source, in the units of `codec`.

    Up to `at_most` samples it is the finite set of them all. Above, it is the true distribution where that is a curve
    with Gaussian jitter (1,024 Gaussians along each curve), else the finite set of a subsample. `note` says which.

    Args:
        data: the samples; of a source on the disk, only those that are used are read.
        codec: from the data's units to the law's; `Affine()` when not given.
        at_most: how many samples the finite set has at most.
        seed: of the subsample.
        conditioners: which conditions the law has; all that the data have when not given.
    """
    codec, read_by = codec or Affine(), data.conditioners if conditioners is None else tuple(conditioners)
    if not _is_small(data, codec, at_most):
        raise InputError(
            f"the exact law of {min(len(data), at_most):,} samples whose codec draws z anew each time takes too much "
            "memory: give fewer samples"
        )
    if len(data) > at_most:
        true = _true_law(data, codec, label_names_of(read_by))
        if true is not None:
            return true
    rows, note = slice(None), f"all {len(data):,} samples"
    if len(data) > at_most:
        rows = torch.randperm(len(data), generator=stream(seed, "subsample"))[:at_most]
        note = f"{at_most:,} of {len(data):,} samples"
    x, cond = data.read(rows)
    cond, stored = cond_for(cond, read_by), codec.store(x)
    known = {"cond": cond, "conditioners": () if cond is None else read_by, "note": note}
    spread = codec.variance(stored)
    if spread is not None:  # each sample is a Gaussian of its own
        return GaussianMixture(codec.into(stored), covariances=torch.diag_embed(spread.flatten(1)), **known)
    return GaussianMixture(codec.into(stored, stream(seed, "codec")), 0.0, **known)


def _is_small(data: Source, codec: Codec, at_most: int) -> bool:
    """Return whether the exact law behind a data set can be had: where a codec draws, only of few and small z."""
    first = codec.store(data.read(slice(0, 1)).x)
    if codec.variance(first) is None:
        return True
    return min(len(data), at_most) * codec.into(first).numel() ** 2 <= _LARGEST


_LARGEST = 2**18
"""How many numbers the covariances of samples may have together."""


def _true_law(data: Source, codec: Codec, names: tuple[str, ...], count: int = 1024) -> GaussianMixture | None:
    known = data.distribution
    parts: tuple[Distribution, ...] = () if known is None else known.parts or (known,)
    if not parts or any(part.centres is None for part in parts) or not isinstance(codec, Affine) or codec.std.dim() > 0:
        return None
    u = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    means = torch.cat([part.centres(u) for part in parts if part.centres is not None])
    std = torch.cat([torch.full((count,), part.jitter, dtype=torch.float64) for part in parts])
    labels = torch.arange(len(parts)).repeat_interleave(count) if names else None
    return GaussianMixture(
        codec.exactly_into(means).float(),
        (std / codec.std.double()).float(),
        labels=labels,
        label_names=names,
        note="the true distribution",
    )
