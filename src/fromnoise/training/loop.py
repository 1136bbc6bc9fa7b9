"""The training loop.

Each step's random numbers derive from the seed and the step's number, so a resumed run needs no saved generator: it is
bit for bit the run that was never interrupted (on one device type and build, with the same number of threads). Small
batches are drawn and noised many steps at a time, as their many small operations would cost a small network a tenth of
its speed. Inside the loop nothing waits for the device; losses are read every `log_every` steps.
"""

from __future__ import annotations

import contextlib
import json
import math
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fromnoise.cond import Cond
from fromnoise.data.codec import Codec, codec_of, codecs
from fromnoise.data.dataset import Dataset
from fromnoise.data.source import open as open_data
from fromnoise.denoiser import Denoiser
from fromnoise.deprecated import Renamed, renamed_argument
from fromnoise.errors import ConfigError, Diverged
from fromnoise.memory import keep_freed_memory
from fromnoise.rng import Streams
from fromnoise.run import Checkpoint, Run, RunFolder, describe, last_loss
from fromnoise.run.files import Writing
from fromnoise.training.config import FREE_KEYS, TrainConfig, learning_rate
from fromnoise.training.ema import EMA
from fromnoise.training.floor import Floor, floor_of
from fromnoise.training.losses import Prepared, losses
from fromnoise.training.noising import Noised, interleave, objective


@dataclass(frozen=True)
class Event:
    """News from a training, every `log_every` steps and at the end.

    Attributes:
        step: steps done.
        steps: steps in all.
        loss: mean training loss since the event before; in the last event, over the last tenth of the training.
        floor: the least expected loss; None where it is not known.
        progress: how far the loss has come from that of a zero output (0) to the floor (1).
        lr: the learning rate.
        rate: steps a second.
        seconds_left: at that rate.
        run: the finished run, with the last event only.
    """

    step: int
    steps: int
    loss: float
    floor: Floor | None
    progress: float | None
    lr: float
    rate: float
    seconds_left: float
    run: Run | None = None

    share = Renamed("progress")


class Interrupted(KeyboardInterrupt):
    """The training was asked to stop; it saved its state at `step` if it has a folder."""

    def __init__(self, step: int, path: Path | None) -> None:
        self.step, self.path = step, path
        where = f"; its state is saved in {path}" if path else ""
        super().__init__(f"stopped after step {step}{where}")


_TOGETHER = 2**16
"""About how many numbers the noisy batches of a round of steps have together, where one batch has fewer."""


