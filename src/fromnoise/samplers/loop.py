"""The one loop that drives every sampler.

Samples are made in chunks with fixed boundaries. Chunk c has a generator of its own, derived from (seed, c), and a
denoiser always sees whole chunks, the last one padded: so sample i is the same for any n. Each chunk walks all its
steps before the next, so its rows stay in the processor's cache and memory does not grow with n. The first chunks are
small, so that drawing 300 samples does not compute 2,048 rows; later chunks have the quickest size, which is larger on
a CUDA device.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor

from fromnoise.arrays import Time
from fromnoise.card import card, frames
from fromnoise.cond import Cond
from fromnoise.conditioners import Words
from fromnoise.data.numbers import as_samples
from fromnoise.denoiser_like import (
    DenoiserLike,
    Predicted,
    Wrapper,
    check_denoiser,
    of_rows,
    predicted,
    spread,
    start_std,
)
from fromnoise.errors import InputError, whole_number
from fromnoise.memory import keep_freed_memory
from fromnoise.own_grid import FewSteps
from fromnoise.rng import check_seed, stream
from fromnoise.samplers.multistep import Multistep
from fromnoise.samplers.sampler import Noise, Sampler, samplers

Precision = Literal["float32", "bf16"]
Progress = Callable[[int, int], None]
"""Called with the steps done and the steps in all, over all chunks."""


class Walked(NamedTuple):
    """One step of a walk: from t to s, with the result x_s and the first x0_hat of the step."""

    t: float
    s: float
    x_s: Tensor
    x0_hat: Tensor


class _Recorder(Wrapper):
    """A denoiser that keeps the first answer since it was last asked for it."""

    def __init__(self, base: DenoiserLike, precision: Precision) -> None:
        super().__init__(base)
        if precision not in get_args(Precision):
            raise InputError(f"precision must be float32 or bf16, not {precision!r}")
        self._bf16 = precision == "bf16"
        self._first: Tensor | None = None

    def __call__(self, x_t: Tensor, t: Time, cond: Words = None) -> Tensor:
        with self._precision(x_t):
            return self._kept(self.base(x_t, t, cond))

    def predicted(self, x_t: Tensor, t: Time, cond: Words = None) -> Predicted:
        with self._precision(x_t):
            answer = predicted(self.base, x_t, t, cond)
        self._kept(answer.x0_hat)
        return answer

    def _precision(self, x_t: Tensor) -> Any:
        return torch.autocast(x_t.device.type, torch.bfloat16) if self._bf16 else contextlib.nullcontext()

    def _kept(self, answer: Tensor) -> Tensor:
        if self._first is None:
            self._first = answer
        return answer

    def take(self, otherwise: Tensor) -> Tensor:
        first, self._first = self._first, None
        return otherwise if first is None else first

    def on(self, schedule: Any) -> DenoiserLike:
        return self.base.on(schedule)


def walk(
    denoiser: DenoiserLike,
    sampler: Sampler,
    times: Sequence[float],
    x: Tensor,
    *,
    cond: Cond | None = None,
    noise: Noise | None = None,
    precision: Precision = "float32",
) -> Iterator[Walked]:
    """Step x `[B, *S]` from times[0] along the grid, yielding after each step.

    Args:
        denoiser: returns x0_hat, in its own units.
        sampler: the rule.
        times: the grid, strictly decreasing.
        x: the start, at times[0].
        cond: passed to the denoiser.
        noise: draws noise of x's shape; standard normal from a stream of seed 0 when not given.
        precision: "bf16" runs the network in bfloat16, the rest in x's precision.
    """
    generator = stream(0, "walk", device=x.device) if noise is None else None
    noise = noise or (lambda: torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device))
    recorder = _Recorder(denoiser, precision)
    state: Any = None
    for t, s in pairwise(times):
        with torch.no_grad():  # not inference mode: a denoiser may need a gradient of its own (`torch.enable_grad()`)
            x, state = sampler.step(recorder, x, t, s, cond=cond, noise=noise, state=state)
        yield Walked(t, s, x, recorder.take(x))


def chunks(
    n: int, shape: Sequence[int], device: torch.device | None = None, chunk_rows: int | None = None
) -> Iterator[tuple[int, int, int]]:
    """Yield (chunk, first sample, rows) for n samples.

    A network that says how many rows suit it gets 16, 32, ... up to these; others get 304, 608, 1,216, then 2,048 rows
    of small samples, and 32 of large ones. On a CUDA device chunks double on, 5 times and up to 77,824 rows: with
    fewer, starting kernels takes the time.

    Args:
        n: the number of samples.
        shape: S, of one.
        device: where they are computed.
        chunk_rows: how many rows suit the network.
    """
    on_cuda = device is not None and device.type == "cuda"
    if chunk_rows is not None:
        least, most = 16, chunk_rows * (2**5 if on_cuda else 1)
    elif torch.Size(shape).numel() <= 256:
        least, most = 304, 304 * 2**8 if on_cuda else 2048
    else:
        least = most = 32
    start, chunk = 0, 0
    while start < n:
        rows = min(least * 2 ** min(chunk, 20), most)
        yield chunk, start, rows
        start, chunk = start + rows, chunk + 1


def sample_chunks(
    denoiser: DenoiserLike,
    n: int,
    *,
    sampler: Sampler | Mapping[str, Any] | str | None = None,
    steps: int | None = None,
    cond: Words = None,
    seed: int = 0,
    start: Any = None,
    grid: Sequence[float] | None = None,
    precision: Precision = "float32",
    dtype: torch.dtype = torch.float32,
    progress: Progress | None = None,
) -> Iterator[Tensor]:
    """Yield samples `[rows, *S]` in the data's units, chunk by chunk, n in all. Arguments are those of `sample`."""
    keep_freed_memory()
    start = None if start is None else as_samples(start)
    rule, times = _way(denoiser, sampler, steps, grid)
    conds = denoiser.read(cond, n)
    plan = list(_plan(denoiser, n, seed, start))
    in_all = len(plan) * (len(times) - 1)

    @torch.no_grad()
    def finish(chunk: int, first: int, rows: int) -> Tensor:
        x, noise = _begin(denoiser, rows, chunk, seed, dtype)
        if start is not None:
            x = _padded(start[first : first + rows].to(x), rows)
        x = start_std(denoiser) * x
        own = _numbers(first, rows, n)
        part, cond = of_rows(denoiser, own), _cond_of(conds, own)
        way = walk(part, rule, times, x, cond=cond, noise=noise, precision=precision)
        for done, step in enumerate(way, chunk * (len(times) - 1) + 1):
            x = step.x_s
            if progress is not None:
                progress(done, in_all)
        return x[: n - first]

    for chunk, first, rows in plan:
        yield denoiser.codec.out(finish(chunk, first, rows))


