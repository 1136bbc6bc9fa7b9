"""Every distance beside its floor: the same distance between two fresh draws of the data.

Two finite sets of one distribution are never at distance 0. So the distance of samples is compared with the distance
that fresh data have from each other: samples as good as fresh data have a ratio of 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fromnoise.data.codec import Affine
from fromnoise.data.dataset import Dataset
from fromnoise.data.numbers import as_samples
from fromnoise.data.opening import open as open_data
from fromnoise.data.pixels import check_levels
from fromnoise.data.source import Source
from fromnoise.errors import InputError, whole_number
from fromnoise.metrics.distances import (
    EXACT_UP_TO,
    energy_distance,
    precision_recall,
    sliced_wasserstein2,
    wasserstein2,
)
from fromnoise.metrics.features import (
    Features,
    PixelComponents,
    frechet_distance,
    kernel_distance,
    manifold_precision_recall,
)
from fromnoise.rng import stream


@dataclass(frozen=True)
class Measure:
    """A number with its standard error, beside the same number for fresh data.

    Attributes:
        name: the name of the measure.
        value, error: the value for the samples against fresh data, and its standard error, of which the samples' own
            chance is a part: another set of so many would have another value.
        floor, floor_error: the value for fresh data against fresh data, and its standard error.
        unbiased: whether that is 0 but for chance, so that nothing can be told in parts of it.
    """

    name: str
    value: float
    error: float
    floor: float
    floor_error: float
    unbiased: bool = False

    @property
    def ratio(self) -> float:
        """Return value/floor: 1 is as good as fresh data, above and below which chance alone may lead.

        NaN where the floor is 0 but for chance, as that of a distance without bias is.
        """
        if self.unbiased or (self.floor <= 2 * self.floor_error and (self.floor or self.floor_error)):
            return math.nan
        return self.value / self.floor if self.floor else math.inf

    @property
    def ratio_error(self) -> float:
        """Return the ratio's standard error."""
        if not math.isfinite(self.ratio):
            return math.nan
        return math.hypot(self.error, self.ratio * self.floor_error) / self.floor

    def line(self, width: int = 22) -> str:
        """Return the measure as a line of a table whose first column has this width."""
        ratio = "       -" if math.isnan(self.ratio) else f"{self.ratio:8.3f} +- {self.ratio_error:.3f}"
        return (
            f"{self.name:<{width}}{self.value:10.4f} +- {self.error:<8.4f}{self.floor:10.4f} +- "
            f"{self.floor_error:<8.4f}{ratio}"
        )

    def __str__(self) -> str:
        return self.line()

    __repr__ = __str__


@dataclass(frozen=True)
class Evaluation:
    """The measures of one set of samples, and the data that they were measured against.

    Attributes:
        measures: each beside its floor.
        against: the data.
        n: how many samples were measured.
        unit: of the distances.
    """

    measures: tuple[Measure, ...]
    against: str
    n: int
    unit: str = "the data's units"

    def __getitem__(self, name: str) -> Measure:
        """Return the measure of that name."""
        for measure in self.measures:
            if measure.name == name:
                return measure
        raise KeyError(f"{name}; known: {', '.join(m.name for m in self.measures)}")

    def __str__(self) -> str:
        width = max(22, *(len(measure.name) + 2 for measure in self.measures))
        head = (
            f"{self.n} samples against {self.against}, distances in {self.unit}\n"
            f"{'':<{width}}{'samples':>10}{'':12}{'floor':>10}{'':12}{'ratio':>8}"
        )
        return "\n".join([head, *(measure.line(width) for measure in self.measures)])

    __repr__ = __str__


