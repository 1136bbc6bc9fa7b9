"""What a batch is conditioned on besides x: named tensors, each with a mask, and what turns a user's words into them.

A `Cond` is handed from the caller to the network, and nobody between them asks what kind it is: samplers pass it on,
guidance doubles it, training drops parts of it. A **conditioner** makes its values from a user's words: `Labels` from
names or numbers, `Vector` from arrays. What is not given has no value of its own: the mask says so, and the network
selects its null row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar, TypeAlias

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from fromnoise.errors import InputError, LabelError, UnknownName
from fromnoise.registry import Registry


@dataclass(frozen=True, eq=False)
class Cond:
    """A condition: one row for all samples, or one row for each.

    Attributes:
        values: tensors by name, each `[1, ...]` or `[B, ...]`: "label" int64 `[.]`, "vector" float32 `[., D]`.
        given: for each name the rows that have it, bool `[1]` or `[B]`; a name that is absent has all.
        kept: the names that `null` and `drop` leave as they are.
    """

    values: Mapping[str, Tensor]
    given: Mapping[str, Tensor] = field(default_factory=dict)
    kept: frozenset[str] = frozenset()

    def __len__(self) -> int:
        return max((len(value) for value in (*self.values.values(), *self.given.values())), default=1)

    def rows(self, at: slice | Tensor) -> Cond:
        """Return the condition of some rows, a slice or indices `[b]`; what all rows share stays one row."""
        return self._map(lambda tensor: tensor if len(tensor) == 1 else tensor[at])

    def expand(self, n: int) -> Cond:
        """Return the condition with n rows of everything."""
        return self._map(lambda tensor: tensor.expand(n, *tensor.shape[1:]))

    def to(self, device: torch.device | str) -> Cond:
        """Return the condition on a device."""
        return self._map(lambda tensor: tensor.to(device))

    def null(self) -> Cond:
        """Return the condition of which nothing is given, but for what is kept."""
        return self._masked(torch.zeros_like)

    def drop(self, p: float, generator: torch.Generator) -> Cond:
        """Return the condition with each row left out as a whole with probability p, but for what is kept."""
        return self.where(torch.rand(len(self), generator=generator, device=generator.device) >= p)

    def where(self, stays: Tensor) -> Cond:
        """Return the condition with the rows left out where `stays`, bool `[B]`, is False, but for what is kept."""
        stays = stays.to(next(iter(self.values.values())).device)
        return self._masked(lambda mask: mask & stays)

    def told(self, **values: Tensor) -> Cond:
        """Return the condition with more values by name."""
        return Cond({**self.values, **values}, self.given, self.kept.union(values))

    def only(self, names: Sequence[str]) -> Cond | None:
        """Return the part of these names; None where nothing is left."""
        values = {name: value for name, value in self.values.items() if name in names}
        return Cond(values, {k: v for k, v in self.given.items() if k in values}, self.kept) if values else None

    def mask(self, name: str) -> Tensor | None:
        """Return which rows have a value of this name, bool `[1]` or `[B]`; None where all have."""
        return self.given.get(name)

    @staticmethod
    def cat(parts: Sequence[Cond]) -> Cond:
        """Put conditions of as many rows as they have samples after one another; a part need not have every name."""
        like = {name: value for part in parts for name, value in part.values.items()}
        whole = [part._with_names(like) for part in parts]
        values = {name: torch.cat([part.values[name] for part in whole]) for name in like}
        masked = {name for part in whole for name in part.given}
        given = {name: torch.cat([part._mask(name) for part in whole]) for name in masked}
        return Cond(values, given, parts[0].kept)

    def _with_names(self, like: Mapping[str, Tensor]) -> Cond:
        """Return the condition with every name of `like`, those it lacks being not given."""
        n = len(self)
        missing = {name: value.new_zeros((n, *value.shape[1:])) for name, value in like.items()
                   if name not in self.values}  # fmt: skip
        absent = {name: torch.zeros(n, dtype=torch.bool, device=value.device) for name, value in missing.items()}
        return Cond({**self.values, **missing}, {**self.given, **absent}, self.kept)

    def _mask(self, name: str) -> Tensor:
        value = self.values[name]
        return self.given.get(name, torch.ones(len(value), dtype=torch.bool, device=value.device)).expand(len(value))

    def _masked(self, change: Callable[[Tensor], Tensor]) -> Cond:
        given = {name: self._mask(name) if name in self.kept else change(self._mask(name)) for name in self.values}
        return Cond(self.values, given, self.kept)

    def _map(self, change: Callable[[Tensor], Tensor]) -> Cond:
        values = {name: change(value) for name, value in self.values.items()}
        return Cond(values, {name: change(mask) for name, mask in self.given.items()}, self.kept)


Words: TypeAlias = Any
"""What a user gives as a condition: a label by name or number, one for each sample, vectors, or a mapping of these."""

conditioners: Registry[Conditioner] = Registry("conditioner")


class Conditioner:
    """Turns a user's words into the values of one name. A run keeps its conditioners.

    Attributes:
        value: the name of the values in a `Cond`.
        ndim: the number of axes of one value: 0 for a label, 1 for a vector.
        droppable: whether training may leave the values out, and guidance take the absence for a condition.
    """

    value: ClassVar[str]
    ndim: ClassVar[int]
    droppable: ClassVar[bool] = True

    def takes(self, words: Any) -> bool:
        """Return whether words without a name are for this conditioner."""
        raise NotImplementedError

    def read(self, words: Any) -> Tensor:
        """Return one value for all samples, of `ndim` axes, or one for each, with an axis of n before these.

        Raises:
            LabelError: if the words cannot be read.
        """
        raise NotImplementedError

    def check(self, values: Tensor) -> None:
        """Raise LabelError if values `[n, ...]`, read from a file, are none that the conditioner can have given."""

    def sizes(self) -> dict[str, Any]:
        """Return the settings of a network that follow from the conditioner."""
        raise NotImplementedError

    def check_fits(self, other: Conditioner | None) -> None:
        """Raise LabelError if a network of this conditioner cannot be trained with the values of `other`."""
        raise NotImplementedError


@conditioners.register("labels")
@dataclass(frozen=True)
class Labels(Conditioner):
    """Labels by name or number.

    Args:
        names: the labels, in the order of their numbers.
    """

    names: Annotated[tuple[str, ...], Field(min_length=1)]

    value = "label"
    ndim = 0

    @classmethod
    def numbered(cls, count: int) -> Labels:
        """Return labels that are called by their numbers."""
        return cls(names=tuple(str(k) for k in range(count)))

    def takes(self, words: Any) -> bool:
        return True  # what is no label is told so

    def read(self, words: Any) -> Tensor:
        """Return numbers, int64 `[]` or `[n]`."""
        if isinstance(words, (Tensor, np.ndarray)):
            numbers = torch.as_tensor(words)
            if numbers.dtype == torch.bool or numbers.is_floating_point() or numbers.dim() > 1:
                raise LabelError(
                    f"labels are names or whole numbers, [] or [n], not {numbers.dtype} of shape {list(numbers.shape)}"
                )
            numbers = numbers.long()
            if numbers.numel() and not 0 <= int(numbers.min()) <= int(numbers.max()) < len(self.names):
                wrong = int(numbers[(numbers < 0) | (numbers >= len(self.names))].flatten()[0])
                find_label(wrong, self.names)
            return numbers
        if isinstance(words, (str, int, np.integer)):
            return torch.tensor(find_label(words, self.names))
        if not isinstance(words, Sequence):
            raise LabelError(f"labels are names or whole numbers, not {type(words).__name__}")
        return torch.tensor([find_label(word, self.names) for word in words], dtype=torch.long)

    def check(self, values: Tensor) -> None:
        self.read(values)

    def sizes(self) -> dict[str, Any]:
        return {"classes": len(self.names)}

    def check_fits(self, other: Conditioner | None) -> None:
        if not isinstance(other, Labels) or len(other.names) != len(self.names):
            count = len(other.names) if isinstance(other, Labels) else 0
            raise LabelError(f"the network knows {len(self.names)} labels and the data have {count}")


@conditioners.register("vector")
@dataclass(frozen=True)
class Vector(Conditioner):
    """Condition vectors, taken to mean 0 and standard deviation 1 in each coordinate.

    Args:
        dim: D, their length.
        mean: what is subtracted, D numbers; 0 where not given.
        std: what is then divided by, D numbers; 1 where not given.
    """

    dim: Annotated[int, Field(ge=1, le=1_000_000)]
    mean: tuple[float, ...] = ()
    std: tuple[Annotated[float, Field(gt=0)], ...] = ()

    value = "vector"
    ndim = 1

    def __post_init__(self) -> None:
        for name, numbers in (("mean", self.mean), ("std", self.std)):
            if len(numbers) not in (0, self.dim):
                raise InputError(f"conditioner 'vector': {name} must have {self.dim} numbers, not {len(numbers)}")

    @classmethod
    def fitted(cls, vectors: Tensor) -> Vector:
        """Return the conditioner of vectors `[N, D]`; a coordinate that never varies keeps its unit."""
        x = vectors.double()
        std, mean = x.std(0, correction=0), x.mean(0)
        std = torch.where(std > 1e-9 * x.abs().amax(0), std, 1.0)
        return cls(dim=x.shape[1], mean=tuple(mean.tolist()), std=tuple(std.tolist()))

    def takes(self, words: Any) -> bool:
        array = _numbers(words)
        return array is not None and array.is_floating_point()

    def read(self, words: Any) -> Tensor:
        """Return vectors, float32 `[D]` or `[n, D]`."""
        x = _numbers(words)
        if x is None or x.dtype == torch.bool or x.dim() not in (1, 2) or x.shape[-1] != self.dim:
            what = f"{words!r:.40}" if x is None else f"{x.dtype} of shape {list(x.shape)}"
            raise LabelError(f"a condition vector has {self.dim} numbers, [{self.dim}] or [n, {self.dim}], not {what}")
        x = x.double().cpu()
        if not torch.isfinite(x).all():
            raise LabelError("a condition vector is NaN or infinite; give no condition where there is none")
        mean, std = (torch.tensor(v, dtype=torch.float64) if v else None for v in (self.mean, self.std))
        x = x if mean is None else x - mean
        return (x if std is None else x / std).float()

    def check(self, values: Tensor) -> None:
        if values.dtype != torch.float32 or values.shape[1:] != (self.dim,) or not torch.isfinite(values).all():
            raise LabelError(f"condition vectors are not {self.dim} finite numbers each")

    def sizes(self) -> dict[str, Any]:
        return {"cond_dim": self.dim}

    def check_fits(self, other: Conditioner | None) -> None:
        if not isinstance(other, Vector) or other.dim != self.dim:
            had = f"vectors of length {other.dim}" if isinstance(other, Vector) else "none"
            raise LabelError(f"the network takes condition vectors of length {self.dim}, and the data have {had}")


def read_cond(known: Sequence[Conditioner], words: Words, n: int, device: torch.device | str = "cpu") -> Cond | None:
    """Return the condition that a user's words mean, on a device.

    Args:
        known: the conditioners there are.
        words: a `Cond`, a mapping by name, or the words of one conditioner; None for no condition.
        n: the number of samples.
        device: where the condition is wanted.

    Raises:
        LabelError: if the words cannot be read, or their number is neither 1 nor n.
    """
    if words is None:
        return None
    if isinstance(words, Cond):
        cond = replace(words, kept=kept_of(known))
        unknown = [name for name in cond.values if name not in {one.value for one in known}]
    else:
        named = words if isinstance(words, Mapping) else {_taker(known, words).value: words}
        by_name = {one.value: one for one in known}
        unknown = [name for name in named if name not in by_name]
        cond = Cond(
            {name: _rows(by_name[name], word, n) for name, word in named.items() if name in by_name}, {}, kept_of(known)
        )
    if unknown:
        if not known:
            raise LabelError(f"a condition {unknown[0]!r} was given, and this model was trained without conditions")
        raise LabelError(str(UnknownName("condition", str(unknown[0]), [one.value for one in known])))
    if len(cond) not in (1, n):
        raise LabelError(_NUMBER.format(len(cond), n))
    return cond.to(device)


_NUMBER = "{} conditions were given for {} samples: give one for all, or one each"


def _rows(one: Conditioner, words: Any, n: int) -> Tensor:
    """Return the values that words mean, `[1, ...]` for all n samples or `[n, ...]`."""
    value = one.read(words)
    if value.dim() == one.ndim:
        return value[None]
    if len(value) != n:
        raise LabelError(_NUMBER.format(len(value), n))
    return value


def kept_of(known: Sequence[Conditioner]) -> frozenset[str]:
    """Return the names whose values are never dropped."""
    return frozenset(one.value for one in known if not one.droppable)


def _taker(known: Sequence[Conditioner], words: Any) -> Conditioner:
    """Return the conditioner that words without a name are for, any other before labels."""
    if not known:
        shown = "a condition" if isinstance(words, (Tensor, np.ndarray)) else f"label {words!r}"
        raise LabelError(f"{shown} was asked for, but there are no labels here")
    taking = [one for one in known if one.takes(words)]
    return min(taking or known, key=lambda one: isinstance(one, Labels))


def conditions_of(words: Any) -> tuple[Cond, Conditioner]:
    """Return N conditions to train with, and the conditioner fitted to them.

    Args:
        words: labels, N names or whole numbers, or vectors `[N, D]`.

    Raises:
        LabelError: if they cannot be read.
    """
    x = _numbers(words)
    if x is not None and x.is_floating_point():
        if x.dim() != 2 or not torch.isfinite(x).all():
            raise LabelError(f"condition vectors must be finite and [N, D], not of shape {list(x.shape)}")
        one: Conditioner = Vector.fitted(x)
        return Cond({one.value: one.read(x)}), one
    if x is not None and (x.dtype == torch.bool or x.dim() != 1):
        raise LabelError(f"labels must be [N] names or whole numbers, not {x.dtype} of shape {list(x.shape)}")
    if not isinstance(words, (Sequence, np.ndarray, Tensor)) or isinstance(words, str):
        raise LabelError(f"conditions are labels or vectors, one for each sample, not {type(words).__name__}")
    given = words.tolist() if isinstance(words, (np.ndarray, Tensor)) else list(words)
    for word in given:
        if not isinstance(word, (str, int)) or isinstance(word, bool):
            raise LabelError(f"labels are names or whole numbers, not {word!r}")
    names = sorted(set(given), key=lambda word: (isinstance(word, str), word))
    numbers = {word: k for k, word in enumerate(names)}
    labels = Labels(names=tuple(str(word) for word in names))
    return Cond({labels.value: torch.tensor([numbers[word] for word in given])}), labels


def _numbers(words: Any) -> Tensor | None:
    """Return words that are numbers as a tensor; None for others."""
    if isinstance(words, Tensor):
        return words
    try:
        array = np.asarray(words)
    except ValueError:  # ragged
        return None
    return torch.as_tensor(array) if array.dtype.kind in "biuf" else None


def find_label(name: Any, label_names: Sequence[str]) -> int:
    """Return the number of a label given by name or by number (also as text).

    Raises:
        LabelError: if there are no labels, or none like that.
    """
    if not label_names:
        raise LabelError(f"label {name!r} was asked for, but there are no labels here")
    if isinstance(name, str) and name in label_names:
        return list(label_names).index(name)
    if isinstance(name, Tensor) and name.numel() == 1 and not name.is_floating_point():
        name = name.item()
    if isinstance(name, bool) or not isinstance(name, (str, int, np.integer)):
        raise LabelError(f"labels are names or whole numbers, not {name!r:.40}")
    try:
        number = int(name)
    except ValueError:
        raise LabelError(str(UnknownName("label", name, label_names))) from None
    if not 0 <= number < len(label_names):
        names = ", ".join(f"{i} {n}" for i, n in enumerate(label_names))
        raise LabelError(f"label {number} is out of range: known: {names}")
    return number


def label_names_of(known: Sequence[Conditioner]) -> tuple[str, ...]:
    """Return the labels that conditioners know, in the order of their numbers; none without `Labels`."""
    return next((one.names for one in known if isinstance(one, Labels)), ())
