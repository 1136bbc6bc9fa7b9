"""The training loop.

Each step's random numbers derive from the seed and the step's number, so a resumed run needs no saved generator: it is
bit for bit the run that was never interrupted (on one device type and build, with the same number of threads). Inside
the loop nothing waits for the device; losses are read every `log_every` steps.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from fromnoise.data.codec import Codec, codec_of, codecs
from fromnoise.data.dataset import Dataset
from fromnoise.data.opening import open as open_data
from fromnoise.data.source import Source, held_apart
from fromnoise.data.stored import Stored
from fromnoise.deprecated import Renamed, renamed_argument
from fromnoise.errors import ConfigError, InputError
from fromnoise.memory import keep_freed_memory
from fromnoise.model import Model
from fromnoise.nn.network import plain
from fromnoise.run import AnyConfig, Run, RunFolder, describe, run_of
from fromnoise.run.files import Writing
from fromnoise.run.lock import RunLock
from fromnoise.training.batches import Batches, passes
from fromnoise.training.config import FREE_KEYS, TrainConfig, rate_at
from fromnoise.training.held_out import HeldOut, HeldOutLoss, Patience
from fromnoise.training.learner import Learner
from fromnoise.training.optimum import Floor
from fromnoise.training.stop import Interrupted, Stop, stop_on_signals


@dataclass(frozen=True)
class Event:
    """News from a training, every `log_every` steps, at every check of the held-out loss, and after the last step.

    Attributes:
        step: steps done.
        steps: steps in all.
        loss: mean training loss since the event before; `run.loss` is that over the last tenth of the training.
        floor: the least expected loss; None where it is not known.
        progress: how far the loss has come from that of a zero output (0) to the floor (1).
        lr: the learning rate.
        rate: steps a second.
        seconds_left: at that rate.
        run: the finished run, with the last event only; a `Run`, or an `AutoencoderRun`.
        held_out: the last held-out loss; None before the first, and where no rows are held out.
        waiting: the part of the steps' time in which they waited for samples to be read.
    """

    step: int
    steps: int
    loss: float
    floor: Floor | None
    progress: float | None
    lr: float
    rate: float
    seconds_left: float
    run: Run | Any | None = None
    held_out: HeldOutLoss | None = None
    waiting: float = 0.0

    share = Renamed("progress")


@renamed_argument("denoiser", "model", lambda model: model)
@renamed_argument("scaling", "codec", codec_of)
def fit(
    model: Model,
    data: Dataset | Tensor | Any,
    config: TrainConfig | None = None,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    codec: Codec | Mapping[str, Any] | str | None = None,
    keep_data: bool = True,
    stop: Stop | None = None,
) -> Iterator[Event]:
    """Train a model, step by step: a generator whose caller owns the loop.

    Args:
        model: a denoiser or an autoencoder, trained in place; its device is the training's. At the end it holds the
            averaged weights.
        data: a data set, or an array `[N, *S]`.
        config: the settings; `TrainConfig()` when not given.
        out: the run folder; None keeps nothing on disk.
        resume: go on with the run in `out` if there is one.
        codec: between the data's units and the model's, an object, settings or a name, unless the model was made
            with one; `Affine()` when not given.
        keep_data: whether the run folder holds the samples, where they are not built in: without them the run can be
            loaded, sampled and resumed, and for its floor, distances and report the data must be at hand again.
        stop: asks the training to stop. When not given, Ctrl-C and SIGTERM do, while steps are done: between two
            events they act on the caller's code, as ever.

    Yields:
        An `Event` every `log_every` steps; the last one carries the `Run`.

    Raises:
        RunExists, ConfigChanged, CheckpointDamaged, RunError: about `out`.
        Diverged: at a NaN; the last good checkpoint stays.
        Interrupted: when asked to stop, after saving.
    """
    built = None if codec is None else codecs.get(codec)
    folder = RunFolder(out) if out is not None else None
    source = open_data(data)
    with RunLock(folder.path if folder is not None else None) as lock:
        loop = _begin(
            model, source, config or TrainConfig(), built, folder, lock=lock, resume=resume, keep_data=keep_data
        )
        last = yield from loop.steps(stop)
        last = loop.finish(last)
    yield last


def check_fit(model: Model, config: TrainConfig) -> None:
    """Refuse settings with which a model cannot be trained, before anything is done.

    Raises:
        InputError: saying why they do not fit.
    """
    if config.drop_cond and not model.conditioners:
        raise ConfigError("train: drop_cond needs a network with classes or cond_dim, and this one has neither")
    if torch.is_inference_mode_enabled():
        raise InputError("training takes gradients: call it outside torch.inference_mode()")
    if config.patience and not config.held_out:
        raise ConfigError("train: patience waits for the held-out loss: set train.held_out above 0 too")
    passes(config.batch_size, config.parts_together)
    if config.checkpointing and not getattr(plain(model.network), "can_checkpoint", False):
        raise ConfigError(
            "train: checkpointing is for networks of pictures, and this one has no blocks to compute again"
        )
    task = config.task(model)
    task.check()
    if config.patience and not task.steady:
        raise ConfigError(
            "train: patience compares held-out losses, and those of this loss change their meaning: set it to 0"
        )
    task.check_goal()


def _filled(then: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the settings of a run's training with the defaults of those that its release did not have."""
    try:
        return TrainConfig(**then).model_dump(mode="json")
    except (ValidationError, ConfigError):  # of components that are not known here: compared as they are
        return {**TrainConfig().model_dump(mode="json"), **then}


