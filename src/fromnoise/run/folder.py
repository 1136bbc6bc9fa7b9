"""The run folder: the configuration, checkpoints, metrics and samples of one training.

    runs/spiral/
      config.toml        the whole configuration, every default spelled out
      codec.safetensors  what lies between the data's units and the denoiser's, as it was measured
      environment.json   versions and machine
      metrics.jsonl      a line every `log_every` steps
      data.safetensors   the samples, where the data cannot be made again by name; left out where so asked
      checkpoints/000007000/  model, ema, optimizer (.safetensors), state.json, manifest.json (sha256 of each)
      averages/000007000-0.050.safetensors  snapshots of which an average of any length is made after the training
      samples/  report.html

A checkpoint is written beside its place, flushed to the disk and renamed, so it is either whole or not there. Old ones
go only after the new one stands. Loading trusts nothing: the manifest's sums, then names, shapes and dtypes against
the configuration before memory is taken, then finite numbers; a damaged checkpoint is passed over for the one before,
with a warning that says so. Nothing is ever unpickled.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import ValidationError
from torch import Tensor, nn

from fromnoise.data.codec import Codec, codecs
from fromnoise.data.dataset import Dataset
from fromnoise.data.source import Source
from fromnoise.data.views import inmost
from fromnoise.denoiser import Denoiser
from fromnoise.errors import (
    CheckpointDamaged,
    ConfigChanged,
    InputError,
    NoRun,
    RunError,
    RunExists,
    shown,
)
from fromnoise.model import Model
from fromnoise.nn.network import plain
from fromnoise.registry import explain
from fromnoise.rng import seeded
from fromnoise.run.averages import Averages, Snapshot
from fromnoise.run.config import (
    FORMAT_VERSION,
    NO_DENOISER,
    AnyConfig,
    check_settings,
    check_version,
    config_of,
    differences,
    environment,
    to_toml,
)
from fromnoise.run.data import is_held, read_data
from fromnoise.run.files import (
    Writing,
    apart,
    check_sum,
    file_sum,
    flush,
    is_unbegun,
    make_folder,
    read_measured,
    read_optimizer,
    read_tensors,
    save_data,
    save_tensors,
    write,
    write_json,
)  # fmt: skip
from fromnoise.run.guard import (
    CONFIG_BYTES,
    distrusting,
    is_whole,
    parse_toml,
    read_bytes,
    read_object,
    read_rows,
)
from fromnoise.run.lock import RunLock
from fromnoise.run.upgrade import codec_tensors, name_in, names_of_parameters, upgraded


@dataclass(frozen=True)
class Checkpoint:
    """The state of a training after `step` steps."""

    step: int
    model: dict[str, Tensor]
    ema: dict[str, Tensor]
    optimizer: dict[str, Tensor] = field(default_factory=dict)
    state: dict[str, Any] = field(default_factory=dict)
    averages: dict[float, dict[str, Tensor]] = field(default_factory=dict)


_FILES = ("model.safetensors", "ema.safetensors", "optimizer.safetensors", "state.json")


class RunFolder:
    """A run on disk.

    Args:
        path: of the folder; need not exist.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    # -- beginning -----------------------------------------------------------------------------------------------

    @property
    def exists(self) -> bool:
        """Whether there is a run here."""
        return (self.path / "config.toml").exists()

    def begin(
        self,
        config: AnyConfig,
        codec: Codec,
        data: Source | None,
        lock: RunLock,
        *,
        resume: bool,
        free: frozenset[str] = frozenset(),
        filled: Callable[[Mapping[str, Any]], Mapping[str, Any]] = dict,
    ) -> bool:
        """Make the folder for a new run, or check that the run in it is the same one.

        Args:
            config: of the training about to start.
            codec: as it was measured.
            data: stored beside it where they are in memory and cannot be made again by name; None to keep none.
            lock: taken before anything is written.
            resume: go on with the run that is here, if there is one.
            free: the names of train settings that may differ.
            filled: gives train settings the defaults of those that a run of an earlier release lacks.

        Returns:
            Whether there was a run here to go on with.

        Raises:
            RunExists: if another run is here and resume is not asked for.
            ConfigChanged: if the run here has another configuration.
            RunError: if the folder cannot be written.
            InputError: if the configuration is too long to be read again.
        """
        if self.exists:
            if not resume:
                raise RunExists(
                    f"{self.path} already holds a run: resume it (--resume, resume=True), or choose another out"
                )
            self._check_same(differences(self.config, config, free=free, filled=filled))
            if data is None:
                with Writing(self.path):
                    (self.path / "data.safetensors").unlink(missing_ok=True)
            return True
        text = to_toml(config).encode()
        if len(text) > CONFIG_BYTES:
            raise InputError(f"the configuration has {len(text):,} bytes, and at most {CONFIG_BYTES:,} are read again")
        there = self.path.exists()
        if there and not is_unbegun(self.path):
            raise RunExists(f"{self.path} exists and is not a run: choose another out")
        with Writing(self.path):
            try:
                make_folder(self.path, exist_ok=there)
            except FileExistsError:  # another training made it in this moment
                raise RunExists(f"{self.path} already holds a run: choose another out") from None
            lock.acquire()
            (self.path / "data.safetensors").unlink(missing_ok=True)  # of a run that was broken off at its beginning
            write_json(self.path / "environment.json", environment())  # first: it is what says whose folder this is
            save_tensors(self.path / "codec.safetensors", codec.tensors())
            base = inmost(data)
            if isinstance(base, Dataset) and "sha256" in base.identity:
                save_data(self.path / "data.safetensors", base)
            write(self.path / "config.toml", text)  # last: it is what makes this a run
        return False

    def _check_same(self, changed: list[tuple[str, Any, Any]]) -> None:
        if changed:
            what = ", ".join(
                f"{key} was {shown(old, 120)} and is now {shown(new, 120)}" for key, old, new in changed[:4]
            )
            more = f" and {len(changed) - 4} more" if len(changed) > 4 else ""
            raise ConfigChanged(
                f"cannot resume {self.path} with another configuration: {what}{more}; "
                "give the same settings, or choose another out"
            )

    def plan_steps(self, steps: int) -> None:
        """Have the run end after another number of steps than it was begun with.

        Raises:
            InputError: if it has done more already.
        """
        if steps == self.config.train["steps"]:
            return
        done = max(self.steps(), default=0)
        if steps < done:
            raise InputError(f"{self.path} has done {done:,} steps already, more than the {steps:,} asked for")
        raw = {**self._raw, "train": {**self._raw["train"], "steps": steps}}
        with Writing(self.path):
            write(self.path / "config.toml", tomli_w.dumps(raw).encode())
        for name in ("config", "_raw"):
            self.__dict__.pop(name, None)

    @cached_property
    def config(self) -> AnyConfig:
        """The run's configuration.

        Raises:
            NoRun: if there is no run here.
            FormatTooNew: if a newer fromnoise wrote it.
            ConfigError: if it is not a valid configuration.
        """
        path = self.path / "config.toml"
        with distrusting(path):
            try:
                config = config_of(upgraded(self._raw))
            except ValidationError as error:
                raise explain(error, str(path)) from None
            check_settings(path, config)
            return config

    @cached_property
    def _raw(self) -> dict[str, Any]:
        """The content of config.toml, in the format it has."""
        path = self.path / "config.toml"
        with distrusting(path):
            try:
                raw = parse_toml(read_bytes(path, CONFIG_BYTES))
            except (FileNotFoundError, NotADirectoryError):
                what = "it holds no config.toml, as runs do" if self.path.is_dir() else f"there is no {path}"
                raise NoRun(f"no run at {self.path}: {what}") from None
            check_version(raw.get("format_version"), path)
            return raw

    def codec(self) -> Codec:
        """Return the codec as it was measured.

        Raises:
            CheckpointDamaged: if what was kept of it cannot be read, or does not fit the configuration.
        """
        path, shape = self.path / "codec.safetensors", tuple(self.config.measured.shape)
        with distrusting(path, CheckpointDamaged):
            tensors, codec = codec_tensors(self._raw), codecs.build(self.config.codec)
            if tensors is None:
                tensors = read_measured(path, codec.most_bytes(shape))
            return codec.with_tensors(tensors, shape)

    def model(self) -> Model:
        """Build the run's model, with fresh weights, without a trace in torch's own random state."""
        with seeded(0, "network"):
            model = self.config.model(self.codec())
        if list(model.shape) != self.config.measured.shape:
            raise RunError(
                f"{self.path}: the network is for {list(model.shape)}, and samples are {self.config.measured.shape}"
            )
        return model

    def denoiser(self) -> Denoiser:
        """Build the run's denoiser, with fresh weights.

        Raises:
            RunError: if it is a run of something else.
        """
        model = self.model()
        if not isinstance(model, Denoiser):
            raise RunError(NO_DENOISER.format(self.path))
        return model

    @property
    def holds_data(self) -> bool:
        """Whether the data can be had from here: they are stored, or built in."""
        return is_held(self.path, self.config)

    @property
    def has_data(self) -> bool:
        """Whether the data can be had: from here, or from where they were when the run was begun."""
        place = self.config.data.get("path")
        return self.holds_data or (isinstance(place, str) and Path(place).exists())

    def data(self) -> Dataset | Source:
        """Return the data the run was trained on.

        Raises:
            RunError: if they are not here or cannot be read.
        """
        return read_data(self.path, self.config)

    # -- metrics -------------------------------------------------------------------------------------------------

    def metrics(self) -> list[dict[str, Any]]:
        """Return the lines of metrics.jsonl that are whole."""
        path = self.path / "metrics.jsonl"
        return list(read_rows(path)) if path.exists() else []

    def keep_metrics_up_to(self, step: int) -> None:
        """Drop the lines after a step: they belong to work that a resumed run does again."""
        path = self.path / "metrics.jsonl"
        if path.exists():
            rows = [row for row in self.metrics() if row["step"] <= step]
            write(path, "".join(json.dumps(row) + "\n" for row in rows).encode())

    @property
    def averages(self) -> Averages:
        """The snapshots for averages of other lengths."""
        return Averages(self.path)

    # -- checkpoints ---------------------------------------------------------------------------------------------

    def steps(self) -> list[int]:
        """Return the steps at which checkpoints stand, latest first."""
        root = self.path / "checkpoints"
        names = [p.name for p in root.iterdir()] if root.is_dir() else []
        found = (int(name) for name in names if re.fullmatch("[0-9]{9,18}", name))
        return sorted((step for step in found if self.place(step).name in names), reverse=True)

    def place(self, step: int) -> Path:
        """Return the folder of a checkpoint."""
        return self.path / "checkpoints" / f"{step:09d}"

    def save(self, checkpoint: Checkpoint, keep: int) -> Path:
        """Write a checkpoint whole or not at all, then drop all but the latest `keep`.

        Raises:
            RunError: if it cannot be written; what stood before still stands.
        """
        root, target = self.path / "checkpoints", self.place(checkpoint.step)
        self.averages.save(checkpoint.step, checkpoint.averages)  # first: a checkpoint goes on with its averages
        if target.exists() and self._is_sound(target):
            return target
        with Writing(target):
            make_folder(root, exist_ok=True)
            staging = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=root))
            try:
                for name in ("model", "ema", "optimizer"):
                    save_tensors(staging / f"{name}.safetensors", apart(getattr(checkpoint, name)))
                write_json(staging / "state.json", {"step": checkpoint.step, **checkpoint.state})
                files = {p.name: {"sha256": file_sum(p), "bytes": p.stat().st_size} for p in sorted(staging.iterdir())}
                manifest = {"format_version": FORMAT_VERSION, "step": checkpoint.step, "files": files}
                write_json(staging / "manifest.json", manifest)
                staging.chmod(0o755)
                if (self.path / "metrics.jsonl").exists():  # the log is never behind a checkpoint
                    flush(self.path / "metrics.jsonl")
                    flush(self.path)
                if target.exists():  # damaged
                    os.replace(target, staging.with_name(f"{staging.name}.old"))
                os.replace(staging, target)
                flush(root)
            except BaseException:
                shutil.rmtree(staging, ignore_errors=True)
                raise
        self._prune(keep)
        return target

    def _prune(self, keep: int) -> None:
        for step in self.steps()[max(keep, 1) :]:
            shutil.rmtree(self.place(step), ignore_errors=True)
        for leftover in (self.path / "checkpoints").glob(".*"):
            shutil.rmtree(leftover, ignore_errors=True)

    def load(self, model: Model, *, optimizer: bool = False) -> Checkpoint:
        """Return the latest checkpoint that is sound and fits a model's network. Raises as `latest` does."""
        return self.latest(plain(model.network), optimizer=optimizer)

    def latest(self, network: nn.Module, *, optimizer: bool = False) -> Checkpoint:
        """Return the latest checkpoint that is sound.

        Args:
            network: which the tensors must fit by name, shape and dtype; it may be on the meta device.
            optimizer: also read the optimizer's state, without which a checkpoint is then not sound.

        Raises:
            NoRun: if no checkpoint was ever written.
            FormatTooNew: if a newer fromnoise wrote it.
            CheckpointDamaged: if none is sound.
        """
        steps = self.steps()
        if not steps:
            raise NoRun(f"{self.path} has no checkpoint yet: train it first")
        reasons = []
        for step in steps:
            try:
                with distrusting(self.place(step), CheckpointDamaged):
                    checkpoint = self._load_one(step, network, optimizer)
            except CheckpointDamaged as error:
                reasons.append(str(error))
                continue
            if reasons:
                warnings.warn(f"{reasons[0]}; fell back to the checkpoint at step {step}", stacklevel=3)
            return checkpoint
        more = f"; and {len(reasons) - 3} more" if len(reasons) > 3 else ""
        raise CheckpointDamaged(f"{'; '.join(reasons[:3])}{more}; no sound checkpoint is left, train again")

    def _manifest(self, place: Path) -> tuple[int, dict[str, Any]]:
        """Return a checkpoint's format and the sum of each of its files."""
        with distrusting(place, CheckpointDamaged):
            manifest = read_object(place / "manifest.json")
            check_version(manifest.get("format_version"), place)
            if not is_whole(manifest["step"]) or self.place(manifest["step"]) != place:
                raise CheckpointDamaged(f"{place} holds the checkpoint of step {shown(manifest['step'])}")
            return manifest["format_version"], {name: manifest["files"][name]["sha256"] for name in _FILES}

    def _is_sound(self, place: Path) -> bool:
        """Return whether a checkpoint's files are those of its manifest."""
        try:
            for name, sha256 in self._manifest(place)[1].items():
                check_sum(place / name, sha256)
        except CheckpointDamaged:
            return False
        return True

    def _load_one(self, step: int, network: nn.Module, optimizer: bool) -> Checkpoint:
        place = self.place(step)
        version, sums = self._manifest(place)
        check_sum(place / "state.json", sums["state.json"])
        state = read_object(place / "state.json")
        if state.get("step") != step:
            raise CheckpointDamaged(f"{place}: state.json is of step {shown(state.get('step'))}")
        old_names = {name: name_in(version, name) for name in network.state_dict()}
        wanted = {old_names[name]: tensor for name, tensor in network.state_dict().items()}
        model, ema = (
            {name: tensors[old] for name, old in old_names.items()}
            for tensors in (read_tensors(place / name, wanted, sums[name]) for name in _FILES[:2])
        )
        extra, averages = dict[str, Tensor](), dict[float, dict[str, Tensor]]()
        if optimizer:
            parameters = dict(network.named_parameters())
            lengths = self.config.train.get("post_hoc_ema", ()) if step else ()
            averages = {length: self.averages.read(Snapshot(step, length), parameters) for length in lengths}
            called = names_of_parameters(version, list(parameters))
            extra = read_optimizer(place / _FILES[2], parameters, called, sums[_FILES[2]])
            if bool(extra) != bool(step):
                raise CheckpointDamaged(f"{place / _FILES[2]} is not the optimizer's state after {step} steps")
        return Checkpoint(step, model, ema, extra, state, averages)
