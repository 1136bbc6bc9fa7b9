"""Guidance: denoisers made of denoisers. A sampler cannot tell them from a plain one.

Every kind moves from one answer past another,

    D = D_from + scale (D_to - D_from),

so scale 1 is D_to itself, 0 is D_from, and above 1 goes on in the same direction:

| kind | D_to | D_from |
| --- | --- | --- |
| classifier-free (`Guided`) | with the condition | without, or with a negative one |
| autoguidance (`AutoGuided`) | a model | a weaker one of the same data |

As x0 and eps are linear in one another at a given x_t, guiding x0 is guiding eps, v or the score.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from fromnoise.arrays import Time, expand_to
from fromnoise.cond import Cond, Words
from fromnoise.denoiser import DenoiserLike, Wrapper
from fromnoise.deprecated import renamed
from fromnoise.errors import InputError
from fromnoise.schedule import Schedule

__getattr__ = renamed(__name__, {"Wrapped": "fromnoise.denoiser:Wrapper"})


class Guided(Wrapper):
    """Classifier-free guidance: uncond + scale (cond - uncond). Source: Ho & Salimans 2022, eq. 6, with scale = 1 + w.

    Scale 1 is the conditional model bit for bit and 0 the unconditional one, at one evaluation; any other scale asks
    for both in one batch of twice the rows. Without a condition it is the unconditional model.

    Args:
        denoiser: conditional, and trained without the condition at times (`drop_cond`), or exact.
        scale: how far to go; 1 is no guidance.
        negative: a condition to move away from, in place of none: a label, or what else the denoiser reads.
        interval: the noise levels sigma/alpha within which to guide; outside it the model is plain conditional.
            Source: Kynkaanniemi et al. 2024, eq. 5.
        rescale: how much of the answer's standard deviation over a sample is put back to the conditional answer's,
            0 to 1. Source: Lin et al. 2023, eq. 14-16. For images; points lose their guidance by it.

    Raises:
        InputError: if the denoiser knows no labels, or a setting is out of its range.
        LabelError: if `negative` is no label of the denoiser.
    """

    def __init__(
        self,
        denoiser: DenoiserLike,
        scale: float,
        *,
        negative: Words = None,
        interval: tuple[float, float] = (0.0, math.inf),
        rescale: float = 0.0,
    ) -> None:
        super().__init__(denoiser)
        if not denoiser.conditioners:
            raise InputError("guidance needs a conditional model, and this one was trained without labels")
        self.scale = _finite("scale", scale)
        self.interval = _interval(interval)
        if not 0 <= rescale <= 1:
            raise InputError(f"rescale must lie in [0, 1], not {rescale!r}")
        self.rescale = rescale
        self.negative = denoiser.read(negative, 1)

    def __call__(self, x_t: Tensor, t: Time, cond: Words = None) -> Tensor:
        """Return x0_hat `[B, *S]`, moved from the unconditional answer past the conditional one."""
        scale = self._scale_at(t)
        if cond is None or _all(scale, 1.0):
            return self.base(x_t, t, cond)
        if _all(scale, 0.0) and self.negative is None:
            return self.base(x_t, t, None)
        rows = len(x_t)
        cond = self.read(cond, rows)
        assert cond is not None
        other = cond.null() if self.negative is None else self.negative.to(x_t.device)
        both = Cond.cat([cond.expand(rows), other.expand(rows)])
        twice = torch.cat([t, t]) if isinstance(t, Tensor) and t.dim() else t
        with_cond, without = self.base(torch.cat([x_t, x_t]), twice, both).chunk(2)
        guided = without + expand_to(scale, x_t) * (with_cond - without)
        if not self.rescale:
            return guided
        axes = tuple(range(1, x_t.dim()))
        back = with_cond.std(axes, keepdim=True) / guided.std(axes, keepdim=True).clamp(min=1e-12)
        return guided * (self.rescale * back + (1 - self.rescale))

    def _scale_at(self, t: Time) -> float | Tensor:
        """Return the scale, 1 outside the interval."""
        low, high = self.interval
        if low == 0 and math.isinf(high):
            return self.scale
        level = self.schedule.noise_level(t)
        if isinstance(level, Tensor):
            return torch.where((level >= low) & (level <= high), self.scale, 1.0)
        return self.scale if low <= level <= high else 1.0

    def on(self, schedule: Schedule) -> DenoiserLike:
        """Return the same guidance on another path."""
        if schedule == self.schedule:
            return self
        return Guided(
            self.base.on(schedule), self.scale, interval=self.interval, rescale=self.rescale,
            negative=self.negative,
        )  # fmt: skip


class AutoGuided(Wrapper):
    """Autoguidance: weak + scale (strong - weak), condition or none. Source: Karras et al. 2024, eq. 3.

    Args:
        denoiser: the good model.
        weak: a smaller or less trained one of the same data, in the same units; it is put on the good one's path.
        scale: how far to go; 1 is the good model alone, at one evaluation.
        interval: the noise levels sigma/alpha within which to guide.

    Raises:
        InputError: if the two do not fit together.
    """

    def __init__(
        self,
        denoiser: DenoiserLike,
        weak: DenoiserLike,
        scale: float,
        *,
        interval: tuple[float, float] = (0.0, math.inf),
    ) -> None:
        super().__init__(denoiser)
        if weak.shape != denoiser.shape:
            raise InputError(f"the weak model's samples have shape {list(weak.shape)}, not {list(denoiser.shape)}")
        if weak.conditioners != denoiser.conditioners:
            raise InputError("the weak model knows other labels than the good one")
        self.weak = weak.on(denoiser.schedule)
        self.scale, self.interval = _finite("scale", scale), _interval(interval)
        if not weak.codec.equals(denoiser.codec):
            raise InputError("the weak model was trained on data scaled otherwise: train both on the same data")

    def __call__(self, x_t: Tensor, t: Time, cond: Words = None) -> Tensor:
        """Return x0_hat `[B, *S]`, moved from the weak answer past the good one."""
        good = self.base(x_t, t, cond)
        low, high = self.interval
        level = self.schedule.noise_level(t)
        if isinstance(level, Tensor):
            scale = torch.where((level >= low) & (level <= high), self.scale, 1.0)
        else:
            scale = self.scale if low <= level <= high else 1.0
        if _all(scale, 1.0):
            return good
        weak = self.weak(x_t, t, cond)
        return weak + expand_to(scale, x_t) * (good - weak)

    def on(self, schedule: Schedule) -> DenoiserLike:
        """Return the same guidance on another path."""
        if schedule == self.schedule:
            return self
        return AutoGuided(self.base.on(schedule), self.weak, self.scale, interval=self.interval)


class Inpainted(Wrapper):
    """Complete samples of which a part is known: x0_hat with the known part put in.

    The known coordinates of x_t then walk exactly as a noisy known value does, and the rest is denoised in their sight:
    the replacement method (Song et al. 2021, score SDE, appendix I.2, at the level of x0). Alone it leaves samples
    between the modes, where the unknown part was drawn before it saw the known one; with the sampler `RePaint` it
    does not.

    Args:
        denoiser: of whole samples.
        known: `[*S]`, or `[B, *S]` for as many rows as are drawn at a time; in the data's units.
        mask: `[*S]` of booleans, true where `known` is to be kept.

    Raises:
        InputError: if the shapes do not fit, or nothing or everything is known.
    """

    def __init__(self, denoiser: DenoiserLike, known: Any, mask: Any) -> None:
        super().__init__(denoiser)
        mask = torch.as_tensor(mask, dtype=torch.bool, device=denoiser.device)
        known = torch.as_tensor(known, device=denoiser.device)
        known = known if known.is_floating_point() else known.double()
        if tuple(mask.shape) != denoiser.shape or tuple(known.shape[known.dim() - len(denoiser.shape) :]) != (
            denoiser.shape
        ):
            raise InputError(f"known and mask must have the samples' shape {list(denoiser.shape)}")
        self.mask = denoiser.codec.mask(mask)
        if self.mask.all() or not self.mask.any():
            raise InputError("the mask must leave a part to complete and keep a part")
        if not torch.isfinite(known[..., self.mask]).all():
            raise InputError("a known value is NaN or infinite")
        self._known_in_units = known
        self.known = denoiser.codec.into(torch.where(self.mask, known, 0.0))

    def __call__(self, x_t: Tensor, t: Time, cond: Words = None) -> Tensor:
        """Return x0_hat `[B, *S]`, the known part as it is known."""
        return torch.where(self.mask, self.known.to(x_t), self.base(x_t, t, cond))

    def on(self, schedule: Schedule) -> DenoiserLike:
        """Return the same on another path."""
        return self if schedule == self.schedule else Inpainted(
            self.base.on(schedule), self._known_in_units, self.mask
        )  # fmt: skip


def _finite(name: str, value: float) -> float:
    if not math.isfinite(value):
        raise InputError(f"{name} must be a finite number, not {value!r}")
    return float(value)


def _interval(interval: tuple[float, float]) -> tuple[float, float]:
    low, high = interval
    if not 0 <= low <= high:
        raise InputError(f"an interval of noise levels goes from low to high, both at least 0, not {interval!r}")
    return float(low), float(high)


def _all(scale: float | Tensor, value: float) -> bool:
    return not isinstance(scale, Tensor) and scale == value
