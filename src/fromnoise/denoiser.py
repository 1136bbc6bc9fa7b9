"""The denoiser: `denoiser(x_t, t, cond) -> x0_hat = E[x0 | x_t]`, the waist of the library.

Training makes one, guidance combines them, an exact answer is one, and a sampler sees nothing else.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn

from fromnoise.arrays import Batch, Scale, Time, expand_to, path_ratio
from fromnoise.cond import Cond
from fromnoise.conditioners import Conditioner, Labels, Words, label_names_of, read_cond
from fromnoise.data.codec import Affine, Codec, codec_of
from fromnoise.data.moments import effective_dimension, rms_about_mean
from fromnoise.data.source import Source, samples
from fromnoise.deprecated import Renamed, renamed_argument
from fromnoise.errors import InputError
from fromnoise.nn.network import Network, conditioners_of, plain
from fromnoise.process import Prediction, prediction, predictions
from fromnoise.reach import Spread
from fromnoise.rng import stream
from fromnoise.schedule import Schedule


@runtime_checkable
class DenoiserLike(Protocol):
    """What a sampler may ask of a denoiser."""

    @property
    def schedule(self) -> Schedule:
        """The path its x_t lie on."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape S of one sample."""
        ...

    @property
    def sigma_data(self) -> float:
        """One coordinate's standard deviation about the mean, in the denoiser's units."""
        ...

    @property
    def effective_dimension(self) -> float:
        """In how many directions the data vary, (tr C)^2 / tr C^2."""
        ...

    @property
    def codec(self) -> Codec:
        """Between the data's units and the denoiser's."""
        ...

    @property
    def conditioners(self) -> tuple[Conditioner, ...]:
        """What turns a user's words into conditions; empty where the denoiser takes none."""
        ...

    @property
    def label_names(self) -> tuple[str, ...]:
        """The labels it knows, in the order of their numbers."""
        ...

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        ...

    def __call__(self, x_t: Tensor, t: Time, cond: Words = None) -> Tensor:
        """Return x0_hat `[B, *S]` for x_t `[B, *S]` at time t, `[]` or `[B]`, under a condition of one row or of B."""
        ...

    def read(self, words: Words, n: int) -> Cond | None:
        """Return the condition of n samples that a user's words mean.

        Raises:
            LabelError: if the denoiser does not know them.
        """
        ...

    def on(self, schedule: Schedule) -> DenoiserLike:
        """Return the same denoiser on another path."""
        ...


class Predicted(NamedTuple):
    """The answer of a denoiser with a learned variance.

    Attributes:
        x0_hat: `[B, *S]`.
        variance_fraction: where the logarithm of a step's variance lies, `[B, *S]`: 0 at that of the posterior,
            beta-tilde, 1 at that of the noising step, beta. Source: Nichol & Dhariwal 2021, eq. 15.
    """

    x0_hat: Tensor
    variance_fraction: Tensor

    share = Renamed("variance_fraction")


