"""An autoencoder of pictures whose latents have a law of their own, in the published layout of diffusers.

    encode    q(l | x) = N(m, exp(v)): convolutions down to 1/f of the sides, then attention, then m and v side by side
    decode    x_hat(l): the same up again, one block more at each level
    l         L channels at every place, drawn anew in each use

Source: Kingma & Welling 2014 (the posterior); Rombach et al. 2022, section 3.1 and appendix G (the layout, latents kept
near N(0, I) by a small weight of the KL divergence). The modules' names are diffusers' (`AutoencoderKL`, 0.42).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from fromnoise.errors import ConfigError
from fromnoise.nn.pictures import Shape, Width, check_divisible
from fromnoise.nn.resnet import AttentionBlock, Downsample, Middle, ResnetBlock, Stage, Upsample, check_widths
from fromnoise.registry import Registry

autoencoders: Registry[KLAutoencoder] = Registry("autoencoder")

_LEAST, _MOST = -30.0, 20.0
"""The range in which a log variance is kept."""


class Posterior(NamedTuple):
    """The law of a picture's latent: independent normal numbers.

    Attributes:
        mean: `[B, L, h, w]`.
        log_variance: as the mean.
    """

    mean: Tensor
    log_variance: Tensor

    @classmethod
    def of_moments(cls, moments: Tensor) -> Posterior:
        """Return the law of mean and log variance that lie side by side, `[B, 2 L, h, w]`."""
        mean, log_variance = moments.chunk(2, dim=1)
        return cls(mean, log_variance.clamp(_LEAST, _MOST))

    def at(self, eps: Tensor) -> Tensor:
        """Return the latent of standard normal numbers eps, of the mean's shape."""
        return self.mean + (0.5 * self.log_variance).exp() * eps

    def kl(self) -> Tensor:
        """Return the divergence from N(0, I) of each number, in nats, of the mean's shape."""
        return 0.5 * (self.mean.square() + self.log_variance.exp() - 1 - self.log_variance)


class Level(Stage):
    """Residual blocks at one resolution, then perhaps the change to another."""

    def __init__(
        self, blocks: Sequence[nn.Module], *, down: nn.Module | None = None, up: nn.Module | None = None
    ) -> None:
        super().__init__(blocks, ())
        for name, resize in (("downsamplers", down), ("upsamplers", up)):
            if resize is not None:
                setattr(self, name, nn.ModuleList([resize]))

    def forward(self, h: Tensor) -> Tensor:
        """Map h to the next resolution."""
        for block in self.resnets:
            h = block(h)
        for resize in (*getattr(self, "downsamplers", ()), *getattr(self, "upsamplers", ())):
            h = resize(h)
        return h


