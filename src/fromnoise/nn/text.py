"""Texts inside a network: what it is told by them, and how that is attended to.

    of token numbers, by a small transformer that is trained along:
    tokens     s = table[id] + place, then blocks  s + attend(norm(s)), s + mlp(norm(s)), of real tokens alone
    pooled     V of the mean over real tokens, added to the embedding of the time

    of the features f of a frozen encoder, the first of which is pooled:
    tokens     s = norm(W2 GELU(W1 norm(f)))
    pooled     V s of the pooled one

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

FeatureWidth = Annotated[int, Field(ge=1, le=2**16)]
"""How many numbers a frozen encoder says of a token."""

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
    """Texts to what a network is told.

    Args:
        width: W, of a token inside.
        embedding: E, of the pooled text.
    """

    def __init__(self, width: int, embedding: int) -> None:
        super().__init__()
        self.null = nn.Parameter(nn.init.normal_(torch.empty(1, 1, width)))
        self.pooled = nn.Linear(width, embedding)

    def forward(self, cond: Cond | None) -> Told:
        """Return what the texts of a condition tell; one learned token where there are none."""
        if cond is None or "text" not in cond.values:
            real = torch.ones(1, 1, dtype=torch.bool, device=self.null.device)
            return Told(self.null, real, self.pooled(self.null[:, 0]))
        given = cond.mask("text")
        tokens, mask, whole = self.encoded(cond.values["text"])
        if given is not None:
            here = given[:, None]
            tokens = torch.where(here[..., None], tokens, self.null)
            whole = torch.where(here, whole, self.null[:, 0])
            first = torch.arange(mask.shape[1], device=mask.device)[None] == 0
            mask = torch.where(here, mask, first)
        return Told(tokens, mask, self.pooled(whole))

    def encoded(self, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return tokens `[n, L, W]`, which are real `[n, L]`, at least one, and whole texts `[n, W]`."""
        raise NotImplementedError


class TokenCondition(TextCondition):
    """Token numbers to what a network is told, by a transformer that is trained along.

    Args:
        text: how many tokens there are, and how many a text has at most.
        width: W, of a token inside.
        embedding: E, of the pooled text.
        depth: the number of blocks.
    """

    def __init__(self, text: TextSizes, width: int, embedding: int, depth: int = 2) -> None:
        super().__init__(width, embedding)
        vocabulary, length = text
        self.table = nn.Embedding(vocabulary, width)
        self.places = nn.Parameter(nn.init.normal_(torch.empty(length, width), std=0.1))
        self.blocks = nn.ModuleList(TextBlock(width) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def encoded(self, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mask = _at_least_one(values != 0)
        s = self.table(values) + self.places[: values.shape[1]]
        for block in self.blocks:
            s = block(s, mask)
        tokens = self.norm(s)
        weights = mask[..., None].to(tokens) / mask.sum(1)[:, None, None].to(tokens)
        return tokens, mask, (tokens * weights).sum(1)


class FeatureCondition(TextCondition):
    """The features of a frozen encoder, the pooled one before those of the tokens, to what a network is told.

    Args:
        features: how many numbers each has.
        width: W, of a token inside.
        embedding: E, of the pooled text.
    """

    def __init__(self, features: FeatureWidth, width: int, embedding: int) -> None:
        super().__init__(width, embedding)
        self.inner = nn.Sequential(
            nn.LayerNorm(features), nn.Linear(features, width), nn.GELU(), nn.Linear(width, width), nn.LayerNorm(width)
        )

    def encoded(self, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mask = _at_least_one((values[:, 1:] != 0).any(2))
        inner = self.inner(values)
        return inner[:, 1:], mask, inner[:, 0]


def text_condition(text: TextSizes | FeatureWidth, width: int, embedding: int) -> TextCondition:
    """Return what hears token numbers, or features, by what is said of them."""
    if isinstance(text, int):
        return FeatureCondition(text, width, embedding)
    return TokenCondition(text, width, embedding)


def _at_least_one(mask: Tensor) -> Tensor:
    """Return the mask `[n, L]` with the first place of each row that has none."""
    return torch.where(mask.any(1, keepdim=True), mask, torch.arange(mask.shape[1], device=mask.device) == 0)


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
