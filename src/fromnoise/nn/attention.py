"""Attention, by whichever computation of it is quick where it runs."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_FEW = 256
"""The number of tokens up to which two products and a softmax are several times as quick on a CPU as the fused call."""


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return softmax(q k^T / sqrt(d)) v, `[B, heads, N, d]`. Source: Vaswani et al. 2017, eq. 1.

    Args:
        q: queries `[B, heads, N, d]`.
        k: keys `[B, heads, M, d]`.
        v: values `[B, heads, M, d]`.
        mask: which keys count, bool `[B, M]` or `[1, M]`, one at least of each row; all when not given.
    """
    keys = None if mask is None else mask[:, None, None]
    if q.device.type == "cpu" and max(q.shape[2], k.shape[2]) <= _FEW:
        scores = q * q.shape[-1] ** -0.5 @ k.transpose(2, 3)
        scores = scores if keys is None else scores.masked_fill(~keys, -torch.inf)
        return scores.softmax(-1) @ v
    rows = (len(q), *k.shape[1:])
    return F.scaled_dot_product_attention(q, k.expand(rows), v.expand(rows), attn_mask=keys)


def heads_of(channels: int, head_dim: int) -> int:
    """Return into how many heads of about `head_dim` channels these can be divided."""
    heads = max(1, channels // head_dim)
    while channels % heads:
        heads -= 1
    return heads


def split_heads(x: Tensor, heads: int) -> Tensor:
    """Return tokens `[B, N, heads d]` as `[B, heads, N, d]`."""
    return x.unflatten(2, (heads, -1)).transpose(1, 2)


def join_heads(x: Tensor) -> Tensor:
    """Return `[B, heads, N, d]` as tokens `[B, N, heads d]`."""
    return x.transpose(1, 2).flatten(2)