class Encoder(nn.Module):
    """Pictures to mean and log variance of their latents, side by side."""

    def __init__(
        self, channels: int, latents: int, widths: Sequence[int], *, blocks: int, groups: int, attend: bool
    ) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(channels, widths[0], 3, padding=1)
        self.down_blocks = nn.ModuleList()
        for level, width in enumerate(widths):
            before = [widths[max(level - 1, 0)], *[width] * (blocks - 1)]
            resize = Downsample(width, 0) if level < len(widths) - 1 else None
            self.down_blocks.append(Level([ResnetBlock(c, width, groups=groups) for c in before], down=resize))
        self.mid_block = _middle(widths[-1], groups, attend)
        self.conv_norm_out = nn.GroupNorm(groups, widths[-1], eps=1e-6)
        self.conv_out = nn.Conv2d(widths[-1], 2 * latents, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[B, C, H, W]` to `[B, 2 L, H/f, W/f]`."""
        h = self.conv_in(x)
        for level in self.down_blocks:
            h = level(h)
        return self.conv_out(F.silu(self.conv_norm_out(self.mid_block(h))))


class Decoder(nn.Module):
    """Latents to pictures."""

    def __init__(
        self, channels: int, latents: int, widths: Sequence[int], *, blocks: int, groups: int, attend: bool
    ) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(latents, widths[-1], 3, padding=1)
        self.mid_block = _middle(widths[-1], groups, attend)
        self.up_blocks = nn.ModuleList()
        for level, width in reversed(list(enumerate(widths))):
            before = [widths[min(level + 1, len(widths) - 1)], *[width] * blocks]
            resize = Upsample(width) if level else None
            self.up_blocks.append(Level([ResnetBlock(c, width, groups=groups) for c in before], up=resize))
        self.conv_norm_out = nn.GroupNorm(groups, widths[0], eps=1e-6)
        self.conv_out = nn.Conv2d(widths[0], channels, 3, padding=1)

    def forward(self, latent: Tensor) -> Tensor:
        """Map `[B, L, h, w]` to `[B, C, f h, f w]`."""
        h = self.mid_block(self.conv_in(latent))
        for level in self.up_blocks:
            h = level(h)
        return self.conv_out(F.silu(self.conv_norm_out(h)))


def _middle(width: int, groups: int, attend: bool) -> Middle:
    return Middle(
        [ResnetBlock(width, width, groups=groups) for _ in range(2)],
        [AttentionBlock(width, 0, groups)] if attend else [],
    )


class Critic(nn.Module):
    """Tells pictures from reconstructions by a logit for each of overlapping patches, for an adversarial loss.

    Three convolutions of stride 2, 2 and 1, so that a logit sees some twenty pixels a side.
    Source: Isola et al. 2017, appendix 6.1.2 (shortened for small pictures).
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1), nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1), nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 1, 3, padding=1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Map pictures `[B, C, H, W]` to logits `[B, 1, H/4, W/4]`."""
        return self.layers(x)


_WIDTHS = {2: (16, 48), 4: (16, 32, 64), 8: (16, 32, 64, 64)}
"""The channels of each level, from the finest, by the factor."""


@autoencoders.register("kl")
class KLAutoencoder(nn.Module):
    """An autoencoder of pictures with normal latents; its weights are those of diffusers' `AutoencoderKL`, key for key.

    Args:
        shape: channels, height and width of a picture.
        factor: f, by which the sides of latents are shorter.
        channels: L, those of a latent.
        widths: the number of channels at each level, from the finest; there is one level more than f can be halved,
            and those for which none is given have the last. Left out for (16, 32, 64) and alike.
        blocks: the residual blocks of a level on the way down; on the way up one more.
        groups: of every group norm.
        attention: whether the middle, at the coarsest level, has attention.
        critic: the width of a network that tells reconstructions from pictures, for an adversarial loss; 0 for none.
            It is trained along, and no part of what diffusers knows.
    """

    ends = ("encoder.conv_in", "encoder.conv_out", "decoder.conv_in", "decoder.conv_out")
    modulators = ("quant_conv", "post_quant_conv", "critic")

    def __init__(
        self,
        shape: Shape,
        factor: Literal[2, 4, 8] = 4,
        channels: Width = 4,
        *,
        widths: Annotated[tuple[Width, ...], Field(min_length=1, max_length=4)] | None = None,
        blocks: Annotated[int, Field(ge=1, le=16)] = 1,
        groups: Width = 4,
        attention: bool = True,
        critic: Annotated[int, Field(ge=0, le=2**10)] = 0,
    ) -> None:
        super().__init__()
        widths, levels = widths or _WIDTHS[factor], 1 + int(math.log2(factor))
        if len(widths) > levels:
            raise ConfigError(
                f"network.widths: a factor of {factor} takes {levels} levels, one for each halving and one more, and "
                f"there are {len(widths)} widths"
            )
        widths = (*widths, *widths[-1:] * (levels - len(widths)))
        check_widths(widths, groups)
        check_divisible(f"an autoencoder of factor {factor}", shape, factor, "set another factor")
        self.shape, self.factor, self.channels = shape, factor, channels
        layout: dict[str, Any] = {"blocks": blocks, "groups": groups, "attend": attention}
        self.encoder = Encoder(shape[0], channels, widths, **layout)
        self.decoder = Decoder(shape[0], channels, widths, **layout)
        self.quant_conv = nn.Conv2d(2 * channels, 2 * channels, 1)
        self.post_quant_conv = nn.Conv2d(channels, channels, 1)
        self.critic = Critic(shape[0], critic) if critic else None

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of a latent."""
        _, height, width = self.shape
        return self.channels, height // self.factor, width // self.factor

    def moments(self, x: Tensor) -> Tensor:
        """Return mean and log variance of the latents of pictures `[B, C, H, W]`, side by side, `[B, 2 L, h, w]`."""
        return self.quant_conv(self.encoder(x))

    def encode(self, x: Tensor) -> Posterior:
        """Return the law of the latents of pictures `[B, C, H, W]`."""
        return Posterior.of_moments(self.moments(x))

    def decode(self, latent: Tensor) -> Tensor:
        """Return the pictures `[B, C, H, W]` of latents `[B, L, h, w]`."""
        return self.decoder(self.post_quant_conv(latent))

    def forward(self, x: Tensor, eps: Tensor | None = None) -> tuple[Tensor, Posterior]:
        """Return reconstructions `[B, C, H, W]` and the law of the latents.

        Args:
            x: pictures.
            eps: standard normal numbers of the latents' shape, for a latent drawn from its law; its mean without.
        """
        law = self.encode(x)
        return self.decode(law.mean if eps is None else law.at(eps)), law
