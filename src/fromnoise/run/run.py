"""A trained run, and how it is loaded from its folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fromnoise.card import card, frames
from fromnoise.cond import Cond
from fromnoise.data.dataset import Dataset
from fromnoise.data.source import Source, held_apart
from fromnoise.data.views import as_alike
from fromnoise.denoiser import Denoiser
from fromnoise.deprecated import Renamed
from fromnoise.errors import InputError
from fromnoise.latent import Autoencoder, Latent
from fromnoise.model import Model
from fromnoise.run.config import NO_DENOISER, AnyConfig, RunConfig
from fromnoise.run.data import given_data
from fromnoise.run.folder import RunFolder
from fromnoise.run.guard import distrusting
from fromnoise.run.log import last_loss
from fromnoise.samplers import sample, usual_steps
from fromnoise.text_features import EncodedText

_SHOWN = 300
"""How many samples a run's card shows."""


@dataclass(frozen=True)
class AnyRun:
    """A training that is kept or was just done, whatever was trained.

    Attributes:
        folder: on disk, or None for a training that was not kept.
        config: everything that made it.
        model: with the averaged weights, or the last ones where no average was kept.
        opened: the data, where they are in memory.
        step: how many steps it was trained for.
        rows: what `history` gives where there is no folder.
    """

    folder: RunFolder | None
    config: AnyConfig
    model: Model
    opened: Source | None
    step: int
    rows: tuple[dict[str, Any], ...] = ()

    data = Renamed("source")

    @property
    def source(self) -> Dataset | Any:
        """What it was trained on; read from the disk, or made again, when first asked for.

        A data set, or the user's own source where a training of this process got one.
        """
        if self.opened is None:
            assert self.folder is not None
            object.__setattr__(self, "opened", self.folder.data())
        return self.opened

    def parts(self) -> tuple[Source, Source | None]:
        """Return the samples that it was trained on, and those held out; None where none were.

        Where it was trained on mirror images, those held out have theirs too, so that the two are of one law.
        """
        kept, held = held_apart(self.source, self.config.train["held_out"], self.config.train["seed"])
        return kept, None if held is None else as_alike(held, kept)

    @property
    def name(self) -> str:
        """What its data are called."""
        return str(self.config.data.get("name", "data"))

    @property
    def holds_data(self) -> bool:
        """Whether `source` can be had: the data are in memory, in the folder, where they were, or built in."""
        return self.opened is not None or (self.folder is not None and self.folder.has_data)

    @property
    def history(self) -> list[dict[str, Any]]:
        """The training's log: a row for each event, with "step", "loss", "lr", "rate" and perhaps "held_out"."""
        return list(self.rows) if self.folder is None else self.folder.metrics()

    @property
    def loss(self) -> float | None:
        """The mean training loss over the last tenth of the steps; None where nothing was logged."""
        rows = self.history
        return last_loss(rows) if rows else None

    def __repr__(self) -> str:
        where = self.folder.path if self.folder else "not kept"
        return f"{type(self).__name__}({where}, {self.name}, {self.step} steps)"


@dataclass(frozen=True, repr=False)
class Run(AnyRun):
    """A trained run: `fn.load("runs/spiral")`. It has what `AnyRun` has, its config is a `RunConfig`."""

    config: RunConfig

    @property
    def denoiser(self) -> Denoiser:
        """With the averaged weights, or the last ones where no average was kept."""
        assert isinstance(self.model, Denoiser)
        return self.model

    def _repr_html_(self) -> str:
        """Return the run's card, for a notebook: what it is, and samples of it where they are points in the plane."""
        c, loss = self.config, self.loss
        numbers = {
            "data": self.name,
            "model": f"{c.network['name']} predicts {c.predict['name']} on the {c.schedule['name']} schedule",
            "steps": f"{self.step:,} of {c.train['batch_size']} samples",
            "loss": "-" if loss is None else f"{loss:.4f}",
        }
        picture = ""
        if self.denoiser.shape == (2,):
            names = self.denoiser.label_names
            labels = torch.arange(_SHOWN) * len(names) // _SHOWN if names else None
            x = sample(
                self.denoiser,
                _SHOWN,
                steps=usual_steps(self.denoiser, 10),
                cond=None if labels is None else Cond({"label": labels}),
            )
            picture = frames([x], labels, what=f"{_SHOWN} samples of the run")
        return card("A run" if self.folder is None else str(self.folder.path), numbers, picture)


