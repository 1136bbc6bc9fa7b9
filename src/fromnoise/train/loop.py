"""The training loop.

Each step's random numbers derive from (seed, step), so a resumed run needs no saved generator: it is bit for bit the
run that was never interrupted (on one device type and build, with the same number of threads). Inside the loop nothing
waits for the device; losses are read every `log_every` steps.
"""

from __future__ import annotations

import contextlib
import json
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from fromnoise.data.dataset import Dataset, ScalingKind
from fromnoise.denoiser import Denoiser
from fromnoise.errors import ConfigError, Diverged, InputError
from fromnoise.exact import law_of
from fromnoise.nn.mlp import MLP
from fromnoise.nn.network import Network, networks
from fromnoise.rng import Streams, seeded
from fromnoise.run import Checkpoint, Run, RunFolder, describe
from fromnoise.run.files import writing
from fromnoise.schedule import Schedule, schedules
from fromnoise.train.config import FREE_KEYS, TrainConfig, learning_rate
from fromnoise.train.ema import EMA
from fromnoise.train.loss import Floor, loss_floor, mean_square, objective


@dataclass(frozen=True)
class Event:
    """News from a training, every `log_every` steps and at the end.

    Attributes:
        step: steps done.
        steps: steps in all.
        loss: mean training loss since the event before.
        floor: the least expected loss; None where it is not known.
        share: the share of the way from silence to the floor.
        lr: the learning rate.
        rate: steps a second.
        seconds_left: at that rate.
        run: the finished run, with the last event only.
    """

    step: int
    steps: int
    loss: float
    floor: Floor | None
    share: float | None
    lr: float
    rate: float
    seconds_left: float
    run: Run | None = None


class Interrupted(KeyboardInterrupt):
    """The training was asked to stop; it saved its state at `step` if it has a folder."""

    def __init__(self, step: int, path: Path | None) -> None:
        self.step, self.path = step, path
        where = f"; its state is saved in {path}" if path else ""
        super().__init__(f"stopped after step {step}{where}")