def evaluate(
    samples: Any,
    against: Dataset | Any,
    *,
    pairs: int = 6,
    seed: int = 0,
    at_most: int = 20_000,
    features: Features | None = None,
    held_out: Any = None,
) -> Evaluation:
    """Measure samples against data: 2-Wasserstein, energy distance, precision and recall, each beside its floor.

    Pictures are measured in a space of features: Frechet and kernel distance, precision and recall.

    Where the data's distribution is known, each of `pairs` comparisons takes fresh draws of it; else disjoint random
    parts of the data. Where as many samples of the data were held out as are measured, the samples and, for the floor,
    `pairs` random parts of the data are compared with all that were held out. Up to 2,000 samples the
    2-Wasserstein distance is exact, above it is the sliced one.

    Points are compared in their own units, a table (as `Affine("auto")` knows one) in the standard deviations of its
    columns: else the column with the largest numbers would decide alone.

    Args:
        samples: a tensor, array or list `[n, *S]`, in the data's units.
        against: the data, in any form that `fromnoise.data.open` reads.
        pairs: the number of comparisons from which means and errors are taken.
        seed: the seed of the draws.
        at_most: the largest number of samples used, because energy distances take n^2 operations.
        features: of pictures; the 64 principal components of the data's pixels when not given.
        held_out: samples of the data that the model was not trained on and that are not among `against`.

    Raises:
        InputError: if shapes differ, there are fewer than 20 samples, or one is not finite.
    """
    pairs = whole_number("pairs", pairs)
    samples, data, apart = _checked(samples, against, held_out)
    n = min(len(samples), at_most)
    if apart is not None and min(len(apart), len(data)) < n:
        apart = None  # too few to stand for the data
    if data.distribution is None and apart is None:
        n = min(n, max(len(data) // 2, 1))
    space = _space(data, n, features)
    samples = space.seen(samples[torch.randperm(len(samples), generator=stream(seed, "shuffle"))[:n]])
    what = _what(data)
    if apart is None:
        pairs_drawn = [(space.seen(first), space.seen(second)) for first, second in draws(data, n, pairs, seed)]
    else:
        most = at_most if len(data.shape) == 3 or features is not None else n  # distances of points take as many
        chosen = torch.randperm(len(apart), generator=stream(seed, "apart"))[:most]
        what, rest = f"{len(chosen):,} held-out samples of {data.name}", space.seen(apart.read(chosen).x)
        pairs_drawn = [(space.seen(part), rest) for part in _parts(data, n, pairs, seed)]
    found: list[Measure] = []
    for names, measure in space.measures.items():
        others = [second for _, second in pairs_drawn[: 1 if apart is not None else pairs]]  # the same each time
        ours = torch.tensor([measure(samples, second) for second in others], dtype=torch.float64).expand(pairs, -1)
        floor = torch.tensor([measure(first, second) for first, second in pairs_drawn], dtype=torch.float64)
        for k, name in enumerate(names.split(",")):
            value, error = _mean_error(ours[:, k])
            least, least_error = _mean_error(floor[:, k])
            own = least_error * math.sqrt(pairs)  # the comparisons share one set of samples, whose part is at most this
            found.append(
                Measure(name, value, math.hypot(error, own), least, least_error, unbiased=name in space.unbiased)
            )
    return Evaluation(tuple(found), what, n, space.unit)


def _checked(samples: Any, against: Any, held_out: Any) -> tuple[Tensor, Dataset | Source, Dataset | Source | None]:
    """Return samples, data and what was held out of them, where that is to be measured against."""
    if hasattr(samples, "denoiser"):
        raise InputError("evaluate measures samples, and this is a run: draw them, fn.sample(run.denoiser, n=2000)")
    data, samples = open_data(against), as_samples(samples)
    if tuple(samples.shape[1:]) != data.shape:
        raise InputError(f"the samples have shape {list(samples.shape[1:])}, the data {list(data.shape)}")
    if not torch.isfinite(samples).all():
        raise InputError("the samples hold a NaN or an infinity")
    if data.read(torch.zeros(1, dtype=torch.long)).x.dtype == torch.uint8:
        check_levels(samples, "the samples")
    if len(samples) < 20:
        raise InputError(f"{len(samples)} samples are too few to measure: at least 20")
    if data.distribution is None and len(data) < 12:
        raise InputError(f"{len(data)} samples of the data are too few to measure against: at least 12")
    apart = None if held_out is None or data.distribution is not None else open_data(held_out)
    if apart is not None and tuple(apart.shape) != tuple(data.shape):
        raise InputError(f"what was held out has shape {list(apart.shape)}, the data {list(data.shape)}")
    return samples, data, apart


Pair = Callable[[Tensor, Tensor], Sequence[float]]
"""Numbers of two sets of what is seen of samples."""


class _Space(NamedTuple):
    """Where samples are compared: what is seen of them, its unit, the measures by name, and which have no bias."""

    seen: Callable[[Tensor], Tensor]
    unit: str
    measures: dict[str, Pair]
    unbiased: frozenset[str] = frozenset()


def _space(data: Dataset | Source, n: int, features: Features | None) -> _Space:
    if features is not None and not (callable(features) and hasattr(features, "name")):
        raise InputError(
            f"features is an object with a name that is called with pictures, such as fn.training.judge_of(source), "
            f"not {features!r}; left out, it is the principal components of the pixels"
        )
    if len(data.shape) == 3 or features is not None:
        seen = features or PixelComponents.fitted(data)
        kernel = f"kernel distance ({seen.name})"
        measures: dict[str, Pair] = {
            f"Frechet distance ({seen.name})": lambda a, b: (frechet_distance(a, b),),
            kernel: lambda a, b: (kernel_distance(a, b),),
            "precision,recall": manifold_precision_recall,
        }
        return _Space(seen, seen.name, measures, frozenset({kernel}))
    of_columns = column_std(data)
    measures = {
        "2-Wasserstein" if n <= EXACT_UP_TO else "sliced 2-Wasserstein": lambda a, b: (_wasserstein(a, b),),
        "energy distance": lambda a, b: (energy_distance(a, b),),
        "precision,recall": precision_recall,
    }
    unit = "the columns' standard deviations" if of_columns.dim() else "the data's units"
    return _Space(lambda x: x / of_columns, unit, measures)


def column_std(data: Dataset | Source) -> Tensor:
    """Return the standard deviations `[D]` of a table's columns; 1 for points and pictures, which keep their units."""
    std = Affine().fitted(data).std
    return std if std.dim() else torch.ones_like(std)


def _wasserstein(a: Tensor, b: Tensor) -> float:
    return wasserstein2(a, b) if len(a) <= EXACT_UP_TO else sliced_wasserstein2(a, b)


def _what(data: Dataset | Source) -> str:
    return (
        f"fresh draws of {data.name}" if data.distribution is not None else f"the {len(data):,} samples of {data.name}"
    )


def _mean_error(values: Tensor) -> tuple[float, float]:
    return float(values.mean()), float(values.std() / math.sqrt(len(values))) if len(values) > 1 else math.nan


def draws(data: Any, n: int, pairs: int, seed: int) -> list[tuple[Tensor, Tensor]]:
    """Return pairs of disjoint sets of n samples of the data."""
    if data.distribution is not None:
        return [(data.draw(n, _nth(seed, 2 * i)).x, data.draw(n, _nth(seed, 2 * i + 1)).x) for i in range(pairs)]
    out = []
    for i in range(pairs):
        rows = torch.randperm(len(data), generator=stream(seed, "halves", i))
        out.append((data.read(rows[:n]).x, data.read(rows[n : 2 * n]).x))
    return out


def _parts(data: Any, n: int, count: int, seed: int) -> list[Tensor]:
    """Return sets of n samples of the data, each drawn without replacement."""
    each = [torch.randperm(len(data), generator=stream(seed, "parts", i))[:n] for i in range(count)]
    return [data.read(rows).x for rows in each]


def _nth(seed: int, i: int) -> int:
    return (seed * 9_176 + 7_919 + i) % 2**31


@dataclass(frozen=True)
class LowNoise:
    """The 2-Wasserstein distance to fresh data beside its floor, measured with little noise.

    Attributes:
        gap: w, the distance of samples with a Sobol start to a stratified draw of the truth; 0 for perfect samples.
        floor: the root mean square distance of two independent fresh draws.
    """

    gap: float
    floor: float

    @property
    def distance(self) -> float:
        """Return sqrt(w^2 + floor^2): about the distance to fresh data of a set at distance w from the truth."""
        return math.hypot(self.gap, self.floor)

    @property
    def ratio(self) -> float:
        """Return distance/floor: 1 is as good as fresh data, and nothing is below."""
        return self.distance / self.floor


def wasserstein_floor(data: Dataset, n: int, *, pairs: int = 6, seed: int = 0) -> float:
    """Return the root mean square 2-Wasserstein distance of two independent draws of n samples."""
    of_columns = column_std(data)
    distances = [_wasserstein(a / of_columns, b / of_columns) for a, b in draws(data, n, pairs, seed)]
    return math.sqrt(sum(d * d for d in distances) / len(distances))


def low_noise(samples: Tensor, data: Dataset, *, floor: float | None = None, seed: int = 0) -> LowNoise:
    """Compare samples that were started from Sobol noise with a stratified draw of the truth.

    On a long curve a comparison with fresh draws varies by half from pair to pair; this one varies by a few percent.

    Args:
        samples: `[n, *S]`, made from `sobol_noise(n, ...)`.
        data: a data set whose distribution is known.
        floor: `wasserstein_floor(data, n)`, if it has been computed.
        seed: the seed of the draws.
    """
    of_columns = column_std(data)
    gap = _wasserstein(samples / of_columns, data.draw_stratified(len(samples), seed).x / of_columns)
    return LowNoise(gap, floor or wasserstein_floor(data, len(samples), seed=seed))
