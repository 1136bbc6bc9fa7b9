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

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fromnoise.arrays import Time, expand_to
from fromnoise.cond import Cond
from fromnoise.conditioners import Words, find_label
from fromnoise.data.numbers import as_samples
from fromnoise.denoiser_like import NEVER_WITHOUT, DenoiserLike, Wrapper, check_mean, of_rows
from fromnoise.deprecated import renamed
from fromnoise.errors import InputError
from fromnoise.guidance_cond import scale_of
from fromnoise.rng import stream
from fromnoise.schedule import Schedule

__getattr__ = renamed(__name__, {"Wrapped": "fromnoise.denoiser:Wrapper"})


class Guided(Wrapper):
    """Classifier-free guidance: uncond + scale (cond - uncond). Source: Ho & Salimans 2022, eq. 6, with scale = 1 + w.

    Scale 1 is the conditional model bit for bit and 0 the unconditional one, at one evaluation; any other scale asks
    for both in one batch of twice the rows. Without a condition it is the unconditional model. A distilled model that
    takes the scale as a condition is told it, at one evaluation for any.

    Args:
        denoiser: conditional, and trained without the condition at times (`drop_cond`), or exact.
        scale: how far to go; 1 is no guidance. One for all samples, or `[n]`, one for each.
        negative: a condition to move away from, in place of none: a label, or what else the denoiser reads; one for
            all samples, or one for each.
        interval: the noise levels sigma/alpha within which to guide; outside it the model is plain conditional.
            Source: Kynkaanniemi et al. 2024, eq. 5.
        rescale: how much of the answer's standard deviation over a sample is put back to the conditional answer's,
            0 to 1. Source: Lin et al. 2023, eq. 14-16. For images; points lose their guidance by it.

    Raises:
        InputError: if the denoiser knows no labels, is a distilled one that takes no scale, or a setting is out of its
            range.
        LabelError: if `negative` is no label of the denoiser, or a distilled one was not taught the scale.
    """

    def __init__(
        self,
        denoiser: DenoiserLike,
        scale: float | Tensor,
        *,
        negative: Words = None,
        interval: tuple[float, float] = (0.0, math.inf),
        rescale: float = 0.0,
    ) -> None:
        super().__init__(denoiser)
        if not denoiser.conditioners:
            raise InputError("guidance needs a conditional model, and this one was trained without labels")
        self.scale = _scales(scale, denoiser.device)
        self.told = scale_of(denoiser.conditioners)
        if self.told is not None:
            self.told.read(self.scale)
            if negative is not None or rescale or interval != (0.0, math.inf):
                raise InputError("a distilled model is guided as it was taught, without negative, interval and rescale")
        elif getattr(denoiser, "grid", None) is not None and not _all(self.scale, 1.0):
            raise InputError(
                "a model of few steps answers where its step ends, which guidance cannot move: guide an ordinary run, "
                "or distill one with guidance"
            )
        self.interval = _interval(interval)
        if not 0 <= rescale <= 1:
            raise InputError(f"rescale must lie in [0, 1], not {rescale!r}")
        if rescale and math.prod(denoiser.shape) == 1:
            raise InputError("rescale needs samples of several numbers: a single one has no standard deviation")
        self.rescale = rescale
        compares = self.told is None and negative is None and not _all(self.scale, 1.0)
        if compares and not getattr(denoiser, "unconditional", True):
            raise InputError(f"guidance compares with the answer without a condition, and {NEVER_WITHOUT}")
        self.negative = None if negative is None else denoiser.read(negative, _said(negative))
        if self.negative is not None and not len(self.negative):
            raise InputError("negative holds no condition: give one for all samples, or one for each")

    def __call__(self, x_t: Tensor, t: Time, cond: Words = None) -> Tensor:
        """Return x0_hat `[B, *S]`, moved from the unconditional answer past the conditional one."""
        scale, rows = self._scale_at(t), len(x_t)
        if cond is not None and not isinstance(cond, Cond):
            cond = self.read(cond, rows)
        if cond is not None and self.told is not None:
            told = torch.as_tensor(scale, dtype=torch.float32, device=x_t.device).reshape(-1)
            return self.base(x_t, t, cond.told(**{self.told.value: told}))
        if cond is None or cond.is_kept or _all(scale, 1.0):
            return self.base(x_t, t, cond)
        if self.negative is not None and len(self.negative) not in (1, rows):
            raise InputError(f"{len(self.negative)} negative conditions were given for {rows} samples")
        other = cond.null() if self.negative is None else self.negative.to(x_t.device).keeping(cond)
        if _all(scale, 0.0):
            return self.base(x_t, t, other)
        both = Cond.cat([cond.expand(rows), other.expand(rows)])
        twice = torch.cat([t, t]) if isinstance(t, Tensor) and t.dim() else t
        base = of_rows(self.base, torch.arange(rows).repeat(2))
        with_cond, without = base(torch.cat([x_t, x_t]), twice, both).chunk(2)
        guided = without + expand_to(scale, x_t) * (with_cond - without)
        if not self.rescale:
            return guided
        axes = tuple(range(1, x_t.dim()))
        back = with_cond.std(axes, keepdim=True) / guided.std(axes, keepdim=True).clamp(min=1e-12)
        return guided * (self.rescale * back + (1 - self.rescale))

    def of_rows(self, rows: Tensor) -> DenoiserLike:
        """Return the denoiser of some samples: each has its own scale, and what it moves away from."""
        part = copy.copy(self._around(of_rows(self.base, rows)))
        if isinstance(self.scale, Tensor):
            part.scale = _taken(self.scale, rows, "scales")
        if self.negative is not None and len(self.negative) > 1:
            _taken(torch.arange(len(self.negative)), rows, "negative conditions")
            part.negative = self.negative.to(rows.device).rows(rows)
        return part

    def _scale_at(self, t: Time) -> float | Tensor:
        """Return the scale, 1 outside the interval."""
        low, high = self.interval
        if low == 0 and math.isinf(high):
            return self.scale
        level = self.schedule.noise_level(t)
        if isinstance(level, Tensor):
            return torch.where((level >= low) & (level <= high), torch.as_tensor(self.scale).to(level), 1.0)
        return self.scale if low <= level <= high else 1.0

    def on(self, schedule: Schedule) -> DenoiserLike:
        """Return the same guidance on another path."""
        return self._around(self.base.on(schedule))


