"""Latents: an autoencoder between samples and the space in which diffusion is cheap, as a codec.

    store    x -> the mean and log variance of its latent, the slow part, done once
    into     z = (l - m)/s, with l drawn anew from its law in each use; m and s of each channel
    out      x_hat(m + s z)

So nothing else in the library knows of latents: a denoiser of z is trained and sampled as any other.
Source: Rombach et al. 2022, "High-resolution image synthesis with latent diffusion models", section 3.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from fromnoise.data.codec import Codec, codecs
from fromnoise.data.ends import Ends
from fromnoise.data.source import Source, samples
from fromnoise.data.stored import stored_of
from fromnoise.errors import InputError
from fromnoise.model import Model
from fromnoise.nn.autoencoder import KLAutoencoder, Posterior, autoencoders
from fromnoise.nn.network import plain
from fromnoise.nn.skeleton import skeleton
from fromnoise.registry import Settings
from fromnoise.rng import seeded

_TOGETHER, _ROWS = 2**15, 64
"""About how many numbers of samples, and how many samples at most, are encoded or decoded at a time."""


class Autoencoder(Model):
    """A trained autoencoder with the codec of its pictures: `fn.load_autoencoder("runs/autoencoder").autoencoder`.

    Args:
        network: a `KLAutoencoder`, or another that is registered.
        codec: between pictures and what the network sees; measured on the data where none is given.
    """

    network: KLAutoencoder  # pyright: ignore[reportIncompatibleVariableOverride] or one with the same methods

    def __init__(self, network: nn.Module, codec: Codec | None = None) -> None:
        super().__init__(network, codec)
        if codec is not None:
            self.rescale(codec, 1.0)

    @property
    def inner(self) -> KLAutoencoder:
        """The network, without what compiles it."""
        return plain(self.network)  # pyright: ignore[reportReturnType] see above

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """The shape of a latent, [L, h, w]."""
        return self.inner.latent_shape

    def moments(self, x: Tensor) -> Tensor:
        """Return mean and log variance of the latents of samples `[N, *X]`, side by side, `[N, 2 L, h, w]` float32."""
        codec, network = self.codec, self.inner
        return self._of_parts(x, lambda part: network.moments(codec.into(codec.store(part)).to(self.device)).float())

    def decode(self, latents: Tensor) -> Tensor:
        """Return the samples `[N, *X]` of latents `[N, L, h, w]`, in the data's units and type."""
        return self._of_parts(latents, lambda part: self.codec.out(self.inner.decode(part.to(self.device))))

    def reconstructed(self, x: Tensor) -> Tensor:
        """Return samples `[N, *X]` through the mean of their latents and back: the best that decoded samples can be."""
        return self.decode(Posterior.of_moments(self.moments(x)).mean)

    def _of_parts(self, x: Tensor, answer: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the answers for rows, asked in parts of one size: how many there are then changes no bit of any."""
        size = max(1, min(_ROWS, _TOGETHER // math.prod(self.shape)))
        padded = x.new_zeros(
            (len(x) + -len(x) % size, *x.shape[1:])
        )  # of its own strides: of one channel there are two
        padded[: len(x)] = x
        with torch.no_grad():
            return torch.cat([answer(part) for part in padded.split(size)])[: len(x)]


@codecs.register("latent")
@dataclass(frozen=True, eq=False)
class Latent(Codec):
    """z = (l - mean)/std of each channel, l a latent of an autoencoder: `fn.load_autoencoder(path).latents`.

    Args:
        network: the autoencoder's settings.
        inner: the settings of its own codec, between samples and what it sees.
        weights: the sum of its weights and of these settings.
    """

    network: Settings | None = None
    inner: Settings | None = None
    weights: str = ""

    autoencoder: ClassVar[Autoencoder | None] = None
    mean: ClassVar[Tensor] = torch.tensor(0.0)
    std: ClassVar[Tensor] = torch.tensor(1.0)
    _suits: ClassVar[Mapping[str, Any]] = {}
    _elsewhere: ClassVar[dict[torch.device, Autoencoder]] = {}

    @classmethod
    def from_autoencoder(cls, autoencoder: Autoencoder, suits: Mapping[str, Any] | None = None) -> Latent:
        """Return the codec of a trained autoencoder, not yet fitted to data.

        Args:
            autoencoder: which is copied.
            suits: settings of the data that suit it: the size of pictures and what else its own data were read with.
        """
        settings = {key: value for key, value in autoencoders.settings(autoencoder.inner).items() if key != "critic"}
        network, trained = autoencoders.build(settings), autoencoder.inner.state_dict()
        network.load_state_dict({name: trained[name] for name in network.state_dict()})
        kept = Autoencoder(network, autoencoder.codec).eval().requires_grad_(False)
        plain, inner = _plain(settings), _plain(codecs.settings(autoencoder.codec))
        made = cls(network=plain, inner=inner, weights=_sum(kept, plain, inner))
        return made._with(autoencoder=kept, _suits=dict(suits or {}))

    @property
    def form(self) -> str:
        return self._known.codec.form

    @property
    def _known(self) -> Autoencoder:
        if self.autoencoder is None:
            raise InputError(
                "the codec latent is an autoencoder's, and only its settings were given: give the run of a trained "
                "one, --latent RUN or latent=RUN"
            )
        return self.autoencoder

    @property
    def of_bytes(self) -> bool:
        return self._known.codec.of_bytes

    keeps_order = False

    @property
    def ends(self) -> Ends | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self._known.codec.ends

    @property
    def density_of(self) -> str:
        return "latents, in the denoiser's units"

    @property
    def suits(self) -> Mapping[str, Any]:
        return self._suits

    @property
    def store_key(self) -> str:
        return self.weights

    def fitted(self, data: Source | Tensor) -> Latent:
        self.check_fits(data)
        moments = self.store(data) if isinstance(data, Tensor) else stored_of(data, self)
        first = second = torch.zeros(self._known.latent_shape[0], dtype=torch.float64)
        for part in moments.split(1024):
            law = Posterior.of_moments(part.cpu().double())
            first = first + law.mean.mean((2, 3)).sum(0)
            second = second + (law.mean.square() + law.log_variance.exp()).mean((2, 3)).sum(0)
        mean = first / len(moments)
        std = (second / len(moments) - mean.square()).clamp(min=0).sqrt()[:, None, None]
        mean = mean[:, None, None]
        return self._with(mean=mean.float(), std=torch.where(std > 0, std, 1.0).float(), shape=self._known.latent_shape)

    def check_fits(self, data: Source | Tensor) -> None:
        """Raise InputError if the samples are not of the shape and type that the autoencoder was trained on."""
        wanted, first = self._known.shape, samples(data)[:1] if isinstance(data, Tensor) else data.read(slice(0, 1)).x
        shape = tuple(first.shape[1:])
        if shape != wanted:
            a, b = (" x ".join(map(str, one)) for one in (shape, wanted))
            raise InputError(
                f"the samples are {a}, and the autoencoder is for {b} (channels, height, width): bring them to that, "
                "or train an autoencoder on them"
            )
        if self.of_bytes != (first.dtype == torch.uint8):
            kind = "whole numbers 0..255, uint8" if self.of_bytes else "floats"
            raise InputError(
                f"the autoencoder is for pictures of {kind}, and these are {first.dtype}: train an autoencoder on them"
            )

    def shape_of(self, sample: tuple[int, ...]) -> tuple[int, ...]:
        return self._known.latent_shape if tuple(sample) == self._known.shape else ()

    def sample_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return tuple((self.network or {}).get("shape", ()))

    def sizes(self) -> dict[str, Any]:
        odd = any(side % 2 for side in self._known.latent_shape[1:])
        return {"widths": [96]} if odd else {}  # a U-Net of one level, where latents such as 7 x 7 cannot be halved

    def store(self, x: Tensor) -> Tensor:
        return self._on(x.device).moments(x)

    def into(self, stored: Tensor, generator: torch.Generator | None = None) -> Tensor:
        law = Posterior.of_moments(stored)
        eps = None if generator is None else torch.randn(law.mean.shape, generator=generator, device=stored.device)
        latents = law.mean if eps is None else law.at(eps)
        return (latents - self.mean.to(stored)) / self.std.to(stored)

    def variance(self, stored: Tensor) -> Tensor:
        return Posterior.of_moments(stored).log_variance.exp() / self.std.to(stored).square()

    def out(self, z: Tensor) -> Tensor:
        z = z.float()
        return self._on(z.device).decode(self.mean.to(z) + self.std.to(z) * z)

    def reconstructed(self, x: Tensor) -> Tensor:
        """Return samples through their latents and back: the ceiling of what decoded samples can be."""
        return self._on(x.device).reconstructed(x)

    def _on(self, device: torch.device) -> Autoencoder:
        """Return the autoencoder on a device, where it then stays too."""
        if self._known.device == device:
            return self._known
        if device not in self._elsewhere:
            self._elsewhere[device] = copy.deepcopy(self._known).to(device)
        return self._elsewhere[device]

    def equals(self, other: Codec) -> bool:
        if not isinstance(other, Latent) or self.weights != other.weights:
            return False
        return all(torch.allclose(a, b.to(a), rtol=1e-6) for a, b in ((self.mean, other.mean), (self.std, other.std)))

    def to(self, device: torch.device) -> Latent:
        return self._with(autoencoder=self._on(device), mean=self.mean.to(device), std=self.std.to(device))

    def tensors(self) -> dict[str, Tensor]:
        known = self._known
        inner = {f"inner.{name}": tensor for name, tensor in known.codec.tensors().items()}
        return {"mean": self.mean.cpu(), "std": self.std.cpu(), **inner, **_weights(known)}

    def most_bytes(self, shape: tuple[int, ...]) -> int:
        network = skeleton(self.network or {}, autoencoders)
        numbers = math.prod((self.network or {}).get("shape", ()))
        return 4 * sum(p.numel() for p in network.parameters()) + 64 * numbers

    def with_tensors(self, tensors: Mapping[str, Tensor], shape: tuple[int, ...]) -> Latent:
        wanted = skeleton(self.network or {}, autoencoders).state_dict()
        own = {name: tensors[f"network.{name}"] for name in wanted}
        for name, tensor in own.items():
            like = wanted[name]
            if tensor.shape != like.shape or tensor.dtype != like.dtype or not torch.isfinite(tensor).all():
                raise ValueError(f"{name} is not what the autoencoder's settings say")
        with seeded(0, "network"):
            network = autoencoders.build(self.network or {})
        network.load_state_dict(own)
        odd = next((n for n in tensors if not n.startswith(("network.", "inner.")) and n not in ("mean", "std")), None)
        if odd is not None or sum(name.startswith("network.") for name in tensors) != len(wanted):
            raise ValueError(f"tensors that are none of an autoencoder's: {odd or 'too many'}")
        inner = {name.removeprefix("inner."): tensor for name, tensor in tensors.items() if name.startswith("inner.")}
        known = Autoencoder(network, codecs.build(self.inner or {}).with_tensors(inner, tuple(network.shape)))
        known.eval().requires_grad_(False)
        if _sum(known, self.network or {}, self.inner or {}) != self.weights:
            raise ValueError("its weights are not those of the configuration")
        if tuple(shape) != known.latent_shape:
            raise ValueError(f"latents of shape {list(known.latent_shape)} for z of {list(shape)}")
        mean, std = tensors["mean"], tensors["std"]
        for part in (mean, std):
            if part.shape != (shape[0], 1, 1) or part.dtype != torch.float32 or not torch.isfinite(part).all():
                raise ValueError(f"a mean or std of shape {list(part.shape)} for latents of {list(shape)}")
        if not bool((std > 0).all()):
            raise ValueError("a std that is not positive")
        return self._with(autoencoder=known, mean=mean, std=std, shape=tuple(shape))

    def _with(self, **values: Any) -> Latent:
        made = copy.copy(self)
        values.setdefault("_elsewhere", {} if "autoencoder" in values else self._elsewhere)
        for name, value in values.items():
            object.__setattr__(made, name, value)
        return made


def _plain(settings: Settings) -> Settings:
    """Return settings as a TOML file gives them back."""
    return json.loads(json.dumps({key: value for key, value in settings.items() if value is not None}))


def _weights(autoencoder: Autoencoder) -> dict[str, Tensor]:
    """Return the parameters of an autoencoder, as a run keeps them."""
    state = autoencoder.inner.state_dict()
    return {f"network.{name}": tensor.detach().cpu().contiguous() for name, tensor in state.items()}


def _sum(autoencoder: Autoencoder, *settings: Settings) -> str:
    """Return a sum of an autoencoder's settings, its weights and its codec."""
    total = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    both = {**_weights(autoencoder), **autoencoder.codec.tensors()}
    for name, tensor in sorted(both.items()):
        total.update(name.encode())
        total.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()[:16]