def _begin(
    model: Model, source: Source, config: TrainConfig, codec: Codec | None, folder: RunFolder | None, *,
    lock: RunLock, resume: bool, keep_data: bool = True,
) -> _Loop:  # fmt: skip
    """Measure the data, make or find the folder, and go to its last checkpoint."""
    keep_freed_memory()
    check_fit(model, config)
    rows, held = held_apart(source, config.held_out, config.seed)
    model.measure(rows, codec)
    model.grid = config.task(model).few_steps
    if folder is not None and resume and folder.exists:  # a run of an earlier release may have chosen another codec
        model.rescale(model.codec.resumed(folder.codec()), model.sigma_data, model.effective_dimension)
    described = describe(model, source, config.model_dump(mode="json"))
    if folder is not None:
        _check_kept(described, model)
    kept = source if keep_data else None
    going_on = folder is not None and folder.begin(
        described, model.codec, kept, lock, resume=resume, free=FREE_KEYS, filled=_filled
    )
    lock.acquire()  # the folder is there now
    if folder is not None and going_on:
        folder.plan_steps(config.steps)
    if folder is not None and going_on:  # what was measured then, to the last bit
        described = folder.config
        measured = described.measured
        model.rescale(folder.codec(), measured.sigma_data, measured.effective_dimension)
    model.trained_dropping(config.drop_cond)
    if config.checkpointing:
        plain(model.network).checkpointing = True  # pyright: ignore[reportArgumentType] `check_fit` looked
    if config.compile and plain(model.network) is model.network:
        model.network = torch.compile(model.network)  # pyright: ignore[reportAttributeAccessIssue] a module
    task = config.task(model)
    device = model.device
    stored = [
        part
        if part is None
        else Stored(part.resident(device, _budget(device)), model.codec, model.conditioners, _budget(device))
        for part in (rows, held)
    ]
    assert stored[0] is not None
    loop = _Loop(
        model=model, source=source, config=config, folder=folder, described=described,
        floor_of=lambda: task.floor(rows), learner=Learner(task, config), patience=Patience(config.patience),
        batches=Batches(task, stored[0], config),
        check=None if stored[1] is None else HeldOut(task, stored[1], config.seed),
    )  # fmt: skip
    loop.restore()
    return loop


def _check_kept(described: AnyConfig, model: Model) -> None:
    """Refuse a network that its settings do not make again: what is kept of it could not be loaded.

    Raises:
        ConfigError: naming a tensor that differs.
    """
    again = described.skeleton().state_dict()
    kept = plain(model.network).state_dict()
    differ = [n for n in (*kept, *again) if n not in kept or n not in again or kept[n].shape != again[n].shape]
    if differ:
        raise ConfigError(
            f"this network cannot be kept in a run folder: {differ[0]} is not what the settings of "
            f"{described.network['name']!r} make again (it was changed after it was built); train it without a folder, "
            "or make the change part of a class of your own and register it"
        )


def _budget(device: torch.device) -> float:
    """Return how many bytes of data may lie on a device: half of what is free on a CUDA device."""
    return torch.cuda.mem_get_info(device)[0] / 2 if device.type == "cuda" else 2.0**31