def guided_each(denoiser: DenoiserLike, scales: Tensor) -> Guided:
    """Return a guided denoiser with a scale for each row, `[B]`, not looked at: that would wait for their device."""
    known = scale_of(denoiser.conditioners)
    guided = Guided(denoiser, 2.0 if known is None else known.usual)
    guided.scale = scales
    return guided


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
        for one in (denoiser, weak):
            check_mean(one, "autoguidance")
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
        same = self._around(self.base.on(schedule))
        same.weak = self.weak.on(schedule)
        return same

    def of_rows(self, rows: Tensor) -> DenoiserLike:
        """Return the denoiser of some samples."""
        part = self._around(of_rows(self.base, rows))
        part.weak = of_rows(self.weak, rows)
        return part


Classifier = Callable[[Tensor, Time], Tensor]
"""(x_t `[B, *S]`, t) -> the logits of the labels `[B, K]`, of noisy samples."""


class ClassifierGuided(Wrapper):
    """Guidance by the gradient of a classifier of noisy samples.

    x0_hat + scale (sigma^2/alpha) grad log p(y | x_t), the answer whose score is that of the denoiser plus scale times
    the classifier's. With the exact classifier and scale 1 it is the exact denoiser under the label.
    Source: Dhariwal & Nichol 2021, eq. 10 (there for eps).

    Args:
        denoiser: asked without a condition, unless its own labels are given too.
        classifier: any function of x_t and t that PyTorch can differentiate.
        label: the number of the label to go towards, or its name where the denoiser knows it; one for all samples, or
            one for each, `[n]`.
        scale: how far to go; 0 for no guidance.
        conditional: ask the denoiser under the condition it is given; else without one.

    Raises:
        InputError: if a setting is out of its range.
        LabelError: if the denoiser knows no label of that name.
    """

    def __init__(
        self,
        denoiser: DenoiserLike,
        classifier: Classifier,
        label: Any,
        scale: float = 1.0,
        *,
        conditional: bool = False,
    ) -> None:
        super().__init__(denoiser)
        check_mean(denoiser, "guidance by a classifier")
        self.classifier, self.scale, self.conditional = classifier, _finite("scale", scale), conditional
        self.label = _numbers_of(label, denoiser)
        if self.label.dim() > 1 or bool((self.label < 0).any()):
            raise InputError("label is a number from 0 on, or one for each sample")

    def __call__(self, x_t: Tensor, t: Time, cond: Words = None) -> Tensor:
        """Return x0_hat `[B, *S]`, guided."""
        x0_hat = self.base(x_t, t, cond if self.conditional else None)
        alpha, sigma = self.schedule.scales(t)
        if self.scale == 0 or _all(alpha, 0.0):  # where nothing is left of the sample nothing is known of its label
            return x0_hat
        gain = expand_to(torch.as_tensor(sigma * sigma / alpha), x0_hat)
        return x0_hat + self.scale * gain * self.gradient(x_t, t)

    def gradient(self, x_t: Tensor, t: Time) -> Tensor:
        """Return grad log p(label | x_t), `[B, *S]`.

        Raises:
            InputError: if the classifier does not know the label.
        """
        with torch.enable_grad():
            x = x_t.detach().requires_grad_()
            logits = self.classifier(x, t)
            if logits.dim() != 2 or len(logits) != len(x) or int(self.label.max()) >= logits.shape[1]:
                raise InputError(
                    f"a classifier gives one logit a label, [{len(x)}, K] with K above {int(self.label.max())}, not "
                    f"{list(logits.shape)}"
                )
            rows = self.label.expand(len(x)) if self.label.dim() == 0 else self.label
            chosen = logits.log_softmax(1).gather(1, rows[:, None])
            (gradient,) = torch.autograd.grad(chosen.sum(), x)
        return gradient

    def of_rows(self, rows: Tensor) -> DenoiserLike:
        """Return the denoiser of some samples: each goes towards its own label."""
        part = self._around(of_rows(self.base, rows))
        if self.label.dim() == 0:
            return part
        part = copy.copy(part)
        part.label = _taken(self.label, rows, "labels")
        return part

    def on(self, schedule: Schedule) -> DenoiserLike:
        """Refuse: the classifier knows the times of this path alone.

        Raises:
            InputError: always, but for its own path.
        """
        if schedule == self.schedule:
            return self
        raise InputError("a classifier of noisy samples knows its own path: give the denoiser on the path to sample on")


