"""Residual blocks, attention and changes of size under their published names, which are those of diffusers.

The networks whose weights are to open in diffusers are built of them: `UNetDDPM`, `KLAutoencoder`.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from fromnoise.errors import ConfigError
from fromnoise.nn.attention import attend, join_heads, split_heads
from fromnoise.nn.pictures import DoublingConv, start_at_zero


class ResnetBlock(nn.Module):
    """shortcut(h) + conv2(dropout(SiLU(norm2(conv1(SiLU(norm1(h))) + V SiLU(e))))); without V where E is 0."""

    def __init__(
        self, channels: int, out: int, embedding: int = 0, *, groups: int, eps: float = 1e-6, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, channels, eps)
        self.conv1 = nn.Conv2d(channels, out, 3, padding=1)
        self.time_emb_proj = nn.Linear(embedding, out) if embedding else None
        self.norm2 = nn.GroupNorm(groups, out, eps)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(channels, out, 1) if channels != out else None
        start_at_zero(self.conv2)

    def forward(self, h: Tensor, e: Tensor | None = None) -> Tensor:
        """Map h `[B, channels, H, W]` to `[B, out, H, W]`, with SiLU(e) `[1, E]` or `[B, E]`."""
        inner = self.conv1(F.silu(self.norm1(h)))
        if self.time_emb_proj is not None:
            inner = inner + self.time_emb_proj(e)[:, :, None, None]
        inner = self.conv2(self.dropout(F.silu(self.norm2(inner))))
        return inner + (h if self.conv_shortcut is None else self.conv_shortcut(h))


class AttentionBlock(nn.Module):
    """h + to_out(attend(q, k, v)) of group-normed h at every place."""

    def __init__(self, channels: int, head_dim: int, groups: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.heads = channels // (head_dim or channels)
        self.group_norm = nn.GroupNorm(groups, channels, eps)
        self.to_q, self.to_k, self.to_v = (nn.Linear(channels, channels) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])
        start_at_zero(self.to_out)

    def forward(self, h: Tensor) -> Tensor:
        """Map `[B, channels, H, W]` to the same shape."""
        tokens = self.group_norm(h.flatten(2)).transpose(1, 2)
        q, k, v = (split_heads(part(tokens), self.heads) for part in (self.to_q, self.to_k, self.to_v))
        return h + self.to_out[0](join_heads(attend(q, k, v))).transpose(1, 2).reshape(h.shape)


class Downsample(nn.Module):
    """A 3 x 3 convolution of stride 2; without padding of its own, a row and a column of zeros follow."""

    def __init__(self, channels: int, padding: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=padding)
        self.extra = 0 if padding else 1

    def forward(self, h: Tensor) -> Tensor:
        """Map `[B, C, H, W]` to `[B, C, H/2, W/2]`."""
        return self.conv(F.pad(h, (0, self.extra, 0, self.extra)) if self.extra else h)


class Upsample(nn.Module):
    """Twice the size, every place repeated, and a 3 x 3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = DoublingConv(channels, channels)

    def forward(self, h: Tensor) -> Tensor:
        """Map `[B, C, H, W]` to `[B, C, 2 H, 2 W]`."""
        return self.conv(h)


class Stage(nn.Module):
    """Residual blocks, each followed by attention where wanted."""

    def __init__(self, blocks: Sequence[nn.Module], attentions: Sequence[nn.Module]) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(blocks)
        if attentions:  # or an empty list would be a name that diffusers does not have
            self.attentions = nn.ModuleList(attentions)

    def steps(self) -> list[tuple[nn.Module, nn.Module]]:
        """Return each block and its attention."""
        none = [nn.Identity()] * len(self.resnets)
        return list(zip(self.resnets, [*getattr(self, "attentions", ()), *none], strict=False))


class Middle(Stage):
    """A block, attention where wanted, a block."""

    def forward(self, h: Tensor, e: Tensor | None = None) -> Tensor:
        """Map h to the same shape."""
        (first, attention), (second, _) = self.steps()
        return second(attention(first(h, e)), e)


def check_widths(widths: Sequence[int], groups: int, head_dim: int = 0) -> None:
    """Refuse widths that group norms or attention heads cannot divide.

    Raises:
        ConfigError: naming the width.
    """
    for width in widths:
        if width % groups:
            raise ConfigError(f"network.widths: {width} cannot be divided into {groups} groups: set network.groups")
        if head_dim and width % head_dim:
            raise ConfigError(f"network.widths: {width} cannot be divided into heads of {head_dim}: set head_dim")
