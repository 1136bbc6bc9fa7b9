"""The run folder: the configuration, checkpoints, metrics and samples of one training.

    runs/spiral/
      config.toml        the whole configuration, every default spelled out
      codec.safetensors  what lies between the data's units and the denoiser's, as it was measured
      environment.json   versions and machine
      metrics.jsonl      a line every `log_every` steps
      data.safetensors   the samples, where the data cannot be made again by name
      checkpoints/000007000/  model, ema, optimizer (.safetensors), state.json, manifest.json (sha256 of each)
      samples/  report.html

A checkpoint is written beside its place, flushed to the disk and renamed, so it is either whole or not there. Old ones
go only after the new one stands. Loading trusts nothing: the manifest's sums, then names, shapes and dtypes against
the configuration before memory is taken, then finite numbers; a damaged checkpoint is passed over for the one before,
with a warning that says so. Nothing is ever unpickled.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
import tomllib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fromnoise.card import card, frames
from fromnoise.cond import conditioners
from fromnoise.data.codec import Codec, codecs
from fromnoise.data.dataset import Dataset
from fromnoise.data.points import make
from fromnoise.denoiser import Denoiser
from fromnoise.deprecated import Renamed
from fromnoise.errors import CheckpointDamaged, ConfigChanged, FormatTooNew, InputError, NoRun, RunError, RunExists
from fromnoise.registry import explain
from fromnoise.run.config import FORMAT_VERSION, RunConfig, check_version, environment, to_toml
from fromnoise.run.files import (
    Writing,
    file_sum,
    flush,
    load_data,
    read_tensors,
    save_data,
    save_tensors,
    write,
    write_json,
)
from fromnoise.run.upgrade import codec_tensors, name_in, upgraded
from fromnoise.samplers import sample


@dataclass(frozen=True)
class Checkpoint:
    """The state of a training after `step` steps."""

    step: int
    model: dict[str, Tensor]
    ema: dict[str, Tensor]
    optimizer: dict[str, Tensor] = field(default_factory=dict)
    state: dict[str, Any] = field(default_factory=dict)


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

    def begin(self, config: RunConfig, codec: Codec, data: Dataset, *, resume: bool, free: frozenset[str]) -> bool:
        """Make the folder for a new run, or check that the run in it is the same one.

        Args:
            config: of the training about to start.
            codec: as it was measured.
            data: stored beside it where it cannot be made again by name.
            resume: go on with the run that is here, if there is one.
            free: the names of train settings that may differ.

        Returns:
            Whether there was a run here to go on with.

        Raises:
            RunExists: if another run is here and resume is not asked for.
            ConfigChanged: if the run here has another configuration.
            RunError: if the folder cannot be written.
        """
        if self.exists:
            if not resume:
                raise RunExists(
                    f"{self.path} already holds a run: add --resume to go on with it, or choose another --out"
                )
            self._check_same(config, free)
            return True
        if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            raise RunExists(f"{self.path} exists and is not a run: choose another --out")
        with Writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            save_tensors(self.path / "codec.safetensors", codec.tensors())
            if data.config is None:
                save_data(self.path / "data.safetensors", data)
            write_json(self.path / "environment.json", environment())
            write(self.path / "config.toml", to_toml(config).encode())  # last: it is what makes this a run
        return False

    def _check_same(self, config: RunConfig, free: frozenset[str]) -> None:
        old, new = _flat(self.config.model_dump()), _flat(json.loads(config.model_dump_json()))
        ignored = {f"train.{key}" for key in free}
        keys = {k for k in old.keys() | new.keys() if k not in ignored and not k.startswith("measured.")}
        changed = sorted(k for k in keys if old.get(k) != new.get(k))
        if changed:
            what = ", ".join(f"{k} was {old.get(k)!r} and is now {new.get(k)!r}" for k in changed[:4])
            more = f" and {len(changed) - 4} more" if len(changed) > 4 else ""
            raise ConfigChanged(
                f"cannot resume {self.path} with another configuration: {what}{more}; "
                "give the same settings, or choose another --out"
            )

    @cached_property
    def config(self) -> RunConfig:
        """The run's configuration.

        Raises:
            NoRun: if there is no run here.
            FormatTooNew: if a newer fromnoise wrote it.
            ConfigError: if it is not a valid configuration.
        """
        path = self.path / "config.toml"
        raw = self._raw
        check_version(raw.get("format_version", 0), path)
        try:
            return RunConfig(**upgraded(raw))
        except ValidationError as error:
            raise explain(error, str(path)) from None

    @cached_property
    def _raw(self) -> dict[str, Any]:
        """What config.toml says, in the format it has."""
        path = self.path / "config.toml"
        try:
            return tomllib.loads(path.read_text())
        except (FileNotFoundError, NotADirectoryError):
            raise NoRun(f"no run at {self.path}: there is no {path}") from None
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise RunError(f"{path} cannot be read: {error}") from None

    def codec(self) -> Codec:
        """Return the codec as it was measured.

        Raises:
            CheckpointDamaged: if what was kept of it cannot be read.
        """
        path, shape = self.path / "codec.safetensors", tuple(self.config.measured.shape)
        try:
            tensors = codec_tensors(self._raw) or load_file(path)
            return codecs.build(self.config.codec).with_tensors(tensors, shape)
        except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
            raise CheckpointDamaged(f"{path} cannot be read: {error}") from None

    def denoiser(self) -> Denoiser:
        """Build the run's denoiser, with fresh weights."""
        return self.config.denoiser(self.codec())

    def data(self) -> Dataset:
        """Return the data the run was trained on."""
        stored = self.path / "data.safetensors"
        if not stored.exists():
            return make(self.config.data)
        return load_data(stored, [conditioners.build(one) for one in self.config.conditioners])

    # -- metrics -------------------------------------------------------------------------------------------------

    def metrics(self) -> list[dict[str, Any]]:
        """Return the lines of metrics.jsonl that are whole."""
        path = self.path / "metrics.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        rows = []
        for line in lines:
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:  # cut off by a crash
                continue
        return rows

    def loss(self) -> float | None:
        """Return the mean loss over the last tenth of the steps done; None before the first is logged."""
        rows = self.metrics()
        return last_loss(rows) if rows else None

    def keep_metrics_up_to(self, step: int) -> None:
        """Drop the lines after a step: they belong to work that a resumed run does again."""
        path = self.path / "metrics.jsonl"
        if path.exists():
            rows = [row for row in self.metrics() if row.get("step", 0) <= step]
            write(path, "".join(json.dumps(row) + "\n" for row in rows).encode())

    # -- checkpoints ---------------------------------------------------------------------------------------------

    def steps(self) -> list[int]:
        """Return the steps at which checkpoints stand, latest first."""
        root = self.path / "checkpoints"
        names = [p.name for p in root.iterdir()] if root.is_dir() else []
        return sorted((int(name) for name in names if name.isdigit()), reverse=True)

    def place(self, step: int) -> Path:
        """Return the folder of a checkpoint."""
        return self.path / "checkpoints" / f"{step:09d}"

    def save(self, checkpoint: Checkpoint, keep: int) -> Path:
        """Write a checkpoint whole or not at all, then drop all but the latest `keep`.

        Raises:
            RunError: if it cannot be written; what stood before still stands.
        """
        root, target = self.path / "checkpoints", self.place(checkpoint.step)
        if target.exists() and self._flaw(target) is None:
            return target
        with Writing(target):
            root.mkdir(parents=True, exist_ok=True)
            staging = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=root))
            try:
                for name in ("model", "ema", "optimizer"):
                    tensors = {k: v.detach().contiguous().cpu() for k, v in getattr(checkpoint, name).items()}
                    save_file(tensors, staging / f"{name}.safetensors")
                write_json(staging / "state.json", {"step": checkpoint.step, **checkpoint.state})
                files = {p.name: {"sha256": file_sum(p), "bytes": p.stat().st_size} for p in sorted(staging.iterdir())}
                manifest = {"format_version": FORMAT_VERSION, "step": checkpoint.step, "files": files}
                write_json(staging / "manifest.json", manifest)
                for p in staging.glob("*.safetensors"):
                    flush(p)
                staging.chmod(0o755)
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

    def load(self, denoiser: Denoiser, *, optimizer: bool = False) -> Checkpoint:
        """Return the latest checkpoint that is sound.

        Args:
            denoiser: whose network the tensors must fit by name, shape and dtype.
            optimizer: also read the optimizer's state.

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
                checkpoint = self._load_one(step, denoiser.network, optimizer)
            except CheckpointDamaged as error:
                reasons.append(str(error))
                continue
            if reasons:
                warnings.warn(f"{reasons[0]}; fell back to the checkpoint at step {step}", stacklevel=2)
            return checkpoint
        raise CheckpointDamaged(f"{'; '.join(reasons)}; no sound checkpoint is left, train again")

    def _flaw(self, place: Path) -> str | None:
        """Return what is wrong with a checkpoint's files, going by its manifest; None if nothing is."""
        try:
            manifest = json.loads((place / "manifest.json").read_text())
            check_version(manifest["format_version"], place)
            for name in _FILES:
                if file_sum(place / name) != manifest["files"][name]["sha256"]:
                    return f"{place / name} is truncated or was edited: its sum is not the manifest's"
        except FormatTooNew:
            raise
        except (OSError, KeyError, TypeError, ValueError) as error:
            return f"checkpoint {place} cannot be read: {type(error).__name__}: {error}"
        return None

    def _load_one(self, step: int, network: nn.Module, optimizer: bool) -> Checkpoint:
        place = self.place(step)
        flaw = self._flaw(place)
        if flaw is not None:
            raise CheckpointDamaged(flaw)
        version = json.loads((place / "manifest.json").read_text())["format_version"]
        old_names = {name: name_in(version, name) for name in network.state_dict()}
        wanted = {old_names[name]: tensor for name, tensor in network.state_dict().items()}
        model, ema = (
            {name: tensors[old] for name, old in old_names.items()}
            for tensors in (read_tensors(place / f"{kind}.safetensors", wanted) for kind in ("model", "ema"))
        )
        extra = load_file(place / "optimizer.safetensors") if optimizer else {}
        return Checkpoint(step, model, ema, extra, json.loads((place / "state.json").read_text()))