class Inpainted(Wrapper):
    """Complete samples of which a part is known: x0_hat with the known part put in.

    The known coordinates of x_t then walk exactly as a noisy known value does, and the rest is denoised in their sight:
    the replacement method (Song et al. 2021, score SDE, appendix I.2, at the level of x0). Alone it leaves samples
    between the modes, where the unknown part was drawn before it saw the known one; with the sampler `RePaint` it
    does not.

    Args:
        denoiser: of whole samples.
        known: a sample `[*X]`, or one for each sample to be drawn, `[n, *X]`; in the data's units. What is not to be
            kept of it may be anything, NaN too.
        mask: true where `known` is to be kept, `[*X]` or `[n, *X]`.

    Raises:
        InputError: if the shapes do not fit, or nothing or everything is known.
    """

    def __init__(self, denoiser: DenoiserLike, known: Any, mask: Any) -> None:
        super().__init__(denoiser)
        codec = denoiser.codec
        mask = torch.as_tensor(mask, dtype=torch.bool, device=denoiser.device)
        known = as_samples(known)
        of_bytes = codec.of_bytes and bool((known[torch.isfinite(known)] % 1 == 0).all())
        known = known.to(denoiser.device)
        rows = max(known.dim(), mask.dim()) - codec.ndim(len(denoiser.shape))
        try:
            known, mask = torch.broadcast_tensors(known, mask)
        except RuntimeError:
            raise InputError(
                f"known and mask must have the same shape, not {list(known.shape)} and {list(mask.shape)}"
            ) from None
        if rows not in (0, 1):
            raise InputError(f"known and mask must be one sample or [n] of them, not {list(known.shape)}")
        known, mask = (part if rows else part[None] for part in (known, mask))
        if not torch.isfinite(known[mask]).all():
            raise InputError("a known value is NaN or infinite")
        self.mask = torch.stack([codec.mask(one) for one in mask])
        if tuple(self.mask.shape[1:]) != denoiser.shape:
            raise InputError(f"known and mask must have the samples' shape {list(denoiser.shape)}")
        if bool(self.mask.flatten(1).all(1).any()) or not bool(self.mask.flatten(1).any(1).all()):
            raise InputError("the mask must leave a part to complete and keep a part")
        whole = torch.where(mask, known, known[mask].mean())
        whole = whole.round().clamp(0, 255).to(torch.uint8) if of_bytes else whole
        z = codec.into(codec.store(whole), stream(0, "known"))
        if not torch.isfinite(z[self.mask]).all():
            raise InputError("a known value is not finite once the codec has taken it in")
        self.known = torch.where(self.mask, z, 0.0)

    def __call__(self, x_t: Tensor, t: Time, cond: Words = None) -> Tensor:
        """Return x0_hat `[B, *S]`, the known part as it is known.

        Raises:
            InputError: if there is one known value for each sample, and x_t has another number of rows.
        """
        x0_hat = self.base(x_t, t, cond)
        if len(self.known) not in (1, len(x_t)):
            raise InputError(f"{len(self.known)} known samples were given, and {len(x_t)} are to be completed")
        return torch.where(self.mask, self.known.to(x0_hat), x0_hat)

    def of_rows(self, rows: Tensor) -> DenoiserLike:
        """Return the denoiser of some samples: each keeps its own known part."""
        part = self._around(of_rows(self.base, rows))
        if len(self.known) == 1:
            return part
        part = copy.copy(part)
        part.known, part.mask = (_taken(each, rows, "known samples") for each in (self.known, self.mask))
        return part

    def on(self, schedule: Schedule) -> DenoiserLike:
        """Return the same on another path."""
        return self._around(self.base.on(schedule))


