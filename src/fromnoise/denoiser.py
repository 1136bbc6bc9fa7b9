"""The denoiser: `denoiser(x_t, t, cond) -> x0_hat = E[x0 | x_t]`, the waist of the library.

Training makes one, guidance combines them, an exact answer is one, and a sampler sees nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fromnoise.arrays import Batch, Scale, Time, expand_to
from fromnoise.cond import Cond
from fromnoise.conditioners import Conditioner, Labels, Words, encoded, label_names_of, needed_of, read_cond
from fromnoise.data.codec import Affine, Codec, codec_of
from fromnoise.denoiser_like import (
    NEVER_WITHOUT,
    NO_VARIANCE,
    DenoiserLike,
    OnPath,
    Predicted,
    Wrapper,
    of_rows,
    predicted,
    spread,
    start_std,
)
from fromnoise.deprecated import Renamed, renamed_argument
from fromnoise.errors import InputError, LabelError
from fromnoise.model import Model
from fromnoise.nn.network import Network, conditioners_of, plain
from fromnoise.own_grid import FewSteps
from fromnoise.process import Prediction, prediction, predictions
from fromnoise.schedule import Schedule, schedules

__all__ = [
    "Denoiser",
    "DenoiserLike",
    "OnPath",
    "Predicted",
    "Wrapper",
    "of_rows",
    "predicted",
    "spread",
    "start_std",
]

NEARLY_NO_SIGNAL = 160.0
"""The sigma/alpha above which eps and the score tell nothing of x0; DDPM's linear table ends just below, at 157."""


