"""The U-Net of DDPM in its published layout, so that its weights are those of diffusers' `UNet2DModel`, key for key.

    down    each level: residual blocks, perhaps each with attention; then a 3 x 3 convolution of stride 2
    middle  block, attention, block
    up      each level: one block more than down, each of [h, the last thing said on the way down]; then twice the size
    e       MLP(sin, cos of the timestep) + label; a block adds V SiLU(e) between its convolutions

Source: Ho et al. 2020, section 4 and appendix B. The modules' names are diffusers' (`UNet2DModel`, 0.42).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from fromnoise.cond import Cond
from fromnoise.nn.embed import ScaleEmbedding, Scales, SinusoidalEmbedding, embed_given, timestep
from fromnoise.nn.mlp import Count
from fromnoise.nn.network import Network, networks
from fromnoise.nn.pictures import Range, Shape, Width, check_divisible, start_at_zero, through
from fromnoise.nn.resnet import AttentionBlock, Downsample, Middle, ResnetBlock, Stage, Upsample, check_widths


class TimestepMLP(nn.Module):
    """linear_2(SiLU(linear_1(x)))."""

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(dim, width)
        self.linear_2 = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[B, dim]` to `[B, width]`."""
        return self.linear_2(F.silu(self.linear_1(x)))


class Down(Stage):
    """A level on the way down."""

    def __init__(self, blocks: Sequence[nn.Module], attentions: Sequence[nn.Module], *resize: nn.Module) -> None:
        super().__init__(blocks, attentions)
        if resize:
            self.downsamplers = nn.ModuleList(resize)

    def forward(self, h: Tensor, e: Tensor, checkpointing: bool = False) -> list[Tensor]:
        """Return h after each block, and after the change of size."""
        said = [h]
        for block, attention in self.steps():
            said.append(attention(through(block, said[-1], e, checkpointing=checkpointing)))
        for resize in getattr(self, "downsamplers", ()):
            said.append(resize(said[-1]))
        return said[1:]


class Up(Stage):
    """A level on the way up."""

    def __init__(self, blocks: Sequence[nn.Module], attentions: Sequence[nn.Module], *resize: nn.Module) -> None:
        super().__init__(blocks, attentions)
        if resize:
            self.upsamplers = nn.ModuleList(resize)

    def forward(self, h: Tensor, e: Tensor, said: list[Tensor], checkpointing: bool = False) -> Tensor:
        """Return h at the next size; each block takes the last of what the way down said, from `said`."""
        for block, attention in self.steps():
            both = torch.cat([h, said.pop()], dim=1)
            h = attention(through(block, both, e, checkpointing=checkpointing))
        for resize in getattr(self, "upsamplers", ()):
            h = resize(h)
        return h