def last_loss(rows: Sequence[Mapping[str, Any]]) -> float:
    """Return the mean loss over the last tenth of the steps that these lines of metrics.jsonl tell of."""
    done = max((row["step"] for row in rows), default=0)
    last = [float(row["loss"]) for row in rows if row["step"] > 0.9 * done]
    return sum(last) / len(last) if last else math.nan


_SHOWN = 300
"""How many samples a run's card shows."""


@dataclass(frozen=True)
class Run:
    """A trained run: `fn.load("runs/spiral")`.

    Attributes:
        folder: on disk, or None for a training that was not kept.
        config: everything that made it.
        denoiser: with the averaged weights, or the last ones where no average was kept.
        opened: the data, where they are in memory.
        step: how many steps it was trained for.
    """

    folder: RunFolder | None
    config: RunConfig
    denoiser: Denoiser
    opened: Dataset | None
    step: int

    data = Renamed("source")

    @property
    def source(self) -> Dataset:
        """What it was trained on; read from the disk, or made again, when first asked for."""
        if self.opened is None:
            assert self.folder is not None
            object.__setattr__(self, "opened", self.folder.data())
        assert self.opened is not None
        return self.opened

    def __repr__(self) -> str:
        where = self.folder.path if self.folder else "not kept"
        return f"Run({where}, {self.config.data.get('name', 'data')}, {self.step} steps)"

    def _repr_html_(self) -> str:
        """Return the run's card, for a notebook: what it is, and samples of it where they are points in the plane."""
        c, loss = self.config, self.folder.loss() if self.folder else None
        numbers = {
            "data": str(c.data.get("name", "data")),
            "model": f"{c.network['name']} predicts {c.predict['name']} on the {c.schedule['name']} schedule",
            "steps": f"{self.step:,} of {c.train['batch_size']} samples",
            "loss": "-" if loss is None else f"{loss:.4f}",
        }
        picture = ""
        if self.denoiser.shape == (2,):
            names = self.denoiser.label_names
            labels = torch.arange(_SHOWN) * len(names) // _SHOWN if names else None
            x = sample(self.denoiser, _SHOWN, steps=10, cond=labels)
            picture = frames([x], labels, what=f"{_SHOWN} samples of the run")
        return card("A run" if self.folder is None else str(self.folder.path), numbers, picture)


def load(path: str | Path, *, weights: str = "ema") -> Run:
    """Load a run, without the data it was trained on: `run.source` reads them when asked for.

    Args:
        path: its folder.
        weights: "ema" for the averaged weights, "model" for the last.

    Raises:
        RunError: if there is no run, it is damaged, or a newer fromnoise wrote it.
    """
    if weights not in ("ema", "model"):
        raise InputError(f'weights must be "ema" or "model", not {weights!r}')
    folder = RunFolder(path)
    denoiser = folder.denoiser()
    checkpoint = folder.load(denoiser)
    denoiser.network.load_state_dict(getattr(checkpoint, weights))
    denoiser.eval().requires_grad_(False)
    return Run(folder, folder.config, denoiser, None, checkpoint.step)


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            out.update(_flat(value, f"{prefix}{key}."))
        else:
            out[f"{prefix}{key}"] = list(value) if isinstance(value, tuple) else value
    return out
