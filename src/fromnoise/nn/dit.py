"""The diffusion transformer (Peebles & Xie 2023), with the published names of its parameters.

    tokens      a linear map of each p x p patch, plus a fixed embedding of its place
    e           MLP(cos, sin of the timestep) + label, one row where all rows share time and label
    block       x + conv(x) over each token and its eight neighbours, where `local`; then
                x + g1 attend((1 + a1) norm(x) + b1), then x + g2 mlp((1 + a2) norm(x) + b2),
                with [b1, a1, g1, b2, a2, g2] = V SiLU(e)
    output      a linear map of (1 + a) norm(x) + b back to the patch's pixels

V starts at 0 in every block, so that a block starts as the identity ("adaLN-Zero"), and the output starts at 0.
Source: Peebles & Xie 2023, section 3 and table 1. The names are those of facebookresearch/DiT, whose weights load as
they are where `local` is False. Queries and keys may be normed, each head on its own (Henry et al. 2020), for higher
learning rates. The convolution tells tokens what is beside them from the first step on, which attention alone has to
learn (Chu et al. 2023, "Conditional positional encodings for vision transformers"). It starts at 0, channel by channel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from fromnoise.cond import Cond
from fromnoise.errors import ConfigError
from fromnoise.nn.attention import attend, join_heads, split_heads
from fromnoise.nn.embed import ScaleEmbedding, Scales, SinusoidalEmbedding, embed_given, timestep
from fromnoise.nn.mlp import Count
from fromnoise.nn.network import Network, networks
from fromnoise.nn.pictures import (
    Range,
    Shape,
    Width,
    are_tiny,
    beside,
    check_divisible,
    fitting_patch,
    start_at_zero,
    through,
)
from fromnoise.nn.text import CrossAttention, FeatureWidth, TextSizes, Told, text_condition

_FREQUENCIES = 256
"""The width of the timestep's sines and cosines."""

_EPS = 1e-6
"""Of every layer norm."""

_ACTIVATIONS = {"gelu": nn.GELU(approximate="tanh"), "silu": nn.SiLU()}


class PatchEmbed(nn.Module):
    """A linear map of each patch."""

    def __init__(self, channels: int, patch: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, width, patch, stride=patch)
        nn.init.xavier_uniform_(self.proj.weight.view(width, -1))

    def forward(self, x: Tensor) -> Tensor:
        """Map `[B, C, H, W]` to tokens `[B, N, width]`."""
        return self.proj(x).flatten(2).transpose(1, 2).contiguous()  # or every layer norm would copy them


class TimestepEmbedder(nn.Module):
    """MLP(cos, sin of the timestep)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.frequencies = SinusoidalEmbedding(_FREQUENCIES, cos_first=True)
        self.mlp = nn.Sequential(nn.Linear(_FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, t: float | Tensor, like: Tensor) -> Tensor:
        """Embed timesteps, a float, `[]` or `[B]`, as `[1, E]` or `[B, E]`."""
        return self.mlp(self.frequencies(t, like=like))


class ConditionEmbedder(nn.Module):
    """table[label] + V vector, as far as they are given; the table's last row where nothing is."""

    def __init__(self, width: int, classes: int, dim: int, guidance: Scales | None) -> None:
        super().__init__()
        self.embedding_table = nn.Embedding(classes + 1, width)
        self.vector = nn.Linear(dim, width, bias=False) if dim else None
        self.guidance = None if guidance is None else ScaleEmbedding(width, guidance)

    def forward(self, cond: Cond | None) -> Tensor:
        """Embed a condition of one row as `[1, E]`, of B rows as `[B, E]`."""
        table = self.embedding_table
        e = embed_given(cond, {"label": table, "vector": self.vector}, table.weight[-1:])
        return e if self.guidance is None else e + self.guidance(cond)