class _Trainer:
    """What a training consists of: network, average, optimizer, objective and data on the device."""

    def __init__(self, denoiser: Denoiser, data: Dataset, config: TrainConfig) -> None:
        self.denoiser, self.config = denoiser, config
        self.device = denoiser.device
        self.goal = objective(denoiser, config.weighting, config.times)
        self.network = denoiser.network.train().requires_grad_(True)
        self.average = EMA(self.network, config.ema) if config.ema else None
        kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
        self.optimizer = kind(
            self.network.parameters(), lr=config.lr, betas=config.betas, weight_decay=config.weight_decay, fused=True
        )
        self.parameters = list(self.network.parameters())
        self.x = denoiser.scaling.into(data.x).to(self.device)
        self.labels = None if data.labels is None or not denoiser.label_names else data.labels.to(self.device)
        self.streams = Streams(config.seed, "train", self.device)
        self.losses = torch.zeros(config.log_every, device=self.device)

    def step(self, step: int) -> None:
        """Do optimizer step 0, 1, ... and keep its loss."""
        config, generator = self.config, self.streams.at(step)
        rows = torch.randint(len(self.x), (config.batch_size,), generator=generator, device=self.device)
        batch = self.goal.noised(self.x[rows], generator)
        cond = None if self.labels is None else self._dropped(self.labels[rows], generator)
        with self._autocast():
            out = self.denoiser.raw(batch.x_t, batch.t, cond, batch.scales)
        loss = mean_square(out, batch.target, batch.weight)
        loss.backward()
        if config.clip_norm:
            torch.nn.utils.clip_grad_norm_(self.parameters, config.clip_norm, foreach=True)
        self.optimizer.param_groups[0]["lr"] = learning_rate(config, step)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update(step)
        self.losses[step % config.log_every] = loss.detach()

    def _dropped(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Put the null label in the place of some."""
        if not self.config.drop_cond:
            return labels
        drop = torch.rand(labels.shape, generator=generator, device=self.device) < self.config.drop_cond
        return labels.masked_fill(drop, len(self.denoiser.label_names))

    def _autocast(self) -> Any:
        if self.config.precision == "bf16":
            return torch.autocast(self.device.type, torch.bfloat16)
        return contextlib.nullcontext()

    def mean_loss(self, first: int, last: int) -> float:
        """Return the mean loss of steps first..last-1, all kept since the last call.

        Raises:
            Diverged: naming the first step whose loss is not finite.
        """
        kept = self.losses[[step % self.config.log_every for step in range(first, last)]].tolist()
        for step, loss in enumerate(kept, first):
            if loss != loss or abs(loss) == float("inf"):
                raise Diverged(f"the loss became {loss} at step {step + 1}")
        return sum(kept) / len(kept)

    def checkpoint(self, step: int) -> Checkpoint:
        """Return the state after `step` steps."""
        for name, tensor in self.network.state_dict().items():
            if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                raise Diverged(f"{name} became infinite or NaN by step {step}")
        model = self.network.state_dict()
        optimizer = {
            f"{i}.{key}": value
            for i, moments in self.optimizer.state_dict()["state"].items()
            for key, value in moments.items()
        }
        ema = self.average.network.state_dict() if self.average is not None else model
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


def fit(
    denoiser: Denoiser,
    data: Dataset | Tensor | Any,
    config: TrainConfig | None = None,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    scaling: ScalingKind = "isotropic",
) -> Iterator[Event]:
    """Train a denoiser, step by step: a generator whose caller owns the loop.

    Args:
        denoiser: trained in place; its device is the training's. At the end it holds the averaged weights.
        data: a data set, or an array `[N, *S]`.
        config: the settings; `TrainConfig()` when not given.
        out: the run folder; None keeps nothing on disk.
        resume: go on with the run in `out` if there is one.
        scaling: how the data are scaled, unless the denoiser was made with a scaling.

    Yields:
        An `Event` every `log_every` steps; the last one carries the `Run`.

    Raises:
        RunExists, ConfigChanged, CheckpointDamaged, RunError: about `out`.
        Diverged: at a NaN; the last good checkpoint stays.
        Interrupted: on Ctrl-C or SIGTERM, after saving.
    """
    config = config or TrainConfig()
    data = Dataset.of(data)
    denoiser.measure(data, scaling)
    if config.drop_cond and not denoiser.label_names:
        raise ConfigError("train: drop_cond needs a network with classes, and this one has none")
    folder = RunFolder(out) if out is not None else None
    described = describe(denoiser, data, scaling, config.model_dump(mode="json"))
    trainer = _Trainer(denoiser, data, config)
    done = 0
    if folder is not None and folder.begin(described, data, resume=resume, free=FREE_KEYS) and folder.steps():
        checkpoint = folder.load(denoiser, optimizer=True)
        trainer.restore(checkpoint)
        done = checkpoint.step
    if folder is not None:
        folder.keep_metrics_up_to(done)
        if done == 0:
            folder.save(trainer.checkpoint(0), config.keep)
    floor = _floor(denoiser, data, config)
    yield from _steps(trainer, folder, done, floor)
    if trainer.average is not None:
        denoiser.network.load_state_dict(trainer.average.network.state_dict())
    denoiser.eval().requires_grad_(False)
    loss = _last_loss(folder, trainer, done)
    share = floor.share(loss) if floor is not None else None
    run = Run(folder, described, denoiser, data, config.steps)
    yield Event(config.steps, config.steps, loss, floor, share, 0.0, 0.0, 0.0, run)


def _steps(trainer: _Trainer, folder: RunFolder | None, done: int, floor: Floor | None) -> Iterator[Event]:
    """Do the steps from `done` on, with logs and checkpoints."""
    config, since, told = trainer.config, time.perf_counter(), done
    with _stop_signals() as stop, _metrics(folder) as write:
        for step in range(done, config.steps):
            trainer.step(step)
            after = step + 1
            last = after == config.steps
            if after % config.log_every == 0 or last:
                loss = trainer.mean_loss(told, after)
                now = time.perf_counter()
                rate = (after - told) / max(now - since, 1e-9)
                event = Event(
                    after, config.steps, loss, floor, floor.share(loss) if floor else None,
                    learning_rate(config, step), rate, (config.steps - after) / rate,
                )  # fmt: skip
                write({"step": after, "loss": loss, "lr": event.lr, "rate": round(rate, 1)})
                told = after
                yield event
                since = time.perf_counter()
            if folder is not None and (after % config.save_every == 0 or last or stop.asked):
                if after > told:
                    trainer.mean_loss(told, after)  # never save what a NaN went through
                folder.save(trainer.checkpoint(after), config.keep)
            if stop.asked and not last:
                raise Interrupted(after, folder.path if folder else None)


def _last_loss(folder: RunFolder | None, trainer: _Trainer, done: int) -> float:
    """Return the mean loss at the end: the last line of the metrics."""
    rows = folder.metrics() if folder is not None else []
    if rows:
        return float(rows[-1]["loss"])
    if done >= trainer.config.steps:
        return float("nan")
    first = (trainer.config.steps - 1) // trainer.config.log_every * trainer.config.log_every
    return trainer.mean_loss(max(first, done), trainer.config.steps)


def _floor(denoiser: Denoiser, data: Dataset, config: TrainConfig) -> Floor | None:
    """Return the loss floor of a training; None where the data are too large in size for it to be worth the time."""
    if torch.Size(data.shape).numel() > 4096:
        return None
    law = law_of(data if denoiser.label_names else Dataset(data.x, name=data.name, law=data.law), denoiser.scaling)
    return loss_floor(
        law, denoiser.schedule, denoiser.prediction, config.weighting, config.times,
        drop_cond=config.drop_cond, sigma_data=denoiser.sigma_data,
    )  # fmt: skip


@contextlib.contextmanager
def _metrics(folder: RunFolder | None) -> Iterator[Any]:
    """Give a function that adds a line to metrics.jsonl."""
    if folder is None:
        yield lambda row: None
        return
    path = folder.path / "metrics.jsonl"
    with writing(path), path.open("a", encoding="utf-8", buffering=1) as file:
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

    def ask(number: int, frame: FrameType | None) -> None:
        stop.asked = True
        put_back()

    for number in (signal.SIGINT, signal.SIGTERM):
        before[number] = signal.signal(number, ask)
    try:
        yield stop
    finally:
        put_back()


def train(
    data: Dataset | Tensor | Any,
    *,
    schedule: Schedule | str | None = None,
    predict: str = "edm",
    network: Network | dict[str, Any] | None = None,
    config: TrainConfig | None = None,
    steps: int | None = None,
    out: str | Path | None = None,
    seed: int | None = None,
    resume: bool = False,
    scaling: ScalingKind = "isotropic",
    device: str | torch.device = "cpu",
) -> Run:
    """Train a denoiser on data and return the run.

    With no settings but the data this is the default recipe for points: EDM's schedule and preconditioning, a small
    perceptron with Fourier features.

    Args:
        data: a data set, or an array `[N, D]`.
        schedule: the path; `EDM()` when not given.
        predict: what the network predicts.
        network: the network, or its settings; the recipe's perceptron when not given, conditional if data are labelled.
        config: the training's settings; the recipe's when not given.
        steps: how many steps, instead of the config's.
        out: the run folder; None keeps nothing on disk.
        seed: of every random number, instead of the config's.
        resume: go on with the run in `out` if there is one.
        scaling: how the data are scaled.
        device: where to train.

    Raises:
        InputError: if the settings do not fit; otherwise as `fit`.
    """
    data = Dataset.of(data)
    chosen = {"steps": steps, "seed": seed}
    config = config or default_config(predict, labelled=data.classes > 0)
    config = TrainConfig(**{**config.model_dump(), **{k: v for k, v in chosen.items() if v is not None}})
    if schedule is None or isinstance(schedule, str):
        schedule = schedules.build(schedule or "edm")
    with seeded(config.seed, "network"):
        if network is None:
            network = default_network(data)
        elif isinstance(network, dict):
            network = networks.build(network)
    denoiser = Denoiser(network, schedule, predict).to(device)
    event = None
    for event in fit(denoiser, data, config, out=out, resume=resume, scaling=scaling):
        pass
    if event is None or event.run is None:
        raise InputError("there was nothing to train")
    return event.run


def default_network(data: Dataset) -> MLP:
    """Return the recipe's perceptron for points or a table, `[N, D]`."""
    if len(data.shape) != 1:
        raise InputError(f"the default network is for points and tables, [N, D]; give a network for {list(data.shape)}")
    return MLP(data.shape[0], hidden=128, depth=2, fourier=32, fourier_scale=0.4, classes=data.classes)


def default_config(predict: str, labelled: bool) -> TrainConfig:
    """Return the recipe's settings: EDM's times and weighting where EDM's output is predicted."""
    edm = {"weighting": "edm", "times": {"name": "log-normal", "mean": -0.8, "sd": 1.4}} if predict == "edm" else {}
    return TrainConfig(**edm, drop_cond=0.1 if labelled else 0.0)


