"""What an autoencoder loses: the ceiling of what samples decoded by it can reach."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from fromnoise.data.source import Source
from fromnoise.metrics import Evaluation, Features, PixelComponents, evaluate, frechet_distance, psnr, ssim
from fromnoise.rng import stream

_MOST, _LEAST = 2000, 40
"""How many pictures are looked at, at most and at least."""


@runtime_checkable
class Reconstructing(Protocol):
    """What takes pictures through latents and back: an `Autoencoder`, or the codec `Latent`."""

    def reconstructed(self, x: Tensor) -> Tensor:
        """Return pictures `[N, C, H, W]` through their latents and back."""
        ...


@dataclass(frozen=True)
class Ceiling:
    """How near reconstructions are to pictures.

    Attributes:
        n: how many pictures were taken through latents and back.
        held_out: whether the autoencoder was not trained on them.
        psnr: in dB.
        ssim: 1 for equal pictures.
        space: in which features distances are taken.
        own: the Frechet distance of reconstructions to the very pictures that they are of.
        distances: of reconstructions of training pictures, measured as samples are, each beside its floor; None where
            there are too few pictures.
        shown: a few pictures and their reconstructions, `[10, C, H, W]` each.
    """

    n: int
    held_out: bool
    psnr: float
    ssim: float
    space: str
    own: float
    distances: Evaluation | None
    shown: tuple[Tensor, Tensor]

    def lines(self) -> list[str]:
        """Return it as lines of text."""
        which = "held-out" if self.held_out else "training"
        lines = [
            f"reconstructions of {self.n:,} {which} pictures: PSNR {self.psnr:.2f} dB, SSIM {self.ssim:.4f}, "
            f"Frechet distance ({self.space}) to themselves {self.own:.4f}"
        ]
        if self.distances is not None:
            lines.append(f"the ceiling of samples that are decoded by it, {self.distances!s}")
        return lines

    def row(self) -> dict[str, Any]:
        """Return it as data."""
        first = None if self.distances is None else self.distances.measures[0]
        return {
            "n": self.n, "psnr": self.psnr, "ssim": self.ssim, "distance": self.own, "space": self.space,
            "ceiling": None if first is None else first.value, "floor": None if first is None else first.floor,
            "ceiling_ratio": None if first is None else first.ratio,
        }  # fmt: skip


def ceiling_of(
    model: Reconstructing,
    rows: Source,
    held: Source | None,
    *,
    features: Features | None = None,
    most: int = _MOST,
    pairs: int = 4,
    seed: int = 0,
) -> Ceiling:
    """Measure how near reconstructions are to pictures.

    Args:
        model: takes pictures through latents and back.
        rows: the pictures that were trained on.
        held: those held out, which are looked at where there are some.
        features: the space of distances; pixel components when not given.
        most: how many pictures to look at.
        pairs: the number of comparisons from which floors are taken.
        seed: of the choice of pictures.
    """
    space = features or PixelComponents.fitted(rows)
    x = _some(held or rows, most, seed)
    x_hat = model.reconstructed(x).cpu()
    peak = 255.0 if x.dtype == torch.uint8 else float(x.max() - x.min()) or 1.0
    own = frechet_distance(space(x_hat), space(x)) if len(x) > 1 else 0.0
    return Ceiling(
        n=len(x), held_out=held is not None, psnr=psnr(x_hat, x, peak=peak), ssim=ssim(x_hat, x, peak=peak),
        space=space.name, own=own, shown=(x[:10], x_hat[:10]),
        distances=ceiling_of_samples(model, rows, held, features=space, n=len(x), pairs=pairs, seed=seed),
    )  # fmt: skip


def ceiling_of_samples(
    model: Reconstructing,
    rows: Source,
    held: Source | None,
    *,
    features: Features | None = None,
    n: int,
    pairs: int = 4,
    seed: int = 0,
) -> Evaluation | None:
    """Measure reconstructions of n training pictures as if they were samples; None where there are too few.

    Where too few were held out, one half of the pictures is reconstructed and compared with the other, and fewer may be
    taken: no reconstruction is compared with its own picture. Arguments are those of `ceiling_of`.
    """
    if len(rows) < 2 * _LEAST:
        return None
    features = features or PixelComponents.fitted(rows)
    if held is None or len(held) < min(n, len(rows)):
        order = torch.randperm(len(rows), generator=stream(seed, "ceiling's halves"))
        half, held = len(rows) // 2, None
        rows, others = rows.take(order[:half]), rows.take(order[half:])
        n = min(n, len(others) // 2)
    else:
        others = rows
    samples = model.reconstructed(_some(rows, n, seed + 1)).cpu()
    return evaluate(samples, others, features=features, held_out=held, pairs=pairs, seed=seed)


def _some(source: Source, n: int, seed: int) -> Tensor:
    rows = torch.randperm(len(source), generator=stream(seed, "ceiling"))[:n]
    return source.read(rows).x
