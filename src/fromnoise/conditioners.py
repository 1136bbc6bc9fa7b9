"""Conditioners: what makes the values of a `Cond` from a user's words, labels by name or number, or vectors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from fromnoise.cond import Cond
from fromnoise.errors import InputError, LabelError, UnknownName
from fromnoise.registry import Registry

Words: TypeAlias = Any
"""What a user gives as a condition: a label by name or number, one for each sample, vectors, or a mapping of these."""

conditioners: Registry[Conditioner] = Registry("conditioner")


@runtime_checkable
class Random(Protocol):
    """Random numbers of a training step's rows, N; each purpose has its own."""

    def uniform(self, purpose: str) -> Tensor:
        """Draw a number in [0, 1) for each row, `[N]`."""
        ...

    def normal(self, purpose: str, like: Tensor) -> Tensor:
        """Draw standard normal numbers `[N, *S]` for `like` `[., *S]`."""
        ...


class Conditioner:
    """Turns a user's words into the values of one name. A run keeps its conditioners.

    Attributes:
        value: the name of the values in a `Cond`.
        ndim: the number of axes of one value: 0 for a label, 1 for a vector.
        droppable: whether training may leave the values out, and guidance take the absence for a condition.
        needed: of values that are never left out, whether samples cannot be drawn where none is given.
        optional: whether a network that takes no such values may be trained on data that have them.
    """

    value: ClassVar[str]
    ndim: ClassVar[int]
    droppable: ClassVar[bool] = True
    needed: ClassVar[bool] = True
    optional: ClassVar[bool] = True

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

    @property
    def augments(self) -> bool:
        """Whether a training step sees other values than the data's; see `augmented`."""
        return type(self).augmented is not Conditioner.augmented

    def augmented(self, values: Tensor, draws: Random) -> Tensor:
        """Return values `[N, ...]` as a training step sees them; as they are, where a conditioner says nothing else."""
        return values

    def prepare(
        self, values: Tensor, progress: Callable[[int, int], None] | None = None, *, if_kept: bool = False
    ) -> None:
        """Do once what is slow in `encoded`; nothing, where a conditioner says nothing else.

        Args:
            values: of all samples, `[N, ...]`.
            progress: called with what is done and in all.
            if_kept: only take what was kept of an earlier time, if there is something.
        """

    def encoded(self, values: Tensor) -> Tensor:
        """Return what the network is given of values `[n, ...]`; as they are, where a conditioner says nothing else."""
        return values

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
        if isinstance(words, np.ndarray) and words.dtype.kind in "US":
            words = words.tolist()
        if isinstance(words, (Tensor, np.ndarray)):
            numbers = torch.as_tensor(words)
            if numbers.dtype == torch.bool or numbers.is_floating_point() or numbers.dim() > 1:
                raise LabelError(
                    f"labels are names or whole numbers, [] or [n], not {numbers.dtype} of shape {list(numbers.shape)}"
                )
            found, where = numbers.unique(return_inverse=True)
            called = [find_label(number, self.names) for number in found.tolist()]
            return torch.tensor(called, dtype=torch.long)[where.cpu()].reshape(numbers.shape)
        if isinstance(words, (str, int, np.integer)):
            return torch.tensor(find_label(words, self.names))
        if not isinstance(words, Sequence):
            raise LabelError(f"labels are names or whole numbers, not {type(words).__name__}")
        return torch.tensor([find_label(word, self.names) for word in words], dtype=torch.long)

    def check(self, values: Tensor) -> None:
        if values.dtype != torch.int64 or values.dim() != 1:
            raise LabelError(f"labels are kept as int64 [n], not as {values.dtype} of shape {list(values.shape)}")
        wrong = values[(values < 0) | (values >= len(self.names))]
        if len(wrong):
            raise LabelError(_out_of_range(int(wrong[0]), self.names))

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
    by_name = {one.value: one for one in known}
    if isinstance(words, Cond):
        cond = replace(words, kept=kept_of(known))
        unknown = [name for name in cond.values if name not in by_name]
        check_cond(cond, known)
    else:
        named = words if isinstance(words, Mapping) else {_taker(known, words).value: words}
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


def prepare(
    cond: Cond | None,
    known: Sequence[Conditioner],
    progress: Callable[[int, int], None] | None = None,
    *,
    if_kept: bool = False,
) -> None:
    """Do once what is slow for the conditions of all samples; see `Conditioner.prepare`."""
    for one in known:
        if cond is not None and one.value in cond.values:
            one.prepare(cond.values[one.value], progress, if_kept=if_kept)