class SelfAttention(nn.Module):
    """proj(attend(q, k, v)) with [q, k, v] = qkv(x)."""

    def __init__(self, width: int, heads: int, qk_norm: bool) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.q_norm, self.k_norm = (
            nn.LayerNorm(width // heads, eps=_EPS, bias=False) if qk_norm else nn.Identity() for _ in range(2)
        )
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map tokens `[B, N, width]` to the same shape; of which those count that a mask `[B, N]` says."""
        q, k, v = (split_heads(part, self.heads) for part in self.qkv(x).chunk(3, dim=2))
        return self.proj(join_heads(attend(self.q_norm(q), self.k_norm(k), v, mask)))


class MLPBlock(nn.Module):
    """fc2(act(fc1(x)))."""

    def __init__(self, width: int, inner: int, activation: str) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, inner), nn.Linear(inner, width)
        self.act = _ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens `[B, N, width]` to the same shape."""
        return self.fc2(self.act(self.fc1(x)))


def modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Return (1 + scale) norm(x) + shift for tokens `[B, N, width]`; scale and shift are `[B or 1, width]`."""
    x = x.to(shift)  # under autocast bfloat16, as the linear map that follows takes it
    return torch.addcmul(shift[:, None], F.layer_norm(x, x.shape[-1:], eps=_EPS), 1 + scale[:, None])


class Neighbours(nn.Module):
    """x + conv(x), a 3 x 3 convolution of each channel of the patches, which lie in a grid."""

    def __init__(self, width: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.grid = grid
        self.conv = nn.Conv2d(width, width, 3, padding=1, groups=width)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens `[B, N, width]`, the last of which are patches, to the same shape."""
        before, patches = x.split([x.shape[1] - math.prod(self.grid), math.prod(self.grid)], dim=1)
        moved = self.conv(patches.transpose(1, 2).unflatten(2, self.grid)).flatten(2).transpose(1, 2)
        return torch.cat([before, patches + moved], dim=1) if before.shape[1] else patches + moved


class DiTBlock(nn.Module):
    """Attention and an MLP, each scaled and shifted by e before, and scaled by it after.

    Where asked for, a convolution of neighbours comes before them, and attention to texts between.
    """

    def __init__(
        self, width: int, heads: int, inner: int, *, qk_norm: bool, activation: str, text: bool = False,
        grid: tuple[int, int] | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.local = None if grid is None else Neighbours(width, grid)
        self.attn = SelfAttention(width, heads, qk_norm)
        self.cross = CrossAttention(width, width, heads) if text else None
        self.mlp = MLPBlock(width, inner, activation)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))

    def forward(self, x: Tensor, e: Tensor, told: Told | None = None, mask: Tensor | None = None) -> Tensor:
        """Map tokens x `[B, N, width]` to the same shape, with e `[1, width]` or `[B, width]`.

        Args:
            x: of which those count that the mask `[B, N]` says.
            e: the embedding of time and condition.
            told: the texts that are attended to.
            mask: all count where it is not given.
        """
        x = x if self.local is None else self.local(x)
        b1, a1, g1, b2, a2, g2 = self.adaLN_modulation(e).chunk(6, dim=1)
        x = torch.addcmul(x, g1[:, None], self.attn(modulated(x, b1, a1), mask))
        if self.cross is not None and told is not None:
            x = x + self.cross(F.layer_norm(x, x.shape[-1:], eps=_EPS), told)
        return torch.addcmul(x, g2[:, None], self.mlp(modulated(x, b2, a2)))