def sample(
    denoiser: DenoiserLike,
    n: int,
    *,
    sampler: Sampler | Mapping[str, Any] | str | None = None,
    steps: int | None = None,
    cond: Words = None,
    seed: int = 0,
    start: Any = None,
    grid: Sequence[float] | None = None,
    precision: Precision = "float32",
    dtype: torch.dtype = torch.float32,
    progress: Progress | None = None,
) -> Tensor:
    """Draw n samples, `[n, *S]`, in the data's own units.

    Sample i depends on seed, sampler, steps and its condition alone: not on n, nor on what else is drawn.

    Args:
        denoiser: returns x0_hat; a trained, an exact or a guided one.
        n: the number of samples, at least 1.
        sampler: the rule, an object or a registered name; `Multistep()` when not given.
        steps: the number of steps, which take `sampler.evaluations(steps)` evaluations; `sampler.steps_on(schedule)`
            when not given. A distilled model knows its sampler and its steps, and takes no others.
        cond: a label by name or number, a condition vector `[D]`, a mapping of these, or one for each sample.
        seed: the seed of every random number.
        start: standard normal noise `[n, *S]` to start from instead of drawing it.
        grid: the times to step through, from 1 to 0, instead of the sampler's own grid.
        precision: "bf16" runs the network in bfloat16.
        dtype: the dtype of the arithmetic.
        progress: called with the steps done and the steps in all.

    Raises:
        InputError: if n, steps, seed or the grid cannot be used.
        LabelError: if the denoiser does not know a label.
    """
    parts = sample_chunks(
        denoiser, n, sampler=sampler, steps=steps, cond=cond, seed=seed, start=start, grid=grid,
        precision=precision, dtype=dtype, progress=progress,
    )  # fmt: skip
    return torch.cat(list(parts))