class Denoiser(nn.Module):
    """A network on a schedule, with the meaning of its output.

    Args:
        network: answers `network(x, c_noise, cond)`, cond being a `Cond` or None.
        schedule: the path it is trained on.
        predict: what its output means: "eps", "x0", "v", "flow", "score", "edm", or a prediction of your own.
        sigma_data: one coordinate's standard deviation in the denoiser's units, for predictions that depend on it.
        effective_dimension: in how many directions the data vary; in all, where it was not measured.
        codec: between the data's units and the denoiser's.
        label_names: names for the network's classes; their numbers where none are given.
        conditioners: for what the network takes, where it is not labels by name or plain vectors.

    Raises:
        InputError: if the output cannot give x0 at t = 1, where this schedule leaves no signal.
    """

    @renamed_argument("scaling", "codec", codec_of)
    def __init__(
        self,
        network: nn.Module,
        schedule: Schedule,
        predict: str | Mapping[str, Any] | Prediction = "eps",
        *,
        sigma_data: float = 1.0,
        effective_dimension: float | None = None,
        codec: Codec | None = None,
        label_names: Sequence[str] = (),
        conditioners: Sequence[Conditioner] = (),
    ) -> None:
        super().__init__()
        self.network = network
        self.schedule = schedule
        self.predict = prediction(predict)
        inside = plain(network)
        if not hasattr(inside, "shape"):
            raise InputError(
                f"a network says the shape of one sample by its attribute `shape`, and {type(inside).__name__} has none"
            )
        self.shape: tuple[int, ...] = tuple(inside.shape)  # pyright: ignore[reportArgumentType] every network has one
        self.rescale(codec or Affine(), sigma_data, effective_dimension)
        self._may_measure = codec is None
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

    def measure(self, data: Source, codec: Codec | None = None) -> None:
        """Take codec, sigma_data and conditioners from the data, unless a codec was given at construction.

        Args:
            data: what will be trained on.
            codec: measured on the data, unless it was already; `Affine()` when not given.

        Raises:
            InputError: if the data's shape is not the network's, or the codec makes no finite numbers of them.
            LabelError: if the network takes other conditions than the data have.
        """
        if self._may_measure:
            codec = codec or Affine()
            codec = codec if codec.shape else codec.fitted(data)
        else:
            codec = self.codec
        if codec.shape_of(data.shape) != self.shape:
            raise InputError(f"the data's samples have shape {list(data.shape)}, the network's {list(self.shape)}")
        self._know(data.conditioners)
        if self._may_measure:
            z = codec.into(codec.store(samples(data)), stream(0, "measured"))
            bad = int((~torch.isfinite(z)).flatten(1).any(1).sum())
            if bad:
                raise InputError(f"{bad:,} of {len(z):,} samples are not finite once the codec has taken them in")
            self.rescale(codec, rms_about_mean(z) or 1.0, effective_dimension(z))  # a point has no spread

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
            LabelError: if the denoiser does not know them.
        """
        return read_cond(self.conditioners, words, n, self.device)

    def rescale(self, codec: Codec, sigma_data: float, effective_dimension: float | None = None) -> None:
        """Take these as what was measured of the data, and fit the prediction to them.

        Args:
            codec: between the data's units and the denoiser's.
            sigma_data: one coordinate's standard deviation about the mean.
            effective_dimension: in how many directions the data vary; in all, where it was not measured.
        """
        self.codec, self.sigma_data, self._may_measure = codec.shaped(self.shape), sigma_data, False
        self.effective_dimension = effective_dimension or float(math.prod(self.shape))
        self.prediction: Prediction = self.predict.fitted(sigma_data, self.codec)
        scales = [self.schedule.scales(t) for t in (0.0, 0.5, 1.0)]
        self._rescales = any(self.prediction.input_scale(*scale) != 1 for scale in scales)

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device

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
        """Return x0_hat `[B, *S]`."""
        return self.prediction.x0_hat(self.prediction_of(x_t, t, cond), x_t, *self.schedule.scales(t))

    def predicted(self, x_t: Batch, t: Time, cond: Words = None) -> Predicted:
        """Return x0_hat and the fraction that sets a step's variance.

        Raises:
            InputError: if the network has no learned variance.
        """
        if not self.learned_variance:
            raise InputError(_NO_VARIANCE)
        out, variance_fraction = self.split_variance(
            self.network_output(self.precondition(x_t, self.schedule.scales(t)), self.c_noise(t), cond)
        )
        return Predicted(self.prediction.x0_hat(out, x_t, *self.schedule.scales(t)), variance_fraction)

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
        if not self.schedule.c_noise_is_level:
            raise InputError(
                "this model was trained on a table and is told its step index, so it knows that table only: sample on "
                "its own schedule, or train with a continuous one (edm, vp, flow, trig)"
            )
        return OnPath(self, schedule)


_NO_VARIANCE = 'this model has no learned variance: train one (--recipe improved), or take variance "small" or "large"'


def predicted(denoiser: DenoiserLike, x_t: Tensor, t: Time, cond: Words = None) -> Predicted:
    """Return x0_hat and the fraction that sets a step's variance, of a denoiser that knows it.

    Raises:
        InputError: if it knows none: it was trained without, or is guided, exact, or on another path.
    """
    ask = getattr(denoiser, "predicted", None)
    if ask is None:
        raise InputError(
            "a denoiser that is guided, exact, or not on its own path gives no learned variance: sample a model "
            'of --recipe improved as it is, or take variance "small" or "large"'
        )
    return ask(x_t, t, cond)


Wrapping = TypeVar("Wrapping", bound="Wrapper")


class Wrapper:
    """A denoiser around another. Everything that it does not answer itself is the other's, asked anew each time."""

    def __init__(self, base: DenoiserLike) -> None:
        self.base = base

    @property
    def schedule(self) -> Schedule:
        """The path its x_t lie on."""
        return self.base.schedule

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape S of one sample."""
        return self.base.shape

    @property
    def sigma_data(self) -> float:
        """One coordinate's standard deviation about the mean."""
        return self.base.sigma_data

    @property
    def effective_dimension(self) -> float:
        """In how many directions the data vary."""
        return self.base.effective_dimension

    scaling = Renamed("codec")

    @property
    def codec(self) -> Codec:
        """Between the data's units and the denoiser's."""
        return self.base.codec

    @property
    def conditioners(self) -> tuple[Conditioner, ...]:
        """What turns a user's words into conditions."""
        return self.base.conditioners

    @property
    def label_names(self) -> tuple[str, ...]:
        """The labels it knows, in the order of their numbers."""
        return label_names_of(self.conditioners)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.base.device

    def read(self, words: Words, n: int) -> Cond | None:
        """Return the condition of n samples that a user's words mean."""
        return self.base.read(words, n)

    def __call__(self, x_t: Tensor, t: Time, cond: Words = None) -> Tensor:
        """Return x0_hat `[B, *S]`."""
        return self.base(x_t, t, cond)

    def on(self, schedule: Schedule) -> DenoiserLike:
        """Return the same denoiser on another path."""
        raise NotImplementedError

    def of_rows(self, rows: Tensor) -> DenoiserLike:
        """Return the denoiser of some samples of all that are drawn: samplers draw them chunk by chunk.

        A denoiser that holds something for each sample takes these rows of it.

        Args:
            rows: the samples' numbers, `[B]`, for the x_t `[B, *S]` that it will be asked for.
        """
        return self._around(of_rows(self.base, rows))

    def _around(self: Wrapping, base: DenoiserLike) -> Wrapping:
        """Return this denoiser around another base; itself, around its own."""
        if base is self.base:
            return self
        other = copy.copy(self)
        other.base = base
        return other


