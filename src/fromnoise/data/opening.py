"""One function that opens every kind of data: `data.open(what)`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeVar, overload

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from fromnoise.data.dataset import Dataset
from fromnoise.data.points import make, names
from fromnoise.data.source import Source
from fromnoise.deprecated import alias
from fromnoise.errors import InputError, UnknownName

_PRECISE = (torch.float64, torch.int32, torch.int64, torch.uint32, torch.uint64)
"""What float32 would round: such data are kept in float64, all others in float32."""


_Given = TypeVar("_Given", bound=Source)


@overload
def open(what: _Given, name: str = ..., *, settings: Mapping[str, Any] = ...) -> _Given: ...  # pyright: ignore[reportOverlappingOverload]
@overload
def open(what: Any, name: str = ..., *, settings: Mapping[str, Any] = ...) -> Dataset: ...
def open(what: Any, name: str = "data", *, settings: Mapping[str, Any] = MappingProxyType({})) -> Dataset | Source:
    """Return data as a data set.

    Args:
        what: a built-in data set's name; an array, tensor, frame of numbers or list `[N, *S]`; a pair of these and N
            labels or vectors; a `torch.utils.data.Dataset` of samples, or of samples and labels; or a data set or
            another source, which is returned as it is.
        name: what to call data that have no name.
        settings: of a built-in data set, its n and seed.

    Raises:
        InputError: if it cannot be read as data.
        UnknownName: if there is no data set of that name.
    """
    if isinstance(what, Dataset | Source):  # in this order: the second looks at every property
        return what
    if isinstance(what, str):
        if what not in names():
            raise UnknownName("data set", what, names())
        return make({"name": what, **settings})
    if isinstance(what, TorchDataset):
        return _of_items(what, name)
    if isinstance(what, tuple) and len(what) == 2 and np.ndim(what[0]) >= 2:
        return open(what[0], name).conditioned(what[1])
    return Dataset(_samples(what), name=name)


def _of_items(items: Any, name: str) -> Dataset:
    """Read a torch data set item by item."""
    try:
        read = [items[k] for k in range(len(items))]
    except (TypeError, NotImplementedError) as error:
        raise InputError(f"a torch data set must have a length and give items by number: {error}") from None
    if read and isinstance(read[0], (tuple, list)):
        if len(read[0]) == 1:
            return Dataset(_stacked([item[0] for item in read]), name=name)
        labels = [item[1].item() if isinstance(item[1], Tensor) and item[1].dim() == 0 else item[1] for item in read]
        vectors = isinstance(labels[0], Tensor)
        return Dataset(_stacked([item[0] for item in read]), name=name).conditioned(
            torch.stack(labels) if vectors else labels
        )
    return Dataset(_stacked(read), name=name)


def _stacked(items: Sequence[Any]) -> Tensor:
    shapes = {tuple(np.shape(item)) for item in items}
    if len(shapes) > 1:
        first, second, *_ = sorted(shapes)
        raise InputError(f"samples must have one shape, and there are {list(first)} and {list(second)}")
    return _samples([np.asarray(item) for item in items])


def _samples(what: Any) -> Tensor:
    """Return numbers `[N, *S]` as a tensor of float32, or of float64 where float32 would round them."""
    x = what.detach() if isinstance(what, Tensor) else _tensor(_array(what))
    if x.is_complex():
        raise InputError("data must be real numbers, not complex: give real and imaginary part as two columns")
    return x.to(torch.float64 if x.dtype in _PRECISE else torch.float32)


def _array(what: Any) -> np.ndarray:
    if what is None:
        raise InputError("data must be an array, a frame, a list of samples or a data set's name, not None")
    if hasattr(what, "columns") and hasattr(what, "to_numpy"):
        what = what.to_numpy()
    try:
        array = np.asarray(what)
    except (ValueError, TypeError):
        raise InputError("data must be [N, *S]: these samples differ in length") from None
    if array.dtype.kind not in "biufc":
        kinds = {"O": "objects of several kinds", "U": "text", "S": "bytes", "M": "dates", "m": "durations"}
        raise InputError(
            f"data must be numbers, and these are {kinds.get(array.dtype.kind, str(array.dtype))}: "
            "give an array of numbers, and labels apart, as a pair (x, labels)"
        )
    return array


def _tensor(array: np.ndarray) -> Tensor:
    """Return an array of any layout, byte order or width of float as a tensor of its own memory."""
    kind = np.float64 if array.dtype.kind == "f" and array.dtype.itemsize > 8 else array.dtype.newbyteorder("=")
    return torch.from_numpy(np.array(array, dtype=kind, order="C"))


alias(Dataset, "of", "data.open", open)