class Trajectory(NamedTuple):
    """Every step of n samples from noise to data, in the data's units.

    Attributes:
        times: the steps + 1 times of the grid, from 1 to 0.
        x: x_t at those times, `[steps + 1, n, *S]`; of unit variance before the codec, where it is not affine.
        x0_hat: the first x0_hat of each step, `[steps, n, *S]`.
        alphas: the signal scales at those times.
        sigmas: the noise scales.
    """

    times: list[float]
    x: Tensor
    x0_hat: Tensor
    alphas: list[float]
    sigmas: list[float]

    def __repr__(self) -> str:
        return f"Trajectory({self.x.shape[1]:,} samples of shape {list(self.x.shape[2:])} in {len(self.x) - 1} steps)"

    def _repr_html_(self) -> str:
        """Return the trajectory's card, for a notebook: five of its times, where samples are points in the plane."""
        count, last = self.x.shape[1], len(self.times) - 1
        at = sorted({round(i * last / 4) for i in range(5)})
        numbers = {"samples": f"{count:,}", "steps": last, "shown at t": ", ".join(f"{self.times[k]:.3g}" for k in at)}
        picture = ""
        if tuple(self.x.shape[2:]) == (2,):
            picture = frames([self.x[k][:300] for k in at], what=f"{min(count, 300)} samples from noise to data")
        return card("A trajectory", numbers, picture)


class TrajectoryStep(NamedTuple):
    """n samples at one time between noise and data, in the data's units.

    Attributes:
        t: the time.
        alpha: the signal scale there.
        sigma: the noise scale there.
        x: x_t, `[n, *S]`.
        x0_hat: the first x0_hat of the step that ended here, `[n, *S]`; None at the start.
    """

    t: float
    alpha: float
    sigma: float
    x: Tensor
    x0_hat: Tensor | None


def trajectory_steps(
    denoiser: DenoiserLike,
    n: int,
    *,
    sampler: Sampler | Mapping[str, Any] | str | None = None,
    steps: int | None = None,
    cond: Words = None,
    seed: int = 0,
    grid: Sequence[float] | None = None,
    dtype: torch.dtype = torch.float32,
) -> Iterator[TrajectoryStep]:
    """Draw the same samples as `sample`, all of them step by step: yield the start, then the end of each step.

    Arguments and errors are those of `sample`; errors are raised before the start is yielded.
    """
    rule, times = _way(denoiser, sampler, steps, grid)
    conds = denoiser.read(cond, n)
    starts: list[Tensor] = []
    ways: list[Iterator[Walked]] = []
    for chunk, first, rows in _plan(denoiser, n, seed, None):
        x, noise = _begin(denoiser, rows, chunk, seed, dtype)
        starts.append(start_std(denoiser) * x)
        own = _numbers(first, rows, n)
        part, cond = of_rows(denoiser, own), _cond_of(conds, own)
        ways.append(walk(part, rule, times, starts[-1], cond=cond, noise=noise))
    codec = denoiser.codec

    def at(t: float, x: Sequence[Tensor], x0_hat: Tensor | None) -> TrajectoryStep:
        alpha, sigma = (float(scale) for scale in denoiser.schedule.scales(t))
        x_t = torch.cat(list(x))[:n]
        return TrajectoryStep(t, alpha, sigma, codec.out_at(x_t, alpha, sigma), x0_hat)

    yield at(times[0], starts, None)
    for walked in zip(*ways, strict=True):
        x0_hat = torch.cat([part.x0_hat for part in walked])[:n]
        yield at(walked[0].s, [part.x_s for part in walked], codec.out(x0_hat))


def trajectory(
    denoiser: DenoiserLike,
    n: int,
    *,
    sampler: Sampler | Mapping[str, Any] | str | None = None,
    steps: int | None = None,
    cond: Words = None,
    seed: int = 0,
    grid: Sequence[float] | None = None,
    dtype: torch.dtype = torch.float32,
) -> Trajectory:
    """Draw the same samples as `sample`, and keep every step. Arguments and errors are those of `sample`."""
    start, *way = trajectory_steps(
        denoiser, n, sampler=sampler, steps=steps, cond=cond, seed=seed, grid=grid, dtype=dtype
    )
    return Trajectory(
        [start.t, *(step.t for step in way)],
        torch.stack([start.x, *(step.x for step in way)]),
        torch.stack([step.x0_hat for step in way if step.x0_hat is not None]),
        [start.alpha, *(step.alpha for step in way)],
        [start.sigma, *(step.sigma for step in way)],
    )


