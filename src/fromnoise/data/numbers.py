"""Numbers as their user has them, as tensors."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fromnoise.errors import InputError

_PRECISE = (torch.float64, torch.int32, torch.int64, torch.uint32, torch.uint64)
"""What float32 would round: such data are kept in float64, all others in float32."""


def as_samples(what: Any) -> Tensor:
    """Return numbers `[N, *S]` as a tensor of float32, or of float64 where float32 would round them.

    Raises:
        InputError: if they are not real numbers, or some are missing.
    """
    x = _dense(what) if isinstance(what, Tensor) else _tensor(_array(what))
    if x.is_complex():
        raise InputError("data must be real numbers, not complex: give real and imaginary part as two columns")
    return x.to(torch.float64 if x.dtype in _PRECISE else torch.float32)


def as_data(what: Any, *, channels_last: bool = False) -> Tensor:
    """Return numbers `[N, *S]` as `as_samples` does; but pictures of whole numbers 0..255 stay so.

    Pictures are `[N, C, H, W]` uint8. `[N, H, W]` uint8 have one channel.

    Args:
        what: the numbers.
        channels_last: whether they are `[N, H, W, C]`.

    Raises:
        InputError: as `as_samples`; or if they are no pictures, with `channels_last`, or such pictures without.
    """
    x = _dense(what) if isinstance(what, Tensor) else _tensor(_array(what))
    if channels_last:
        if x.dim() != 4:
            raise InputError(f"channels_last is for pictures [N, H, W, C], not for data of shape {list(x.shape)}")
        x = x.movedim(3, 1).contiguous()
    x = x[:, None] if x.dtype == torch.uint8 and x.dim() == 3 else x
    if x.dim() == 4 and not channels_last and x.shape[3] <= 4 < min(x.shape[1:3]):
        raise InputError(
            f"data of shape {list(x.shape)} look like [N, H, W, C], and pictures are [N, C, H, W]: say so with "
            "channels_last=True (--set data.channels_last=true), or move the axis"
        )
    return x if x.dtype == torch.uint8 and x.dim() == 4 else as_samples(x)


def _dense(what: Tensor) -> Tensor:
    if what.layout != torch.strided or what.is_quantized or what.device.type == "meta":
        kind = "on the meta device" if what.device.type == "meta" else "quantized" if what.is_quantized else "sparse"
        raise InputError(f"data must be a plain tensor, and this one is {kind}")
    return what.detach()


def _array(what: Any) -> np.ndarray:
    if what is None:
        raise InputError("data must be an array, a frame, a list of samples or a data set's name, not None")
    if hasattr(what, "columns") and hasattr(what, "to_numpy"):
        what = what.to_numpy()
    if np.ma.isMaskedArray(what) and np.ma.is_masked(what):
        raise InputError(f"data must be whole, and {int(np.ma.getmaskarray(what).sum()):,} of its numbers are masked")
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


def sum_of(tensors: Sequence[Tensor]) -> str:
    """Return a sum of tensors' numbers, by which a change of any is noticed."""
    total = hashlib.sha256()
    for tensor in tensors:
        total.update(tensor.contiguous().cpu().numpy().data.cast("B"))
    return total.hexdigest()[:16]
