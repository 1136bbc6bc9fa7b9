"""One function that opens every kind of data: `data.open(what)`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar, overload

import numpy as np
import torch
from pydantic import StrictBool
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from fromnoise.data.builtin import make, names
from fromnoise.data.captions import Captioning
from fromnoise.data.dataset import Dataset
from fromnoise.data.files import KINDS, is_file_name, read_file
from fromnoise.data.images import Files, PictureSettings, Progress, is_pictures
from fromnoise.data.numbers import as_data
from fromnoise.data.source import Source
from fromnoise.data.views import Seen
from fromnoise.deprecated import alias
from fromnoise.errors import InputError, UnknownName

_Given = TypeVar("_Given", bound=Source)


@overload
def open(  # pyright: ignore[reportOverlappingOverload]
    what: _Given, name: str = ..., *, settings: Mapping[str, Any] = ..., progress: Progress | None = ...
) -> _Given: ...
@overload
def open(
    what: Any, name: str = ..., *, settings: Mapping[str, Any] = ..., progress: Progress | None = ...
) -> Dataset: ...
def open(
    what: Any,
    name: str = "data",
    *,
    settings: Mapping[str, Any] = MappingProxyType({}),
    progress: Progress | None = None,
) -> Dataset | Source:
    """Return data as a data set, or as a source of pictures that are read from the disk.

    Args:
        what: a built-in data set's name; a folder of pictures, or its .tar, .tar.gz, .tgz or .zip, whose sub-folders
            are labels; a file of numbers (.csv, .tsv, .npy or .npz); an array, tensor, frame of numbers or list
            `[N, *S]`; a pair of these and N labels or vectors; a `torch.utils.data.Dataset` of samples, or of samples
            and labels, or its loader; or a data set or another source, which is returned as it is.
        name: what to call data that have no name.
        settings: n and seed of a built-in data set; size, fit, background and strict of pictures in files;
            channels_last of arrays of pictures; flip, from_size, from_noise, captions, caption_column and text_encoder
            of all pictures.
        progress: called with the pictures done, while they are decoded for the first time.

    Raises:
        InputError: if it cannot be read as data.
        UnknownName: if there is no data set of that name.
    """
    if isinstance(what, Dataset | Source):  # in this order: the second looks at every property
        if settings:
            raise InputError(f"data.{min(settings)} is for data that are yet to be opened, and these are open")
        return what
    if isinstance(what, str) and what in names():
        seen, own = _InMemory.among(settings)
        odd = next((key for key in own if key in PictureSettings.model_fields), None)
        if odd is not None:
            raise InputError(f"data.{odd} is for pictures in files, and {what} is built in")
        return seen.of(make({"name": what, **own}))
    if is_pictures(what):
        given = PictureSettings(**settings)
        return given.of(Files(what, given, progress=progress))
    if isinstance(what, str) and not is_file_name(what):
        if Path(what).parent.name or what.endswith(("/", "\\")):
            raise InputError(f"{what}: there is no such file or folder")
        more = f"; or a folder of pictures, or a file of numbers: {', '.join(KINDS)}"
        raise UnknownName("data set", what, names(), more)
    array, others = _ArraySettings.among(settings)
    if others:
        odd, known = min(others), ", ".join(_ArraySettings.model_fields)
        what_for = "built-in data" if odd in ("n", "seed") else "pictures in files"
        raise InputError(f"data.{odd} is for {what_for}: of an array can be set: {known}")
    return array.of(_of_numbers(what, name, array.channels_last))


class _InMemory(Seen, Captioning):
    """What may be said of pictures in memory."""

    def of(self, source: Any) -> Any:
        if self.captions:
            source = source.captioned(self.of_samples(len(source)), self.text_encoder or None)
        else:
            self.check_used()
        return super().of(source)


class _ArraySettings(_InMemory):
    """What may be said of arrays of pictures."""

    channels_last: StrictBool = False


OF_DATA = frozenset([*PictureSettings.model_fields, *_ArraySettings.model_fields])
"""What can be said of pictures when they are opened."""


def _of_numbers(what: Any, name: str, last: bool) -> Dataset:
    """Return data in memory, or in a file of numbers, as a data set; pictures may have their channels last."""
    if is_file_name(what):
        x, cond = read_file(Path(what))
        try:
            dataset = Dataset(as_data(x, channels_last=last), name=Path(what).stem)
            return dataset if cond is None else dataset.conditioned(cond)
        except InputError as error:
            raise InputError(f"{what}: {error}") from None
    if isinstance(what, DataLoader):
        what = what.dataset
    if isinstance(what, TorchDataset):
        return _of_items(what, name)
    if isinstance(what, tuple) and len(what) == 2 and np.ndim(what[0]) >= 2:
        return _of_numbers(what[0], name, last).conditioned(what[1])
    return Dataset(as_data(what, channels_last=last), name=name)


def _of_items(items: Any, name: str) -> Dataset:
    """Read a torch data set item by item."""
    try:
        read = [items[k] for k in range(len(items))]
    except (TypeError, NotImplementedError) as error:
        raise InputError(f"a torch data set must have a length and give items by number: {error}") from None
    if read and isinstance(read[0], (tuple, list)):
        lengths = {len(item) for item in read}
        if not lengths <= {1, 2} or len(lengths) > 1:
            raise InputError(
                f"an item of a torch data set is a sample, or a sample and its label, not {max(lengths)} things"
            )
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
    return as_data(np.stack([np.asarray(item) for item in items]))


alias(Dataset, "of", "data.open", open)