class _Trainer:
    """What a training consists of: network, average, optimizer, objective and data on the device."""

    def __init__(self, denoiser: Denoiser, data: Dataset, config: TrainConfig) -> None:
        keep_freed_memory()
        self.denoiser, self.config = denoiser, config
        self.device = denoiser.device
        self.goal = objective(denoiser, config.weighting, config.times)
        self.loss = losses.build(config.loss)
        self.network = denoiser.network.train().requires_grad_(True)
        self.average = EMA(self.network, config.ema) if config.ema else None
        kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
        self.optimizer = kind(
            self.network.parameters(), lr=config.lr, betas=config.betas, weight_decay=config.weight_decay, fused=True
        )
        self.parameters = list(self.network.parameters())
        self.x = denoiser.codec.into(data.x).to(self.device)
        cond = data.cond_for(denoiser.conditioners)
        self.cond = None if cond is None else cond.to(self.device)
        self.streams = Streams(config.seed, "train", self.device)
        self.times = Streams(config.seed, "times")
        self.losses: list[Tensor] = []
        self.round = min(max(_TOGETHER // (config.batch_size * math.prod(data.shape)), 1), 64)
        self._number, self._batches = -1, list[Prepared]()

    def step(self, step: int) -> None:
        """Do optimizer step 0, 1, ... and keep its loss."""
        loss = self.loss(self.denoiser, self._batch(step), self._network_output)
        loss.backward()
        if self.config.clip_norm:
            torch.nn.utils.clip_grad_norm_(self.parameters, self.config.clip_norm, foreach=True)
        self.optimizer.param_groups[0]["lr"] = learning_rate(self.config, step)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update(step)
        self.losses.append(loss.detach())

    def _batch(self, step: int) -> Prepared:
        """Return the batch of a step, one of a round made together."""
        number, place = divmod(step, self.round)
        if number != self._number:
            self._number, self._batches = number, self._make(number)
        return self._batches[place]

    def _make(self, number: int) -> list[Prepared]:
        """Make the batches of a round of steps: one by one, they take as long as a small network's forward pass."""
        denoiser, n = self.denoiser, self.round * self.config.batch_size
        generator = self.streams.at(number)
        rows = torch.randint(len(self.x), (n,), generator=generator, device=self.device)
        x0 = self.x.index_select(0, rows)
        t = self.goal.times.draw(denoiser.schedule, n, self.times.at(number))
        eps = torch.randn(x0.shape, generator=generator, dtype=x0.dtype, device=self.device)
        noised = self.goal.noised(x0, t, eps)
        x = denoiser.precondition(noised.x_t, noised.scales)
        cond = None if self.cond is None else self.cond.rows(rows)
        if cond is not None and self.config.drop_cond:
            cond = cond.drop(self.config.drop_cond, generator)
        weight = None if noised.weight is None else noised.weight.to(x)
        whole = Prepared(x, torch.as_tensor(denoiser.c_noise(t)).to(x), cond, noised.target, weight)
        whole = whole._replace(**{need: self._more(need, rows, noised, generator) for need in self.loss.needs})
        return [Prepared(*batch) for batch in zip(*(self._dealt(part) for part in whole), strict=True)]

    def _dealt(self, part: Any) -> Sequence[Any]:
        """Split a part of the round's rows into the batches of its steps."""
        if isinstance(part, Cond):
            return [part.rows(slice(k, None, self.round)) for k in range(self.round)]
        return interleave(part, self.round)

    def _more(self, need: str, rows: Tensor, noised: Noised, generator: torch.Generator) -> Tensor:
        """Return a part of the batches that only some losses need."""
        if need == "x0":
            return self.x.index_select(0, rows)
        if need == "t":
            return noised.t
        return torch.randint(0, 2, noised.x_t.shape, generator=generator, device=self.device).to(noised.x_t) * 2 - 1

    def _network_output(self, x: Tensor, c_noise: Tensor, cond: Cond | None) -> Tensor:
        bf16 = self.config.precision == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16) if bf16 else contextlib.nullcontext():
            return self.denoiser.network_output(x, c_noise, cond)

    def mean_loss(self, first: int) -> float:
        """Return the mean of the losses kept since the last log, of step `first` and those after it.

        Raises:
            Diverged: naming the first step whose loss is not finite.
        """
        kept = torch.stack(self.losses).tolist()
        for step, loss in enumerate(kept, first):
            if not math.isfinite(loss):
                raise Diverged(
                    f"the loss became {loss} at step {step + 1}: training stopped, checkpoints before it are kept; "
                    "lower --lr or set train.clip_norm"
                )
        return sum(kept) / len(kept)

    def checkpoint(self, step: int) -> Checkpoint:
        """Return the state after `step` steps."""
        for name, tensor in self.network.state_dict().items():
            if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                raise Diverged(f"{name} became infinite or NaN by step {step}: lower --lr or set train.clip_norm")
        model = self.network.state_dict()
        optimizer = {
            f"{i}.{key}": value
            for i, moments in self.optimizer.state_dict()["state"].items()
            for key, value in moments.items()
        }
        ema = self.average.state_dict() if self.average is not None else model
        return Checkpoint(step, model, ema, optimizer, {"seed": self.config.seed})

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go back to a checkpoint's state."""
        self.network.load_state_dict(checkpoint.model)
        if self.average is not None:
            self.average.network.load_state_dict(checkpoint.ema)
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in checkpoint.optimizer.items():
            index, key = name.split(".", 1)
            state.setdefault(int(index), {})[key] = value
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})