class FinalLayer(nn.Module):
    """A linear map of the modulated tokens to their patches' pixels."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, out)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        """Map tokens `[B, N, width]` to `[B, N, out]`."""
        shift, scale = self.adaLN_modulation(e).chunk(2, dim=1)
        return self.linear(modulated(x, shift, scale))


@networks.register("dit")
class DiT(Network):
    """A transformer of a picture's patches, the timestep and, optionally, a label or a condition vector.

    With labels its `y_embedder.embedding_table` has one row more than there are labels, the last for no label.

    Args:
        shape: channels, height and width of a picture.
        width: of a token; left out for 96 below 12 pixels and 128 above.
        depth: the number of blocks; left out for 4 below 12 pixels and 5 above.
        heads: of the attention.
        patch: the side of a patch; 0 for what suits the size, 2 below 28 pixels, 4 below 56, and so on; of odd
            sides 1.
        mlp_ratio: the MLPs' inner width, in widths of a token.
        qk_norm: norm queries and keys, which the published sizes do not.
        activation: of the MLPs, GELU by its tanh approximation.
        local: a convolution of each patch and its neighbours before every block. The published networks have none: to
            load their weights give False.
        log_snr: of a continuous schedule, its highest and lowest log SNR, between which timesteps are spread; left out
            for a table.
        classes: the number of labels; 0 for none.
        cond_dim: the length of a condition vector; 0 for none.
        text: of captions that are the condition, how many tokens there are and how many a text has, or the width of the
            features that a frozen encoder makes of them; left out for none.
        text_by: how texts reach the patches: "cross", by attention to them in every block, or "joint", as tokens beside
            the patches.
        image: the shape of a picture that is the condition, such as a smaller one; left out for none.
        guidance: the lowest and highest guidance scale that is a condition, as distilling makes it; left out for none.
        learned_variance: also predict the variance of a step, in the second half of the output's channels.
    """

    pos_embed: Tensor

    can_checkpoint = True
    chunk_rows = 64
    ends = ("x_embedder.proj", "final_layer.linear")
    modulators = ("t_embedder", "y_embedder", "adaLN_modulation")

    def __init__(
        self,
        shape: Shape,
        width: Width | None = None,
        depth: Annotated[int, Field(ge=1, le=256)] | None = None,
        heads: Annotated[int, Field(ge=1, le=256)] = 2,
        *,
        patch: Annotated[int, Field(ge=0, le=64)] = 0,
        mlp_ratio: Annotated[float, Field(gt=0, le=64)] = 4.0,
        qk_norm: bool = True,
        activation: Literal["gelu", "silu"] = "silu",
        local: bool = True,
        log_snr: Range | None = None,
        classes: Count = 0,
        cond_dim: Count = 0,
        image: Shape | None = None,
        text: TextSizes | FeatureWidth | None = None,
        text_by: Literal["cross", "joint"] = "cross",
        guidance: Scales | None = None,
        learned_variance: bool = False,
    ) -> None:
        super().__init__()
        width, depth = width or (96 if are_tiny(shape) else 128), depth or (4 if are_tiny(shape) else 5)
        self.image, self.guidance, self.text, self.text_by = image, guidance, text, text_by
        self.shape, self.classes, self.cond_dim, self.learned_variance = shape, classes, cond_dim, learned_variance
        self.patch = patch = fitting_patch(shape, patch, across=7, least=2)
        self.log_snr = log_snr
        if width % (4 * heads):
            raise ConfigError(f"network.width must be a multiple of 4 x {heads} heads, and {width} is not")
        check_divisible(f"a transformer of patches of {patch}", shape, patch, "set network.patch")
        channels, height, across = shape
        self.x_embedder = PatchEmbed(channels + (0 if image is None else image[0]), patch, width)
        self.t_embedder = TimestepEmbedder(width)
        any_of = bool(classes or cond_dim or guidance)
        self.y_embedder = ConditionEmbedder(width, classes, cond_dim, guidance) if any_of else None
        self.texts = None if text is None else text_condition(text, width, width)
        grid = height // patch, across // patch
        self.register_buffer("pos_embed", _places(*grid, width))
        self.blocks = nn.ModuleList(
            DiTBlock(
                width, heads, int(width * mlp_ratio), qk_norm=qk_norm, activation=activation,
                text=text is not None and text_by == "cross", grid=grid if local else None,
            )
            for _ in range(depth)
        )  # fmt: skip
        self.final_layer = FinalLayer(width, patch**2 * channels * (2 if learned_variance else 1))
        self._initialize()

    def _initialize(self) -> None:
        """Give the weights the values the paper's code gives them; but labels have std 1, so that they are heard."""
        for name, layer in self.named_modules():
            if isinstance(layer, Neighbours):
                start_at_zero(layer)
            if not isinstance(layer, nn.Linear):
                continue
            if "t_embedder" in name:
                nn.init.normal_(layer.weight, std=0.02)
            elif any(part in name for part in ("adaLN_modulation", "final_layer", "guidance", "cross.out")):
                start_at_zero(layer)
            else:
                nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:  # pyright: ignore[reportUnnecessaryComparison] it may be
                nn.init.zeros_(layer.bias)

    @classmethod
    def published(
        cls, size: Literal["S", "B", "L", "XL"], shape: Sequence[int], patch: int = 2, **settings: Any
    ) -> DiT:
        """Return a network of the paper's size: not `local`, without norms of queries and keys, its variance learned.

        Args:
            size: S, B, L or XL.
            shape: channels, height and width of a picture; (4, 32, 32) in the paper.
            patch: 2, 4 or 8 in the paper.
            settings: any other; `learned_variance=False` for one output for each channel.

        Source: Peebles & Xie 2023, table 1.
        """
        sizes = {"S": (12, 384, 6), "B": (12, 768, 12), "L": (24, 1024, 16), "XL": (28, 1152, 16)}
        if size not in sizes:
            raise ConfigError(f"a published size is {', '.join(sizes)}, not {size!r}")
        depth, width, heads = sizes[size]
        usual = {"qk_norm": False, "activation": "gelu", "local": False, "learned_variance": True}
        return cls(tuple(shape), width, depth, heads, patch=patch, **{**usual, **settings})  # pyright: ignore[reportArgumentType]

    def forward(self, x: Tensor, c_noise: float | Tensor, cond: Cond | None = None) -> Tensor:
        e = self.t_embedder(timestep(c_noise, self.log_snr), like=x)
        e = e if self.y_embedder is None else e + self.y_embedder(cond)
        tokens = self.x_embedder(beside(x, cond, self.image)) + self.pos_embed
        told = None if self.texts is None else self.texts(cond)
        e = e if told is None else e + told.pooled
        count, mask = tokens.shape[1], None
        if told is not None and self.text_by == "joint":
            own = told.mask.new_ones(1, count)
            mask = torch.cat([told.mask, own.expand(len(told.mask), -1)], dim=1)
            tokens = torch.cat([told.tokens.to(tokens).expand(len(tokens), -1, -1), tokens], dim=1)
        for block in self.blocks:
            tokens = through(block, tokens, e, told, mask, checkpointing=self.checkpointing)
        return self._unpatched(self.final_layer(tokens[:, -count:], e))

    def _unpatched(self, tokens: Tensor) -> Tensor:
        """Return tokens `[B, N, p p C]`, a patch's channels last, as pictures `[B, C, H, W]`."""
        _, height, width = self.shape
        p = self.patch
        x = tokens.unflatten(2, (p, p, -1)).unflatten(1, (height // p, width // p))
        return x.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)


def _places(height: int, width: int, dim: int) -> Tensor:
    """Return the fixed embedding of places, `[1, height width, dim]`: sin and cos of the column, then of the row."""
    freqs = torch.arange(dim // 4, dtype=torch.float64).mul_(-4 * math.log(10_000) / dim).exp_()
    row, column = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    angles = [place.flatten()[:, None] * freqs for place in (column, row)]
    return torch.cat([part for angle in angles for part in (angle.sin(), angle.cos())], dim=1).float()[None]