@dataclass(kw_only=True)
class _Loop:
    """A training under way, after `done` steps."""

    model: Model
    source: Source
    config: TrainConfig
    folder: RunFolder | None
    described: AnyConfig
    floor_of: Callable[[], Floor | None]
    learner: Learner
    patience: Patience
    batches: Batches
    check: HeldOut | None
    held_out: HeldOutLoss | None = None
    done: int = 0
    seconds: float = 0.0
    rows: list[dict[str, Any]] = field(default_factory=list)

    @functools.cached_property
    def floor(self) -> Floor | None:
        """The least expected loss; looked for with the first news, so that no training waits for it to begin."""
        return self.floor_of()

    def restore(self) -> None:
        """Go to the folder's last checkpoint, or make its first."""
        if self.folder is None:
            return
        if self.folder.steps():
            checkpoint = self.folder.load(self.model, optimizer=True)
            self.learner.restore(checkpoint)
            self.done = checkpoint.step
            if self.config.patience:
                kept = checkpoint.state.get("early_stopping")
                self.patience.restore(kept if isinstance(kept, Mapping) else {}, self.done)
        self.folder.keep_metrics_up_to(self.done)
        self.folder.averages.drop_after(self.done)
        if self.check is not None:
            self.held_out = HeldOutLoss.last_of(self.folder.metrics())
        if self.done == 0:
            self.save()

    @property
    def end(self) -> int:
        """The last step."""
        return self.patience.end(self.config.steps)

    def rate(self, step: int) -> float:
        """Return the learning rate of step 0, 1, ..., in parts of the highest."""
        begun = self.patience.stopped_at
        if begun is None or step < begun:
            return rate_at(self.config, step)
        return rate_at(self.config, begun) * (self.end - step) / (self.end - begun)

    def steps(self, stop: Stop | None) -> Generator[Event, None, Event | None]:
        """Do the steps that are left; yield the news, and return those of the last step, None where none was left."""
        own, event = Stop(), None
        with _metrics(self.folder) as write:
            while self.done < self.end:
                if event is not None:
                    yield event
                with stop_on_signals(own) if stop is None else contextlib.nullcontext(stop) as asked:
                    event = self._until_news(asked, write)
        return event

    def _until_news(self, stop: Stop, write: Callable[[dict[str, Any]], None]) -> Event:
        """Do steps up to the next event; log and save on the way."""
        config, first, began = self.config, self.done, time.perf_counter()
        while True:
            if stop.asked:
                self._interrupt(first)
            rate = self.rate(self.done)
            self.learner.step(self.done, self.batches.at(self.done), rate)
            self.done += 1
            checks = self.check is not None and (self.done % config.check_every == 0 or self.done == self.end)
            if checks:
                self._hear()
            last = self.done == self.end
            news = checks or last or self.done % config.log_every == 0
            event = self._event(first, rate * config.lr, time.perf_counter() - began) if news else None
            if event is not None:
                self._log(event, checks, write)
            if self.folder is not None and (last or self.done % config.save_every == 0):
                self.save(None if news else first)
            if event is not None:
                return event

    def _event(self, first: int, lr: float, seconds: float) -> Event:
        """Return the news of the steps from `first` on."""
        loss = self.learner.mean_loss(first)
        progress = self.floor.progress(loss) if self.floor else None
        rate = (self.done - first) / max(seconds, 1e-9)
        left = (self.end - self.done) / rate
        self.seconds += seconds
        waiting = self.batches.waited / max(self.seconds, 1e-9)
        return Event(
            self.done, self.end, loss, self.floor, progress, lr, rate, left, held_out=self.held_out, waiting=waiting
        )

    def _log(self, event: Event, checked: bool, write: Callable[[dict[str, Any]], None]) -> None:
        row = {"step": event.step, "loss": event.loss, "lr": event.lr, "rate": round(event.rate, 1)}
        if checked and event.held_out is not None:
            row["held_out"] = event.held_out._asdict()
        if self.folder is None:
            self.rows.append(row)
        write(row)

    def _hear(self) -> None:
        """Take the held-out loss."""
        assert self.check is not None
        with self.learner.answering():
            self.held_out = self.check.loss()
        self.patience.hear(self.done, self.held_out.loss)

    def _interrupt(self, first: int) -> None:
        """Save and stop; losses since step `first` have not been looked at yet."""
        if self.folder is not None:
            self.save(first)
        raise Interrupted(self.done, self.folder.path if self.folder else None)

    def save(self, unread: int | None = None) -> None:
        """Keep a checkpoint, unless a loss of step `unread` or after it is not finite."""
        assert self.folder is not None
        state: dict[str, Any] = {"early_stopping": self.patience.state()} if self.config.patience else {}
        if unread is not None:
            state["unlogged"] = self.learner.unlogged(unread)
        self.folder.save(self.learner.checkpoint(self.done, state), self.config.keep)

    def finish(self, last: Event | None) -> Event:
        """Leave the averaged weights in the model; return the last event, the run with it."""
        self.learner.finish()
        self.model.eval().requires_grad_(False)
        kept = () if self.folder is not None else tuple(self.rows)
        run = run_of(self.folder, self.described, self.model, self.source, self.done, rows=kept)
        if last is not None:
            return replace(last, run=run)
        loss = math.nan if run.loss is None else run.loss  # nothing was left to do
        progress = self.floor.progress(loss) if self.floor is not None else None
        return Event(self.done, self.done, loss, self.floor, progress, 0.0, 0.0, 0.0, run, self.held_out)


@contextlib.contextmanager
def _metrics(folder: RunFolder | None) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Give a function that adds a line to metrics.jsonl."""
    if folder is None:
        yield lambda _: None
        return
    path = folder.path / "metrics.jsonl"
    with Writing(path), path.open("a", encoding="utf-8", buffering=1) as file:

        def write(row: dict[str, Any]) -> None:
            file.write(json.dumps(row) + "\n")

        yield write