@networks.register("unet-ddpm")
class UNetDDPM(Network):
    """DDPM's U-Net of pictures, the timestep and, optionally, a label or a condition vector.

    With labels its `class_embedding` has one row more than there are labels, the last for no label.

    Args:
        shape: channels, height and width of a picture.
        widths: the number of channels at each level, from the finest.
        blocks: the residual blocks of a level on the way down; on the way up one more.
        attention: the levels that have attention, 0 the finest, -1 the coarsest; the middle always has.
        head_dim: the channels of an attention head; 0 for a single head.
        groups: of every group norm.
        norm_eps: of every group norm.
        cos_first: put the cosines of the timestep before its sines.
        freq_shift: 1 for DDPM's frequencies, 0 for those of Vaswani et al.
        downsample_padding: 1, or 0 for a row and a column of zeros at the end.
        dropout: in each residual block.
        log_snr: of a continuous schedule, its highest and lowest log SNR, between which timesteps are spread; left out
            for a table.
        classes: the number of labels; 0 for none.
        cond_dim: the length of a condition vector; 0 for none.
        guidance: the lowest and highest guidance scale that is a condition, as distilling makes it; left out for none.
        learned_variance: also predict the variance of a step, in the second half of the output's channels.
    """

    can_checkpoint = True
    chunk_rows = 64
    ends = ("conv_in", "conv_out")

    def __init__(
        self,
        shape: Shape,
        widths: Annotated[tuple[Width, ...], Field(min_length=1, max_length=8)] = (64, 128),
        blocks: Annotated[int, Field(ge=1, le=16)] = 2,
        *,
        attention: tuple[Annotated[int, Field(ge=-8, le=7)], ...] = (-1,),
        head_dim: Annotated[int, Field(ge=0, le=2**14)] = 0,
        groups: Width = 32,
        norm_eps: Annotated[float, Field(gt=0, lt=1)] = 1e-6,
        cos_first: bool = False,
        freq_shift: Annotated[int, Field(ge=0, le=1)] = 1,
        downsample_padding: Annotated[int, Field(ge=0, le=1)] = 1,
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0,
        log_snr: Range | None = None,
        classes: Count = 0,
        cond_dim: Count = 0,
        guidance: Scales | None = None,
        learned_variance: bool = False,
    ) -> None:
        super().__init__()
        self.shape, self.classes, self.cond_dim, self.learned_variance = shape, classes, cond_dim, learned_variance
        self.log_snr, self.guidance = log_snr, guidance
        levels, embedding = len(widths), 4 * widths[0]
        check_widths(widths, groups, head_dim)
        check_divisible(f"a U-Net of {levels} levels", shape, 2 ** (levels - 1), "set network.widths")
        attending = {level % levels for level in attention if -levels <= level < levels}

        def block(channels: int, out: int) -> nn.Module:
            return ResnetBlock(channels, out, embedding, groups=groups, eps=norm_eps, dropout=dropout)

        def attends(level: int, count: int) -> list[nn.Module]:
            few = range(count if level in attending else 0)
            return [AttentionBlock(widths[level], head_dim, groups, norm_eps) for _ in few]

        self.conv_in = nn.Conv2d(shape[0], widths[0], 3, padding=1)
        self.time_proj = SinusoidalEmbedding(widths[0], shift=freq_shift, cos_first=cos_first)
        self.time_embedding = TimestepMLP(widths[0], embedding)
        any_of = bool(classes or cond_dim or guidance)
        self.class_embedding = nn.Embedding(classes + 1, embedding) if any_of else None
        self.vector_embedding = nn.Linear(cond_dim, embedding, bias=False) if cond_dim else None
        self.guidance_embedding = None if guidance is None else ScaleEmbedding(embedding, guidance)
        self.down_blocks, said = nn.ModuleList(), [widths[0]]
        for level, width in enumerate(widths):
            before = widths[max(level - 1, 0)]
            resize = [Downsample(width, downsample_padding)] if level < levels - 1 else []
            own = [block(before if k == 0 else width, width) for k in range(blocks)]
            self.down_blocks.append(Down(own, attends(level, blocks), *resize))
            said += [width] * (blocks + len(resize))
        self.mid_block = Middle(
            [block(widths[-1], widths[-1]) for _ in range(2)],
            [AttentionBlock(widths[-1], head_dim, groups, norm_eps)],
        )
        self.up_blocks, channels = nn.ModuleList(), widths[-1]
        for level, width in reversed(list(enumerate(widths))):
            own = [block((width if k else channels) + said.pop(), width) for k in range(blocks + 1)]
            self.up_blocks.append(Up(own, attends(level, blocks + 1), *([Upsample(width)] if level else [])))
            channels = width
        self.conv_norm_out = nn.GroupNorm(groups, widths[0], norm_eps)
        self.conv_out = nn.Conv2d(widths[0], shape[0] * (2 if learned_variance else 1), 3, padding=1)
        start_at_zero(self.conv_out)

    def forward(self, x: Tensor, c_noise: float | Tensor, cond: Cond | None = None) -> Tensor:
        e = F.silu(self.embed(x, c_noise, cond))
        said = [self.conv_in(x)]
        for stage in self.down_blocks:
            said += stage(said[-1], e, self.checkpointing)
        h = self.mid_block(said[-1], e)
        for stage in self.up_blocks:
            h = stage(h, e, said, self.checkpointing)
        return self.conv_out(F.silu(self.conv_norm_out(h)))

    def embed(self, x: Tensor, c_noise: float | Tensor, cond: Cond | None) -> Tensor:
        """Return the embedding e of timestep and condition, `[1, E]` or `[B, E]`."""
        e = self.time_embedding(self.time_proj(timestep(c_noise, self.log_snr), like=x))
        if self.class_embedding is None:
            return e
        known = {"label": self.class_embedding, "vector": self.vector_embedding}
        e = e + embed_given(cond, known, self.class_embedding.weight[-1:])
        return e if self.guidance_embedding is None else e + self.guidance_embedding(cond)