def of_rows(denoiser: DenoiserLike, rows: Tensor) -> DenoiserLike:
    """Return the denoiser of some samples; itself, where all samples are alike to it (see `Wrapper.of_rows`)."""
    part = getattr(denoiser, "of_rows", None)
    return denoiser if part is None else part(rows)


class OnPath(Wrapper):
    """A denoiser that depends on the noise level alone, on another schedule's path."""

    def __init__(self, base: DenoiserLike, schedule: Schedule) -> None:
        super().__init__(base)
        self._path = schedule

    @property
    def schedule(self) -> Schedule:
        return self._path

    def __call__(self, x_t: Tensor, t: Time, cond: Words = None) -> Tensor:
        """Return x0_hat for x_t on this path: rescale x_t onto the base's path at the same noise level."""
        own = self.base.schedule.time_of_level(self.schedule.noise_level(t))
        alpha, sigma = self.schedule.scales(t)
        own_alpha, own_sigma = self.base.schedule.scales(own)
        return self.base(expand_to(path_ratio(own_alpha, own_sigma, alpha, sigma), x_t) * x_t, own, cond)

    def on(self, schedule: Schedule) -> DenoiserLike:
        """Return the same denoiser on yet another path."""
        return self.base if schedule == self.base.schedule else OnPath(self.base, schedule)


def spread(denoiser: DenoiserLike) -> Spread:
    """Return how far the data reach; a single point counts as of R = 1."""
    dimension = math.prod(denoiser.shape)
    rms = denoiser.sigma_data * math.sqrt(dimension) or 1.0
    return Spread(rms, dimension, min(max(denoiser.effective_dimension, 1.0), dimension))


def start_std(denoiser: DenoiserLike) -> float:
    """Return the standard deviation of a sampler's start: that of x_1, sqrt(alpha(1)^2 sigma_data^2 + sigma(1)^2).

    It is sigma(1) where alpha(1) is nearly 0, and more on a short table, where much of the data is left at t = 1.
    """
    alpha, sigma = (float(scale) for scale in denoiser.schedule.scales(1.0))
    return math.hypot(alpha * denoiser.sigma_data, sigma)