class Denoiser(Model):
    """A network on a schedule, with the meaning of its output.

    A network that predicts eps or the score tells x0 with sigma/alpha times its own error. Where that factor is above
    160, as at the end of the cosine table (20,000), the best linear answer for data of mean 0 takes its place,
    sigma_data^2 alpha/(alpha^2 sigma_data^2 + sigma^2) x_t, also under a condition, whose own mean it leaves out.

    Args:
        network: answers `network(x, c_noise, cond)`, cond being a `Cond` or None.
        schedule: the path it is trained on, an object, a name or settings.
        predict: what its output means: "eps", "x0", "v", "flow", "score", "edm", or a prediction of your own.
        sigma_data: one coordinate's standard deviation in the denoiser's units, for predictions that depend on it.
        effective_dimension: in how many directions the data vary; in all, where it was not measured.
        codec: between the data's units and the denoiser's.
        label_names: names for the network's classes; their numbers where none are given.
        conditioners: for what the network takes, where it is not labels by name or plain vectors.
        grid: of a model of few steps, how it is sampled, and at which times.

    Raises:
        InputError: if the output cannot give x0 at t = 1, where this schedule leaves no signal.
    """

    @renamed_argument("scaling", "codec", codec_of)
    def __init__(
        self,
        network: nn.Module,
        schedule: Schedule | Mapping[str, Any] | str,
        predict: str | Mapping[str, Any] | Prediction = "eps",
        *,
        sigma_data: float = 1.0,
        effective_dimension: float | None = None,
        codec: Codec | None = None,
        label_names: Sequence[str] = (),
        conditioners: Sequence[Conditioner] = (),
        grid: FewSteps | None = None,
    ) -> None:
        super().__init__(network, codec)
        inside = plain(network)
        self.grid: FewSteps | None = grid
        self.schedule = schedule = schedules.get(schedule)
        self.predict = prediction(predict)
        self.rescale(codec or Affine(), sigma_data, effective_dimension)
        self._may_measure = codec is None
        self.unconditional = True  # whether it has an answer without a condition; `trained_dropping` says
        self.learned_variance = bool(getattr(inside, "learned_variance", False))
        self.conditioners = conditioners_of(inside)
        given = [*([Labels(names=tuple(label_names))] if label_names else []), *conditioners]
        extra = {one.value for one in given} - {one.value for one in self.conditioners}
        if extra:
            raise InputError(f"a conditioner of {extra.pop()!r} was given, and the network takes none of these")
        if given:
            self._know(given)
        if self.prediction.needs_signal and schedule.alpha(1.0) == 0:
            name = predictions.settings(self.predict)["name"]
            raise InputError(
                f"{name!r} cannot be predicted where alpha = 0, and this schedule ends there (zero terminal SNR): "
                'predict "v", "x0", "flow" or "edm" instead'
            )

    told, raw, scaling = Renamed("c_noise"), Renamed("prediction_of"), Renamed("codec")
    say, scale_in, halves = Renamed("network_output"), Renamed("precondition"), Renamed("split_variance")

    def trained_dropping(self, drop_cond: float) -> None:
        """Note with which probability the training left conditions out: without any, only conditions are answered."""
        self.unconditional = drop_cond > 0 or not any(one.droppable for one in self.conditioners)

    def _know(self, given: Sequence[Conditioner]) -> None:
        """Take conditioners for what the network takes; of what it does not take it need not know.

        Raises:
            LabelError: if the network takes something else.
        """
        by_value = {one.value: one for one in given}
        for own in self.conditioners:
            own.check_fits(by_value.get(own.value))
        self.conditioners = tuple(by_value.get(own.value, own) for own in self.conditioners)

    @property
    def label_names(self) -> tuple[str, ...]:
        """The labels it knows, in the order of their numbers."""
        return label_names_of(self.conditioners)

    def read(self, words: Words, n: int) -> Cond | None:
        """Return the condition of n samples that a user's words mean.

        Args:
            words: labels by name or number, condition vectors, or a mapping by name: one for all samples or one each.
            n: the number of samples.

        Raises:
            LabelError: if the denoiser does not know them, or none are given and it was never trained without.
        """
        if words is None and not self.unconditional:
            raise LabelError(NEVER_WITHOUT)
        cond = read_cond(self.conditioners, words, n, self.device)
        for name in needed_of(self.conditioners):
            if cond is None or name not in cond.values:
                raise LabelError(f"this model is never without a condition {name!r}: give it too")
        return cond

    def rescale(self, codec: Codec, sigma_data: float, effective_dimension: float | None = None) -> None:
        """Take these as what was measured of the data, and fit the prediction to them.

        Args:
            codec: between the data's units and the denoiser's.
            sigma_data: one coordinate's standard deviation about the mean.
            effective_dimension: in how many directions the data vary; in all, where it was not measured.
        """
        super().rescale(codec, sigma_data, effective_dimension)
        self.prediction: Prediction = self.predict.fitted(sigma_data, self.codec)
        scales = [self.schedule.scales(t) for t in (0.0, 0.5, 1.0)]
        self._rescales = any(self.prediction.input_scale(*scale) != 1 for scale in scales)
        alpha, sigma = scales[-1]
        self._ends_in_noise = self.prediction.needs_signal and bool(sigma > NEARLY_NO_SIGNAL * alpha)

    def c_noise(self, t: Time) -> Scale:
        """Return what the network is given as the time, shaped like t: a table's index, or the clamped log SNR."""
        return self.schedule.c_noise(t)

    def prediction_of(self, x_t: Batch, t: Time, cond: Words = None) -> Batch:
        """Return the network's prediction `[B, *S]`, in x_t's precision: its output without the variance's half."""
        out = self.network_output(self.precondition(x_t, self.schedule.scales(t)), self.c_noise(t), cond)
        return out[:, : self.shape[0]] if self.learned_variance else out

    def precondition(self, x_t: Batch, scales: tuple[Any, Any]) -> Batch:
        """Return the network's input c_in x_t; `scales` are alpha and sigma."""
        return expand_to(self.prediction.input_scale(*scales), x_t) * x_t if self._rescales else x_t

    def network_output(self, x: Batch, c_noise: Any, cond: Words = None) -> Tensor:
        """Return the network's whole output for its own input x and `c_noise`, in x's precision."""
        cond = cond if cond is None or isinstance(cond, Cond) else self.read(cond, len(x))
        cond = cond if cond is None else encoded(cond, self.conditioners)
        dtype, own = x.dtype, next(self.network.parameters()).dtype
        if dtype != own:  # the arithmetic around the network may be finer than the network's own, or coarser
            x, cond = x.to(own), None if cond is None else cond.in_precision(own)
        elif own != torch.float32 and cond is not None:
            cond = cond.in_precision(own)
        if isinstance(c_noise, Tensor):
            c_noise = c_noise.to(x)
        elif not isinstance(self.network, Network):  # a module of another kind expects a tensor
            c_noise = torch.full((), c_noise, dtype=x.dtype, device=x.device)
        return self.network(x, c_noise, cond).to(dtype)

    def forward(self, x_t: Batch, t: Time, cond: Words = None) -> Batch:
        """Return x0_hat `[B, *S]`; of a distilled model, where a step of DDIM from t is to point."""
        if self.grid is not None:
            self.grid.check(self.schedule, t)
        return self._x0_hat(self.prediction_of(x_t, t, cond), x_t, *self.schedule.scales(t))

    def _x0_hat(self, output: Batch, x_t: Batch, alpha: Any, sigma: Any) -> Batch:
        """Return x0_hat for the network's output, or the best linear answer where the output tells nothing of x0."""
        answer = self.prediction.x0_hat(output, x_t, alpha, sigma)
        if not self._ends_in_noise:
            return answer
        variance = self.sigma_data**2
        linear = expand_to(alpha * variance / (alpha * alpha * variance + sigma * sigma), x_t) * x_t
        noise_alone = sigma > NEARLY_NO_SIGNAL * alpha
        if isinstance(noise_alone, Tensor):
            rows = noise_alone.to(x_t.device).reshape(-1, *([1] * len(self.shape)))
            return torch.where(rows, linear, answer)
        return linear if noise_alone else answer

    def predicted(self, x_t: Batch, t: Time, cond: Words = None) -> Predicted:
        """Return x0_hat and the fraction that sets a step's variance.

        Raises:
            InputError: if the network has no learned variance.
        """
        if not self.learned_variance:
            raise InputError(NO_VARIANCE)
        out, variance_fraction = self.split_variance(
            self.network_output(self.precondition(x_t, self.schedule.scales(t)), self.c_noise(t), cond)
        )
        return Predicted(self._x0_hat(out, x_t, *self.schedule.scales(t)), variance_fraction)

    def split_variance(self, out: Tensor) -> tuple[Tensor, Tensor]:
        """Split the output of a network with a learned variance into its prediction and the fraction (v + 1)/2."""
        mean, v = out.chunk(2, dim=1)
        return mean, (v + 1) / 2

    def on(self, schedule: Schedule) -> DenoiserLike:
        """Return this denoiser as one on another path.

        x_t / alpha = x0 + (sigma/alpha) eps on any path, so a denoiser that is told the noise level alone is the
        same function on all of them.

        Raises:
            InputError: if this denoiser's schedule is a table, as its network knows the table's steps only.
        """
        if schedule == self.schedule:
            return self
        if self.grid is not None:
            raise InputError("a model of few steps was trained for its own path, and can be sampled on no other")
        if not self.schedule.c_noise_is_level:
            raise InputError(
                "this model was trained on a table and is told its step index, so it knows that table only: sample on "
                "its own schedule, or train with a continuous one (edm, vp, flow, trig)"
            )
        return OnPath(self, schedule)