def settled(
    denoiser: DenoiserLike, sampler: Sampler | Mapping[str, Any] | str | None = None, steps: int | None = None
) -> tuple[Sampler, int]:
    """Return the rule and the number of steps with which a denoiser is sampled.

    Args:
        denoiser: of which a distilled one knows both.
        sampler: the rule, an object or a registered name; `Multistep()` when not given, or a distilled model's own.
        steps: `sampler.steps_on(schedule)` when not given, or as many as a distilled model takes.

    Raises:
        InputError: if it is no denoiser, or a distilled model is to be sampled otherwise than it was distilled for.
    """
    check_denoiser(denoiser)
    own: FewSteps | None = getattr(denoiser, "grid", None)
    usual = Multistep() if own is None else samplers.build(own.rule)
    rule = usual if sampler is None else samplers.get(sampler)
    if not isinstance(rule, Sampler):
        raise InputError(f"a sampler is an object such as fromnoise.DDIM(), or a name, not a {type(rule).__name__}")
    if own is not None:
        if rule != usual:
            raise own.refuse()
        return rule, len(own.times(denoiser.schedule, steps)) - 1
    if rule.of_few_steps:
        raise InputError(
            f"the sampler {samplers.settings(rule)['name']} is for models that were trained for it: distill a run with "
            "--method consistency, or take another sampler"
        )
    return rule, rule.steps_on(denoiser.schedule) if steps is None else steps


def usual_steps(denoiser: DenoiserLike, otherwise: int) -> int:
    """Return the steps that a distilled model takes, which takes no others; of any other denoiser `otherwise`."""
    own: FewSteps | None = getattr(denoiser, "grid", None)
    return otherwise if own is None else own.steps


def _way(
    denoiser: DenoiserLike,
    sampler: Sampler | Mapping[str, Any] | str | None,
    steps: int | None,
    grid: Sequence[float] | None,
) -> tuple[Sampler, list[float]]:
    """Return the rule and the times through which it steps."""
    rule, count = settled(denoiser, sampler, steps)
    if grid is None:
        own: FewSteps | None = getattr(denoiser, "grid", None)
        schedule = denoiser.schedule
        return rule, rule.grid(schedule, count, spread(denoiser)) if own is None else own.times(schedule, count)
    times = [float(t) for t in grid]
    if len(times) < 2 or times[0] != 1 or times[-1] != 0 or any(t <= s for t, s in pairwise(times)):
        raise InputError("a grid must fall strictly from 1 to 0")
    if steps is not None and steps != len(times) - 1:
        raise InputError(f"a grid of {len(times)} times makes {len(times) - 1} steps, not {steps}: give one of the two")
    return rule, times


def _plan(denoiser: DenoiserLike, n: int, seed: int, start: Tensor | None) -> Iterator[tuple[int, int, int]]:
    check_seed(seed)
    n = whole_number("n", n)
    if start is not None and tuple(start.shape) != (n, *denoiser.shape):
        raise InputError(f"start must be {[n, *denoiser.shape]}, not {list(start.shape)}")
    return chunks(n, denoiser.shape, denoiser.device, getattr(denoiser, "chunk_rows", None))


def _begin(denoiser: DenoiserLike, rows: int, chunk: int, seed: int, dtype: torch.dtype) -> tuple[Tensor, Noise]:
    """Return the chunk's standard normal start and its noise; both come from the chunk's own stream."""
    generator = stream(seed, "chunk", chunk, denoiser.device)

    def noise() -> Tensor:
        drawn = torch.randn((rows, *denoiser.shape), generator=generator, device=denoiser.device)
        return drawn.to(dtype)  # the same numbers in every precision

    return noise(), noise


def _numbers(first: int, rows: int, n: int) -> Tensor:
    """Return the numbers of a chunk's samples, `[rows]`, the last of all repeated as padding."""
    return torch.arange(first, first + rows).clamp(max=n - 1)


def _cond_of(cond: Cond | None, rows: Tensor) -> Cond | None:
    return None if cond is None else cond.rows(rows)


def _padded(rows: Tensor, count: int) -> Tensor:
    return torch.cat([rows, rows[-1:].expand(count - len(rows), *rows.shape[1:])]) if len(rows) < count else rows
