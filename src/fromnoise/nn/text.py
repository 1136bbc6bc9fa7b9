"""Texts inside a network: a small transformer of token numbers, trained along, and how what it says is attended to.

    tokens     s = table[id] + place, then blocks  s + attend(norm(s)), s + mlp(norm(s)), of real tokens alone
    pooled     V of the mean over real tokens, added to the embedding of the time
    crossing   h + W attend(q(norm h), k(s), v(s)): every place of a picture looks at every real token

A text that is not given is one learned token. What fills up a shorter text has weight 0 everywhere.
Source: Vaswani et al. 2017 (the blocks, normed before as in Xiong et al. 2020); Rombach et al. 2022, section 3.3.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from fromnoise.cond import Cond
from fromnoise.nn.attention import attend, heads_of, join_heads, split_heads
from fromnoise.nn.pictures import start_at_zero

TextSizes = tuple[Annotated[int, Field(ge=2, le=2**20)], Annotated[int, Field(ge=1, le=4096)]]
"""How many tokens there are, and how many a text has at most."""

_HEAD = 32
"""The channels of an attention head."""


class Told(NamedTuple):
    """What a network is told by texts: of one row, which all share, or of B rows.

    Attributes:
        tokens: `[., L, W]`.
        mask: which of them are real, bool `[., L]`.
        pooled: `[., E]`.
    """

    tokens: Tensor
    mask: Tensor
    pooled: Tensor


class TextBlock(nn.Module):
    """s + attend(norm(s)), then s + mlp(norm(s)), of real tokens."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = heads_of(width, _HEAD)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width))

    def forward(self, s: Tensor, mask: Tensor) -> Tensor:
        """Map tokens `[n, L, W]` to the same shape."""
        q, k, v = (split_heads(part, self.heads) for part in self.qkv(self.norm1(s)).chunk(3, dim=2))
        s = s + self.proj(join_heads(attend(q, k, v, mask)))
        return s + self.mlp(self.norm2(s))


class TextCondition(nn.Module):
    """Token numbers to what a network is told.

    Args:
        text: how many tokens there are, and how many a text has at most.
        width: W, of a token inside.
        embedding: E, of the pooled text.
        depth: the number of blocks.
    """

    def __init__(self, text: TextSizes, width: int, embedding: int, depth: int = 2) -> None:
        super().__init__()
        vocabulary, length = text
        self.table = nn.Embedding(vocabulary, width)
        self.places = nn.Parameter(nn.init.normal_(torch.empty(length, width), std=0.1))
        self.blocks = nn.ModuleList(TextBlock(width) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.null = nn.Parameter(nn.init.normal_(torch.empty(1, 1, width)))
        self.pooled = nn.Linear(width, embedding)

    def forward(self, cond: Cond | None) -> Told:
        """Return what the texts of a condition tell; one learned token where there are none."""
        if cond is None or "text" not in cond.values:
            real = torch.ones(1, 1, dtype=torch.bool, device=self.null.device)
            return Told(self.null, real, self.pooled(self.null[:, 0]))
        ids, given = cond.values["text"], cond.mask("text")
        tokens, mask = self.encoded(ids)
        if given is not None:
            here = given[:, None]
            tokens = torch.where(here[..., None], tokens, self.null)
            first = torch.arange(mask.shape[1], device=mask.device)[None] == 0
            mask = torch.where(here, mask, first)
        weights = mask[..., None].to(tokens) / mask.sum(1).clamp(min=1)[:, None, None].to(tokens)
        return Told(tokens, mask, self.pooled((tokens * weights).sum(1)))

    def encoded(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Return tokens `[n, L, W]` and which are real `[n, L]`, of token numbers `[n, L]`."""
        mask = ids != 0
        mask = torch.where(mask.any(1, keepdim=True), mask, torch.arange(ids.shape[1], device=ids.device) == 0)
        s = self.table(ids) + self.places[: ids.shape[1]]
        for block in self.blocks:
            s = block(s, mask)
        return self.norm(s), mask


class CrossAttention(nn.Module):
    """W attend(q(x), k(s), v(s)) of queries x and the real tokens s; W starts at 0.

    Args:
        channels: of the queries.
        width: of the tokens.
        heads: of the attention.
    """

    def __init__(self, channels: int, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.kv, self.out = (
            nn.Linear(channels, channels),
            nn.Linear(width, 2 * channels),
            nn.Linear(channels, channels),
        )
        start_at_zero(self.out)

    def forward(self, x: Tensor, told: Told) -> Tensor:
        """Map queries `[B, N, channels]` to the same shape."""
        q = split_heads(self.q(x), self.heads)
        k, v = (split_heads(part, self.heads) for part in self.kv(told.tokens.to(x)).chunk(2, dim=2))
        return self.out(join_heads(attend(q, k, v, told.mask)))


class Crossing(nn.Module):
    """h + attention of every place of h to the tokens."""

    def __init__(self, channels: int, width: int, head_dim: int, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm
        self.cross = CrossAttention(channels, width, heads_of(channels, head_dim))

    def forward(self, h: Tensor, told: Told) -> Tensor:
        """Map `[B, channels, H, W]` to the same shape."""
        places = self.norm(h).flatten(2).transpose(1, 2)
        return h + self.cross(places, told).transpose(1, 2).reshape(h.shape)
