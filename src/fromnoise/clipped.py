"""Denoisers whose answers are kept within the range that samples can have."""

from __future__ import annotations

import torch
from torch import Tensor

from fromnoise.arrays import Time
from fromnoise.conditioners import Words
from fromnoise.denoiser_like import DenoiserLike, Predicted, Wrapper, predicted
from fromnoise.errors import InputError
from fromnoise.schedule import Schedule


class Clipped(Wrapper):
    """x0_hat clipped to the range of the data, and with a percentile scaled back into it.

    A sampler takes eps, the score and all else from x0_hat, so what it derives fits the clipped answer.

    Static: values outside [low, high] become low or high. Dynamic: let s be the percentile of the distances from the
    middle of the range, in half ranges, of one answer; where s is above 1 the answer is clipped to s half ranges and
    divided by s. Source: Saharia et al. 2022, section 2.3.

    Points and tables have no such range: clipping the article's spiral to [-1, 1] makes its error thirty times larger.

    Args:
        denoiser: whose answers are clipped.
        low: the least value a sample can have, in the data's own units; black when not given: 0, or what the codec
            found in pictures of floats.
        high: the greatest value; white when not given: 255, or what the codec found.
        percentile: for the dynamic rule, in (0, 1), 0.995 in the paper; None for the static rule.

    Raises:
        InputError: if a setting is out of its range.
    """

    def __init__(
        self,
        denoiser: DenoiserLike,
        low: float | None = None,
        high: float | None = None,
        *,
        percentile: float | None = None,
    ) -> None:
        super().__init__(denoiser)
        black, white = denoiser.codec.ends or (0.0, 255.0)
        low, high = black if low is None else low, white if high is None else high
        if not low < high:
            raise InputError(f"low must lie below high, not {low!r} >= {high!r}")
        if percentile is not None and not 0 < percentile < 1:
            raise InputError(f"percentile must lie in (0, 1), not {percentile!r}")
        self.percentile = percentile
        codec = denoiser.codec
        if not codec.keeps_order:
            raise InputError("this denoiser's codec does not keep the order of values, so a range means nothing to it")
        ends = [torch.full((1, *denoiser.shape), end, device=denoiser.device) for end in (low, high)]
        self.low, self.high = (codec.into(codec.store(end)) for end in ends)
        if self.low.shape[1:] != denoiser.shape or not bool((self.low < self.high).all()):
            raise InputError("this denoiser's codec does not keep the order of values, so a range means nothing to it")

    def __call__(self, x_t: Tensor, t: Time, cond: Words = None) -> Tensor:
        """Return x0_hat `[B, *S]` within the range."""
        return self.clip(self.base(x_t, t, cond))

    def predicted(self, x_t: Tensor, t: Time, cond: Words = None) -> Predicted:
        """Return x0_hat within the range, and the fraction that sets a step's variance."""
        answer = predicted(self.base, x_t, t, cond)
        return Predicted(self.clip(answer.x0_hat), answer.variance_fraction)

    def clip(self, x0_hat: Tensor) -> Tensor:
        """Return an answer within the range."""
        low, high = self.low.to(x0_hat), self.high.to(x0_hat)
        if self.percentile is None:
            return torch.maximum(torch.minimum(x0_hat, high), low)
        middle, half = (low + high) / 2, (high - low) / 2
        off = (x0_hat - middle) / half
        s = torch.quantile(off.flatten(1).abs(), self.percentile, dim=1).clamp(min=1)
        s = s.reshape(-1, *([1] * (x0_hat.dim() - 1)))
        return middle + half * torch.maximum(torch.minimum(off, s), -s) / s

    def on(self, schedule: Schedule) -> DenoiserLike:
        """Return the same on another path."""
        return self._around(self.base.on(schedule))