def _taken(each: Tensor, rows: Tensor, what: str) -> Tensor:
    """Return the rows of what there is one of for each sample."""
    if len(each) <= int(rows.max()):
        raise InputError(f"{len(each)} {what} were given for more samples: give one for all, or one for each")
    return each[rows.to(each.device)]


def _numbers_of(label: Any, denoiser: DenoiserLike) -> Tensor:
    """Return the numbers of labels, `[]` or `[n]`, where they are given by name."""
    names = denoiser.label_names
    each = [label] if isinstance(label, str) else label
    if isinstance(each, list | tuple) and any(isinstance(one, str) for one in each):
        numbers = [find_label(one, names) for one in each]
        label = numbers[0] if isinstance(label, str) else numbers
    if torch.as_tensor(label).is_floating_point():
        raise InputError(f"a label is a name or a whole number, not {label!r}")
    return torch.as_tensor(label, dtype=torch.int64, device=denoiser.device)


def _finite(name: str, value: float) -> float:
    if not math.isfinite(value):
        raise InputError(f"{name} must be a finite number, not {value!r}")
    return float(value)


def _said(words: Any) -> int:
    """Return how many samples' conditions a user's words may be."""
    words = next(iter(words.values()), None) if isinstance(words, Mapping) else words
    several = isinstance(words, Cond | list | tuple) or (isinstance(words, Tensor | np.ndarray) and words.ndim > 0)
    return len(words) if several else 1


def _scales(value: Any, device: torch.device) -> float | Tensor:
    """Return a scale, or one for each sample, `[n]`."""
    numbers = torch.as_tensor(value, dtype=torch.float32, device=device)
    if numbers.dim() == 0:
        return _finite("scale", float(value))
    if numbers.dim() > 1 or not torch.isfinite(numbers).all():
        raise InputError(f"scale must be a finite number, or one for each sample, not of shape {list(numbers.shape)}")
    return numbers


def _interval(interval: tuple[float, float]) -> tuple[float, float]:
    low, high = interval
    if not 0 <= low <= high:
        raise InputError(f"an interval of noise levels goes from low to high, both at least 0, not {interval!r}")
    return float(low), float(high)


def _all(scale: float | Tensor, value: float) -> bool:
    return not isinstance(scale, Tensor) and scale == value
