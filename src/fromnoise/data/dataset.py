"""What a data set is: samples, perhaps conditions, perhaps the distribution they were drawn from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from fromnoise.cond import Cond, Conditioner, Labels, conditions_of, find_label, kept_of, label_names_of
from fromnoise.deprecated import Renamed
from fromnoise.errors import InputError, LabelError
from fromnoise.rng import stream


@dataclass(frozen=True, eq=False)
class Dataset:
    """Samples with what is known of them.

    Args:
        x: `[N, *S]`, float32 or float64, in the data's own units.
        labels: `[N]` int64 in 0..classes-1, or None.
        label_names: one name for each class.
        name: for titles and messages.
        config: how to make it again (`fromnoise.data.make`), or None where only the samples are known.
        distribution: what they were drawn from, or None.
        cond: the condition of each sample, of N rows; made from `labels` where these are given.
        conditioners: what turns a user's words into such conditions.
    """

    x: Tensor
    labels: Tensor | None = None
    label_names: tuple[str, ...] = ()
    name: str = "data"
    config: dict[str, Any] | None = None
    distribution: Distribution | None = None
    cond: Cond | None = None
    conditioners: tuple[Conditioner, ...] = ()

    law, fresh, even = Renamed("distribution"), Renamed("draw"), Renamed("draw_stratified")

    def __post_init__(self) -> None:
        if self.x.dim() < 2 or len(self.x) == 0:
            raise InputError(f"data must be [N, *S] with N at least 1, not of shape {list(self.x.shape)}")
        if not torch.isfinite(self.x).all():
            rows = (~torch.isfinite(self.x.flatten(1)).all(1)).nonzero().flatten()
            raise InputError(f"data must be finite: {len(rows)} rows are not, the first is row {int(rows[0])}")
        if self.labels is not None:
            if self.labels.shape != self.x.shape[:1]:
                raise InputError(f"labels must be [{len(self.x)}], one for each sample, not {list(self.labels.shape)}")
            low, high = int(self.labels.min()), int(self.labels.max())
            if low < 0 or high >= len(self.label_names):
                raise LabelError(f"labels must lie in 0..{len(self.label_names) - 1}, not {low}..{high}")
            names = Labels(names=tuple(self.label_names))
            object.__setattr__(self, "cond", Cond({names.value: self.labels}))
            object.__setattr__(self, "conditioners", (names,))
        elif self.cond is not None:
            if len(self.cond) != len(self.x):
                raise InputError(f"{len(self.cond)} conditions were given for {len(self.x)} samples: give one for each")
            object.__setattr__(self, "labels", self.cond.values.get("label"))
            object.__setattr__(self, "label_names", label_names_of(self.conditioners))

    def conditioned(self, words: Any) -> Dataset:
        """Return the same samples with a condition each.

        Args:
            words: N labels, names or whole numbers, or vectors `[N, D]`.

        Raises:
            LabelError: if they cannot be read.
        """
        cond, conditioner = conditions_of(words)
        return Dataset(self.x, name=self.name, cond=cond, conditioners=(conditioner,))

    def take(self, rows: Tensor) -> Dataset:
        """Return the samples of these rows `[n]`, with their conditions."""
        cond = None if self.cond is None else self.cond.rows(rows)
        return Dataset(self.x[rows], name=self.name, cond=cond, conditioners=self.conditioners)

    def cond_for(self, known: Sequence[Conditioner]) -> Cond | None:
        """Return the samples' conditions as far as these conditioners know them; None where they know none."""
        cond = None if self.cond is None else self.cond.only([one.value for one in known])
        return None if cond is None else replace(cond, kept=kept_of(known))

    @property
    def identity(self) -> dict[str, Any]:
        """What a run keeps of the data: how to make them again, or their name, number and sum."""
        x = self.x.contiguous().cpu()
        return self.config or {
            "name": self.name, "n": len(self), "sha256": hashlib.sha256(x.numpy().tobytes()).hexdigest()[:16]
        }  # fmt: skip

    def __len__(self) -> int:
        return len(self.x)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape S of one sample."""
        return tuple(self.x.shape[1:])

    @property
    def classes(self) -> int:
        """How many labels there are; 0 without labels."""
        return len(self.label_names)

    def label(self, name: str | int) -> int:
        """Return the number of a label given by name or number.

        Raises:
            LabelError: if there is no such label.
        """
        return find_label(name, self.label_names)

    def only(self, label: str | int) -> Dataset:
        """Return the samples of one label, as data without labels."""
        number = self.label(label)
        assert self.labels is not None
        name = f"{self.name}:{self.label_names[number]}"
        part = self.distribution.only(number) if self.distribution is not None else None
        return Dataset(self.x[self.labels == number], name=name, distribution=part)

    def draw(self, n: int, seed: int = 0) -> Dataset:
        """Draw n new samples from the true distribution, as often as wanted.

        Raises:
            InputError: if only the samples are known.
        """
        if self.distribution is None:
            raise InputError(f"the distribution of {self.name!r} is not known, only its {len(self)} samples")
        x, labels = self.distribution.draw(n, seed)
        return replace(self, x=x, labels=labels if self.classes else None, cond=None, conditioners=(), config=None)

    def draw_stratified(self, n: int, seed: int = 0) -> Dataset:
        """Draw n stratified samples, which cover the true distribution evenly: the truth with little sampling noise.

        Raises:
            InputError: if only the samples are known.
        """
        if self.distribution is None:
            raise InputError(f"the distribution of {self.name!r} is not known, only its {len(self)} samples")
        x, labels = self.distribution.draw_stratified(n, seed)
        return replace(self, x=x, labels=labels if self.classes else None, cond=None, conditioners=(), config=None)


Points = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Distribution:
    """A distribution given by a map from the unit cube: x = points(u), u uniform in [0, 1]^dims.

    Independent u draw from it; u spread evenly (stratified along the first axis, a scrambled Sobol sequence along the
    others) cover it evenly.

    Attributes:
        points: `[n, dims]` float64 -> `[n, *S]` float64.
        dims: how many uniform numbers a sample takes.
        centres: where the distribution is a curve plus Gaussian jitter, the map u -> curve, `[n]` -> `[n, *S]`.
        jitter: the jitter's standard deviation.
        parts: for labelled data, the distribution of each label, all equally likely.
    """

    points: Points | None = None
    dims: int = 1
    centres: Points | None = None
    jitter: float = 0.0
    parts: tuple[Distribution, ...] = ()

    def draw(self, n: int, seed: int) -> tuple[Tensor, Tensor | None]:
        """Return n independent samples `[n, *S]` float32 and their labels (None without parts)."""
        if self.parts:
            labels = torch.randint(len(self.parts), (n,), generator=stream(seed, "labels"))
            return self._gather(labels, lambda part, count, k: part.draw(count, _part_seed(seed, k))[0])
        assert self.points is not None
        u = torch.rand((n, self.dims), generator=stream(seed, "data"), dtype=torch.float64)
        return self.points(u).float(), None

    def draw_stratified(self, n: int, seed: int) -> tuple[Tensor, Tensor | None]:
        """Return n stratified samples and their labels."""
        if self.parts:
            labels = torch.arange(n) * len(self.parts) // n
            return self._gather(labels, lambda part, count, k: part.draw_stratified(count, _part_seed(seed, k))[0])
        assert self.points is not None
        u = torch.empty((n, self.dims), dtype=torch.float64)
        u[:, 0] = (torch.arange(n, dtype=torch.float64) + 0.5) / n
        if self.dims > 1:
            u[:, 1:] = sobol(n, self.dims - 1, seed)
        return self.points(u).float(), None

    def only(self, part: int) -> Distribution:
        """Return the distribution of one label."""
        return self.parts[part]

    def _gather(self, labels: Tensor, draw: Callable[[Distribution, int, int], Tensor]) -> tuple[Tensor, Tensor]:
        drawn = [draw(part, int((labels == k).sum()), k) for k, part in enumerate(self.parts)]
        x = torch.empty((len(labels), *drawn[0].shape[1:]))
        for k, rows in enumerate(drawn):
            x[labels == k] = rows
        return x, labels


def _part_seed(seed: int, part: int) -> int:
    return (seed * 1_000_003 + part + 1) % 2**63


def sobol(n: int, dims: int, seed: int) -> Tensor:
    """Return n points of a scrambled Sobol sequence in the open unit cube, `[n, dims]` float64."""
    engine = torch.quasirandom.SobolEngine(dims, scramble=True, seed=seed % 2**31)
    return engine.draw(n, dtype=torch.float64).clamp(1e-12, 1 - 1e-12)


def normal_quantile(u: Tensor) -> Tensor:
    """Return the standard normal's quantiles, elementwise."""
    return torch.special.ndtri(u.clamp(1e-16, 1 - 1e-16))


def sobol_noise(n: int, shape: Sequence[int], seed: int = 0) -> Tensor:
    """Return n standard normal samples `[n, *S]` float32 that cover their distribution evenly (scrambled Sobol)."""
    dims = torch.Size(shape).numel()
    return normal_quantile(sobol(n, dims, seed)).reshape(n, *shape).float()