def augmented(cond: Cond, known: Sequence[Conditioner], draws: Random) -> Cond:
    """Return a condition `[N, ...]` as a training step sees it; see `Conditioner.augmented`."""
    own = {one.value: one.augmented(cond.values[one.value], draws) for one in known if one.value in cond.values}
    return replace(cond, values={**cond.values, **own})


def encoded(cond: Cond, known: Sequence[Conditioner]) -> Cond:
    """Return a condition as the network is given it; see `Conditioner.encoded`."""
    named = {one.value: one for one in known}
    given = {name: named[name].encoded(value) if name in named else value for name, value in cond.values.items()}
    return cond if all(given[name] is value for name, value in cond.values.items()) else replace(cond, values=given)


def check_cond(cond: Cond, known: Sequence[Conditioner]) -> None:
    """Raise LabelError if values are none that their conditioners can have given."""
    for one in known:
        if one.value in cond.values:
            one.check(cond.values[one.value])


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


def needed_of(known: Sequence[Conditioner]) -> list[str]:
    """Return the names whose values must be given for every sample."""
    return [one.value for one in known if one.needed and not one.droppable]


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
    given = words.tolist() if isinstance(words, (np.ndarray, Tensor)) else [_plain(word) for word in words]
    for word in given:
        if not isinstance(word, (str, int)) or isinstance(word, bool):
            raise LabelError(f"labels are names or whole numbers, not {word!r}")
    names = sorted(set(given), key=lambda word: (isinstance(word, str), word))
    numbers = {word: k for k, word in enumerate(names)}
    labels = Labels(names=tuple(str(word) for word in names))
    return Cond({labels.value: torch.tensor([numbers[word] for word in given])}), labels


def labels_of(words: Any, names: tuple[str, ...]) -> tuple[Cond, Labels]:
    """Return N labels to train with.

    Args:
        words: names, or whole numbers in 0..classes - 1.
        names: one for each class; those of the words, sorted, when there are none.

    Raises:
        LabelError: if they cannot be read.
    """
    if not names:
        cond, labels = conditions_of(words)
        if not isinstance(labels, Labels):
            raise LabelError("labels must be whole numbers or names, not numbers with a fraction")
        return cond, labels
    labels, x = Labels(names=names), _numbers(words)
    if x is None:
        values = labels.read(words)
    elif x.is_floating_point() or x.dtype == torch.bool:
        raise LabelError(f"labels must be whole numbers or names, not {x.dtype}")
    else:
        values = x.long()
    labels.check(values)
    return Cond({labels.value: values}), labels


def _plain(word: Any) -> Any:
    """Return a NumPy number, or a tensor or array of one number, as Python's own."""
    return word.item() if isinstance(word, (Tensor, np.ndarray, np.generic)) and word.ndim == 0 else word


def _numbers(words: Any) -> Tensor | None:
    """Return words that are numbers as a tensor; None for others."""
    if isinstance(words, Tensor):
        return words.detach()
    try:
        array = np.asarray(words)
    except ValueError:  # ragged
        return None
    return torch.as_tensor(array) if array.dtype.kind in "biuf" else None


def find_label(name: Any, label_names: Sequence[str]) -> int:
    """Return the number of a label given by name or by number (also as text).

    Where labels are called by numbers, such as 1, 2, 3, a number means the label of that name.

    Raises:
        LabelError: if there are no labels, or none like that.
    """
    if not label_names:
        raise LabelError(f"label {name!r} was asked for, but there are no labels here")
    if isinstance(name, (Tensor, np.ndarray)) and name.ndim == 0:
        name = name.item()
    if isinstance(name, bool) or not isinstance(name, (str, int, np.integer)):
        raise LabelError(f"labels are names or whole numbers, not {name!r:.40}")
    if str(name) in label_names:
        return list(label_names).index(str(name))
    try:
        number = int(name)
    except ValueError:
        raise LabelError(str(UnknownName("label", name, label_names))) from None
    if not 0 <= number < len(label_names) or _are_numbers(label_names):
        raise LabelError(_out_of_range(number, label_names))
    return number


def _are_numbers(label_names: Sequence[str]) -> bool:
    """Return whether labels are called by whole numbers, all of them."""
    return all(name.removeprefix("-").isdecimal() for name in label_names)


def _out_of_range(number: int, label_names: Sequence[str]) -> str:
    known = label_names if _are_numbers(label_names) else [f"{i} {name}" for i, name in enumerate(label_names)]
    shown = ", ".join(known[:20]) + (f" and {len(known) - 20} more" if len(known) > 20 else "")
    return f"label {number} is out of range: known: {shown}"


def label_names_of(known: Sequence[Conditioner]) -> tuple[str, ...]:
    """Return the labels that conditioners know, in the order of their numbers; none without `Labels`."""
    return next((one.names for one in known if isinstance(one, Labels)), ())
