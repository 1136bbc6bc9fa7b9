"""Attention, by whichever computation of it is quick where it runs."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

_FEW = 256
"""The number of tokens up to which two products and a softmax are several times as quick on a CPU as the fused call."""


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Return softmax(q k^T / sqrt(d)) v, `[B, heads, N, d]`. Source: Vaswani et al. 2017, eq. 1.

    Args:
        q: queries `[B, heads, N, d]`.
        k: keys `[B, heads, M, d]`.
        v: values `[B, heads, M, d]`.
    """
    if q.device.type == "cpu" and max(q.shape[2], k.shape[2]) <= _FEW:
        return (q * q.shape[-1] ** -0.5 @ k.transpose(2, 3)).softmax(-1) @ v
    return F.scaled_dot_product_attention(q, k, v)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """Return tokens `[B, N, heads d]` as `[B, heads, N, d]`."""
    return x.unflatten(2, (heads, -1)).transpose(1, 2)


def join_heads(x: Tensor) -> Tensor:
    """Return `[B, heads, N, d]` as tokens `[B, N, heads d]`."""
    return x.transpose(1, 2).flatten(2)