@renamed_argument("scaling", "codec", codec_of)
def fit(
    denoiser: Denoiser,
    data: Dataset | Tensor | Any,
    config: TrainConfig | None = None,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    codec: Codec | Mapping[str, Any] | str | None = None,
) -> Iterator[Event]:
    """Train a denoiser, step by step: a generator whose caller owns the loop.

    Args:
        denoiser: trained in place; its device is the training's. At the end it holds the averaged weights.
        data: a data set, or an array `[N, *S]`.
        config: the settings; `TrainConfig()` when not given.
        out: the run folder; None keeps nothing on disk.
        resume: go on with the run in `out` if there is one.
        codec: between the data's units and the denoiser's, an object, settings or a name, unless the denoiser was
            made with one; `Affine()` when not given.

    Yields:
        An `Event` every `log_every` steps; the last one carries the `Run`.

    Raises:
        RunExists, ConfigChanged, CheckpointDamaged, RunError: about `out`.
        Diverged: at a NaN; the last good checkpoint stays.
        Interrupted: on Ctrl-C or SIGTERM, after saving.
    """
    config = config or TrainConfig()
    data = open_data(data)
    denoiser.measure(data, codec if codec is None or isinstance(codec, Codec) else codecs.build(codec))
    check_fit(denoiser, config)
    folder = RunFolder(out) if out is not None else None
    described = describe(denoiser, data, config.model_dump(mode="json"))
    going_on = folder is not None and folder.begin(described, denoiser.codec, data, resume=resume, free=FREE_KEYS)
    if folder is not None and going_on:  # what was measured then, to the last bit
        described = folder.config
        measured = described.measured
        denoiser.rescale(folder.codec(), measured.sigma_data, measured.effective_dimension)
    trainer = _Trainer(denoiser, data, config)
    done = 0
    if folder is not None and folder.steps():
        checkpoint = folder.load(denoiser, optimizer=True)
        trainer.restore(checkpoint)
        done = checkpoint.step
    if folder is not None:
        folder.keep_metrics_up_to(done)
        if done == 0:
            folder.save(trainer.checkpoint(0), config.keep)
    floor = floor_of(denoiser, data, config.model_dump()) if torch.Size(data.shape).numel() <= 4096 else None
    rows: list[dict[str, Any]] = []
    yield from _steps(trainer, folder, done, floor, rows)
    if trainer.average is not None:
        denoiser.network.load_state_dict(trainer.average.state_dict())
    denoiser.eval().requires_grad_(False)
    loss = last_loss(folder.metrics() if folder is not None else rows)
    progress = floor.progress(loss) if floor is not None else None
    run = Run(folder, described, denoiser, data, config.steps)
    yield Event(config.steps, config.steps, loss, floor, progress, 0.0, 0.0, 0.0, run)


def check_fit(denoiser: Denoiser, config: TrainConfig) -> None:
    """Refuse settings with which a denoiser cannot be trained, before anything is done.

    Raises:
        InputError: saying why they do not fit.
    """
    if config.drop_cond and not denoiser.conditioners:
        raise ConfigError("train: drop_cond needs a network with classes or cond_dim, and this one has neither")
    losses.build(config.loss).check(denoiser)
    objective(denoiser, config.weighting, config.times)


def _steps(
    trainer: _Trainer, folder: RunFolder | None, done: int, floor: Floor | None, rows: list[dict[str, Any]]
) -> Iterator[Event]:
    """Do the steps from `done` on, with logs, kept in `rows` too, and checkpoints."""
    config, since, logged = trainer.config, time.perf_counter(), done
    with _stop_signals() as stop, _metrics(folder) as write:
        for step in range(done, config.steps):
            trainer.step(step)
            after = step + 1
            last = after == config.steps
            if after % config.log_every == 0 or last:
                loss = trainer.mean_loss(logged)
                trainer.losses.clear()
                now = time.perf_counter()
                rate = (after - logged) / max(now - since, 1e-9)
                event = Event(
                    after, config.steps, loss, floor, floor.progress(loss) if floor else None,
                    learning_rate(config, step), rate, (config.steps - after) / rate,
                )  # fmt: skip
                rows.append({"step": after, "loss": loss, "lr": event.lr, "rate": round(rate, 1)})
                write(rows[-1])
                logged = after
                yield event
                since = time.perf_counter()
            if folder is not None and (after % config.save_every == 0 or last or stop.asked):
                if after > logged:
                    trainer.mean_loss(logged)  # never save what a NaN went through
                folder.save(trainer.checkpoint(after), config.keep)
            if stop.asked and not last:
                raise Interrupted(after, folder.path if folder else None)


@contextlib.contextmanager
def _metrics(folder: RunFolder | None) -> Iterator[Any]:
    """Give a function that adds a line to metrics.jsonl."""
    if folder is None:
        yield lambda _: None
        return
    path = folder.path / "metrics.jsonl"
    with Writing(path), path.open("a", encoding="utf-8", buffering=1) as file:
        yield lambda row: file.write(json.dumps(row) + "\n")


class _Stop:
    asked = False


@contextlib.contextmanager
def _stop_signals() -> Iterator[_Stop]:
    """Turn the first Ctrl-C or SIGTERM into a request that is honoured between two steps; a second one acts at once."""
    stop = _Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before: dict[int, Any] = {}

    def put_back() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def ask(*_: Any) -> None:
        stop.asked = True
        put_back()

    for number in (signal.SIGINT, signal.SIGTERM):
        before[number] = signal.signal(number, ask)
    try:
        yield stop
    finally:
        put_back()