@dataclass(frozen=True, repr=False)
class AutoencoderRun(AnyRun):
    """A trained run of an autoencoder: `fn.load_autoencoder("runs/autoencoder")`."""

    @property
    def autoencoder(self) -> Autoencoder:
        """With the averaged weights, or the last ones where no average was kept."""
        assert isinstance(self.model, Autoencoder)
        return self.model

    @property
    def latents(self) -> Latent:
        """The codec that it is, to train in its latents: `fn.train(x, codec=run.latents)`."""
        of_data = ("size", "fit", "background", "channels")
        return Latent.from_autoencoder(
            self.autoencoder, {key: value for key, value in self.config.data.items() if key in of_data}
        )


def run_of(
    folder: RunFolder | None,
    config: AnyConfig,
    model: Model,
    opened: Source | None,
    step: int,
    *,
    rows: tuple[dict[str, Any], ...] = (),
) -> AnyRun:
    """Return the run of whatever was trained; see `AnyRun`."""
    if isinstance(config, RunConfig):
        return Run(folder, config, model, opened, step, rows)
    return AutoencoderRun(folder, config, model, opened, step, rows)


def load(
    path: str | Path,
    *,
    weights: str = "ema",
    ema: float | None = None,
    data: Any = None,
    text_encoder: str | Path | None = None,
) -> Run:
    """Load a run, without the data it was trained on: `run.source` reads them when asked for.

    Args:
        path: its folder.
        weights: "ema" for the averaged weights, "model" for the last.
        ema: the length of another average, its standard deviation in parts of the training, 0.001 to 0.28: made of the
            run's snapshots, instead of the average that the training kept (Karras et al. 2024).
        data: the data it was trained on, or where they are now, where the folder holds none.
        text_encoder: where the frozen encoder of captions is now, where it is not where it was in training.

    Raises:
        RunError: if there is no run, it is damaged, a newer fromnoise wrote it, or it was trained on other data.
        InputError: if the run kept no snapshots for an average of another length, or reads no captions by an encoder.
    """
    run = load_any(path, weights=weights, ema=ema, data=data, text_encoder=text_encoder)
    if not isinstance(run, Run):
        raise InputError(NO_DENOISER.format(path))
    return run


def load_autoencoder(
    path: str | Path, *, weights: str = "ema", ema: float | None = None, data: Any = None
) -> AutoencoderRun:
    """Load a run of an autoencoder. Arguments and errors are those of `load`."""
    run = load_any(path, weights=weights, ema=ema, data=data)
    if not isinstance(run, AutoencoderRun):
        raise InputError(
            f"{path} is no run of an autoencoder, but of a denoiser: train one, fromnoise train-autoencoder DATA"
        )
    return run


def latents_of(what: Any) -> Latent:
    """Return the codec of an autoencoder, not yet fitted to data.

    Args:
        what: an autoencoder, its run, the run of a model in its latents, or the folder of either run.

    Raises:
        InputError: if it is none of these.
    """
    run = load_any(what) if isinstance(what, str | Path) else what
    if isinstance(run, AutoencoderRun):
        return run.latents
    if isinstance(run, Autoencoder):
        return Latent.from_autoencoder(run)
    codec = run.denoiser.codec if isinstance(run, Run) else None
    if isinstance(codec, Latent) and codec.autoencoder is not None:
        return Latent.from_autoencoder(codec.autoencoder)
    where = what if isinstance(what, str | Path) else type(what).__name__
    raise InputError(
        f"{where} is no run of an autoencoder, and none in latents: train one, fromnoise train-autoencoder DATA"
    )


def load_any(
    path: str | Path,
    *,
    weights: str = "ema",
    ema: float | None = None,
    data: Any = None,
    text_encoder: str | Path | None = None,
) -> AnyRun:
    """Load a run of whatever was trained. Arguments and errors are those of `load`."""
    if weights not in ("ema", "model"):
        raise InputError(f'weights must be "ema" or "model", not {weights!r}')
    if ema is not None and weights != "ema":
        raise InputError('weights="model" is the last weights, and ema an average: give one of the two')
    folder = RunFolder(path)
    with distrusting(folder.path):
        config = folder.config
        checkpoint = folder.latest(config.skeleton())  # before memory is taken for the network
        model = folder.model()
        model.network.load_state_dict(getattr(checkpoint, weights))
        if ema is not None:
            parameters = dict(model.network.named_parameters())
            model.network.load_state_dict(folder.averages.mixed(ema, checkpoint.step, parameters), strict=False)
        model.eval().requires_grad_(False)
        model.trained_dropping(config.train["drop_cond"])
    if text_encoder is not None:
        known = model.conditioners if isinstance(model, Denoiser) else ()
        if not any(isinstance(one, EncodedText) for one in known):
            raise InputError(f"{path} reads no captions by a frozen encoder: leave text_encoder out")
        model.conditioners = tuple(one.at(text_encoder) if isinstance(one, EncodedText) else one for one in known)
    opened = None if data is None else given_data(folder.path, config, data)
    return run_of(folder, config, model, opened, checkpoint.step)
