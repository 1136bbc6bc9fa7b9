"""From a recipe, and what the user changed in it, to a denoiser and its training."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BaseModel, BeforeValidator, ValidationError
from torch import nn

from fromnoise import recipes
from fromnoise.arrays import usable_device
from fromnoise.conditioners import needed_of
from fromnoise.conditioners import prepare as prepare_conditions
from fromnoise.data import builtin
from fromnoise.data.codec import Codec, codec_of, codecs
from fromnoise.data.dataset import Dataset
from fromnoise.data.images import Progress, is_pictures
from fromnoise.data.opening import OF_DATA
from fromnoise.data.opening import open as open_data
from fromnoise.data.source import Source, held_apart
from fromnoise.data.stored import is_cached, stored_of
from fromnoise.data.views import every_row
from fromnoise.denoiser import Denoiser
from fromnoise.deprecated import alias, renamed_argument, retired, warn
from fromnoise.errors import ConfigError, InputError, UnknownName
from fromnoise.latent import Autoencoder
from fromnoise.model import Model
from fromnoise.nn.network import Network, networks
from fromnoise.process import Prediction, predictions
from fromnoise.registry import STRICT, Settings, explain
from fromnoise.rng import seeded
from fromnoise.run import AutoencoderRun, Run, latents_of
from fromnoise.schedule import Schedule, schedules
from fromnoise.settings import Tree, merge, name_of
from fromnoise.training.config import TrainConfig
from fromnoise.training.loop import Event, check_fit, fit
from fromnoise.training.stop import Stop


class Plan(BaseModel):
    """A training yet to be done, as data. A recipe file holds one, in parts or whole.

    Attributes:
        predict: what the network predicts, a component's settings.
        codec: between the data's units and the denoiser's, a component's settings.
        data: the data's own settings, such as the n and seed of a built-in data set, or the size of pictures.
        schedule: a component's settings.
        network: a component's settings; the sizes that follow from the data may be left out.
        train: the settings of the training.
    """

    model_config = STRICT

    predict: Annotated[Settings, BeforeValidator(predictions.complete)]
    codec: Annotated[Settings, BeforeValidator(codecs.complete)]
    data: dict[str, Any] = {}
    schedule: Annotated[Settings, BeforeValidator(schedules.complete)]
    network: dict[str, Any]
    train: TrainConfig

    @classmethod
    def from_recipe(cls, recipe: str = "points", changes: Mapping[str, Any] | None = None) -> Plan:
        """Return a recipe with changes.

        A component given by name alone takes that component's own defaults. A recipe's weighting and times go with
        its prediction and schedule: where either of those is changed, times fall back to stratified and the weighting
        to the prediction's own.

        Raises:
            UnknownName: if there is no such recipe or component.
            ConfigError: if a setting is unknown or out of range.
        """
        if recipe not in recipes.names():
            raise UnknownName("recipe", recipe, recipes.names())
        base, changes = recipes.read(recipe), dict(changes or {})
        if "scaling" in changes:
            warn("the setting scaling", "codec.kind")
            changes["codec"] = {"name": "affine", "kind": changes.pop("scaling")}
        other_path = any(name_of(changes.get(key, base[key])) != name_of(base[key]) for key in ("predict", "schedule"))
        if other_path:
            base["train"] = {k: v for k, v in base["train"].items() if k not in ("weighting", "times")}
        merged = merge(base, changes)
        kind = predictions.find(str(name_of(merged["predict"])))
        if not isinstance(merged["train"], Mapping):
            raise ConfigError(
                f"the configuration: train is a group, such as train.steps = 300, not {merged['train']!r}"
            )
        merged["train"] = {"weighting": kind.weighting, **merged["train"]}
        networks.find(str(name_of(merged["network"])))
        try:
            return cls(**{**merged, "train": TrainConfig(**merged["train"])})
        except ValidationError as error:
            raise explain(error, "the configuration", cls.model_fields) from None

    def assemble(
        self,
        source: Source,
        network: nn.Module | None = None,
        *,
        codec: Codec | None = None,
        device: str | torch.device = "cpu",
        progress: Progress | None = None,
    ) -> Training:
        """Measure the data, build the denoiser, and return the training.

        The codec is measured first, the network's sizes follow from it and from the conditions, its weights are drawn
        from the seed. Where conditions can be dropped, a tenth of them is, unless the plan says how many itself.

        Args:
            source: what is trained on.
            network: a network of your own, in place of the plan's.
            codec: in place of the plan's, where settings alone do not say it: that of an autoencoder.
            device: where to train; "meta" builds a network without weights, to see whether everything fits.
            progress: called with what is done, while a slow codec or a frozen encoder of captions takes the data in for
                the first time.

        Raises:
            InputError: if the plan does not fit the data.
        """
        rows, held = held_apart(source, self.train.held_out, self.train.seed)
        codec = codec or codecs.build(self.codec)
        codec.check_fits(rows)
        for part in (rows, held):
            if part is not None and is_cached(part, codec):
                stored_of(part, codec, progress)
        codec = codec.fitted(rows)
        if network is None:
            network = self._network(source, codec, torch.device(device))
        denoiser = Denoiser(network, schedules.build(self.schedule), self.predict)
        denoiser.measure(rows, codec)
        if torch.device(device).type != "meta":
            prepare_conditions(getattr(every_row(source), "cond", None), denoiser.conditioners, progress)
        config = _dropping(self.train) if any(one.droppable for one in denoiser.conditioners) else self.train
        return Training(denoiser.to(device), source, config)

    def denoiser(self, source: Source, network: nn.Module | None = None) -> Denoiser:
        """Build the denoiser, measured on the data, its network's weights drawn from the seed."""
        return self.assemble(source, network).denoiser

    def _network(self, source: Source, codec: Codec, device: torch.device) -> nn.Module:
        """Build the network, of the sizes that follow from the data, their conditions and the schedule."""
        name, shape = self.network["name"], codec.shape_of(source.shape)
        wanted = networks.schema(name).model_fields
        sizes: Settings = {key: size for one in (codec, *source.conditioners) for key, size in one.sizes().items()}
        if len(shape) == 2 and wanted.keys() & {"dim", "shape"}:
            raise InputError(
                f"no network here is for samples of shape {list(shape)}: if these are pictures without channels, give "
                f"them one, x[:, None], so that they are [N, 1, {shape[0]}, {shape[1]}]"
            )
        if "dim" in wanted and len(shape) > 1:
            raise InputError(f"network {name!r} is for points and tables, not for {list(shape)}: try --net unet")
        if "shape" in wanted and len(shape) != 3:
            raise InputError(f"network {name!r} is for pictures [C, H, W], not for {list(shape)}: try --net mlp")
        sizes |= {"dim": math.prod(shape), "shape": list(shape)}
        schedule = schedules.build(self.schedule)
        if schedule.table_length is None:
            sizes["log_snr"] = [float(schedule.c_noise(t)) for t in (0.0, 1.0)]
        needed = {*needed_of(source.conditioners), *(one.value for one in source.conditioners if not one.optional)}
        deaf = next(
            (k for one in source.conditioners if one.value in needed for k in one.sizes() if k not in wanted), None
        )
        if deaf is not None:
            raise InputError(f"network {name!r} takes no {deaf} as condition, and the data have one: try --net unet")
        known = {key: value for key, value in sizes.items() if key in wanted}
        on_meta = torch.device("meta") if device.type == "meta" else contextlib.nullcontext()
        with seeded(self.train.seed, "network"), on_meta:
            return networks.build({**known, **self.network})


@dataclass(frozen=True)
class Training:
    """A training that is ready to begin: what Python, the command line, the demo and the studio all start.

    Attributes:
        model: a denoiser or an autoencoder, measured on the source, on its device.
        source: what is trained on.
        config: the settings of the training.
    """

    model: Model
    source: Source
    config: TrainConfig

    def check(self) -> None:
        """Refuse settings that do not fit the model. Raises as `check_fit` does."""
        check_fit(self.model, self.config)

    @property
    def denoiser(self) -> Denoiser:
        """The model of a training of a denoiser."""
        assert isinstance(self.model, Denoiser)
        return self.model

    def fit(
        self, out: str | Path | None = None, *, resume: bool = False, keep_data: bool = True, stop: Stop | None = None
    ) -> Iterator[Event]:
        """Train step by step; see `fromnoise.fit`."""
        return fit(
            self.model, self.source, self.config, out=out, resume=resume, keep_data=keep_data, stop=stop
        )  # fmt: skip

    def run(self, out: str | Path | None = None, *, resume: bool = False, keep_data: bool = True) -> Any:
        """Train to the end and return the run, of whatever was trained. Raises as `fromnoise.fit` does."""
        *_, last = self.fit(out, resume=resume, keep_data=keep_data)
        assert last.run is not None  # the last event carries it
        return last.run


def given_only(settings: Tree) -> Tree:
    """Return the settings that are not None."""
    return {key: value for key, value in settings.items() if value is not None}


def _dropping(config: TrainConfig) -> TrainConfig:
    """Return the settings with a tenth of the conditions left out, for guidance, unless they say how many."""
    return config if "drop_cond" in config.model_fields_set else config.model_copy(update={"drop_cond": 0.1})


alias(Plan, "of", "Plan.from_recipe", Plan.from_recipe)
retired(Plan, "for_labels", "Plan.assemble", lambda plan: plan.model_copy(update={"train": _dropping(plan.train)}))


def prepare(
    data: Any,
    recipe: str | None = None,
    changes: Mapping[str, Any] | None = None,
    *,
    codec: Codec | None = None,
    progress: Progress | None = None,
) -> tuple[Plan, Source]:
    """Open data, and return the plan of a training on them.

    Args:
        data: whatever `fn.data.open` reads.
        recipe: where the settings come from; the one that fits the data when not given, with what the data suggest.
        changes: the user's, as for `Plan.from_recipe`; the group `data` is the data's own settings.
        codec: of an autoencoder, to whose size and channels pictures in files are brought; see `opened`.
        progress: called with the pictures done, while they are decoded for the first time.

    Raises:
        InputError: if the data cannot be opened, or a setting cannot be used.
    """
    changes = dict(changes or {})
    if codec is not None:
        changes["codec"] = codecs.settings(codec)
    given = changes.get("data", {})
    if isinstance(data, str) and data in builtin.names():
        usual = recipes.read(recipe or builtin.recipe_of(data)).get("data", {})
        given = builtin.settings_for(data, usual, given)
    source = opened(data, given, codec, progress)
    suggested = dict(source.suggests)
    own = suggested.pop("recipe")
    return Plan.from_recipe(recipe or own, merge(suggested if recipe is None else {}, changes)), source


def opened(data: Any, given: Mapping[str, Any], codec: Codec | None, progress: Progress | None) -> Source:
    """Open data with the settings given, and pictures in files so that they suit a codec, where these leave it open.

    Args:
        data: whatever `fn.data.open` reads.
        given: settings of the data.
        codec: of an autoencoder, or None.
        progress: called with the pictures done.
    """
    if codec is None or not is_pictures(data):
        return open_data(data, settings=given, progress=progress)
    wanted, settings = codec.sample_shape(()), {**codec.suits, **given}
    try:
        source = open_data(data, settings=settings, progress=progress)
        if wanted in (None, (), source.shape):
            return source
    except InputError:
        if wanted is None or settings.get("size"):
            raise
    assert wanted is not None
    channels, height, width = wanted
    size = {"size": height} if height == width else {}
    return open_data(data, settings={**size, **codec.suits, "channels": channels, **given}, progress=progress)


@renamed_argument("scaling", "codec", codec_of)
def train(
    data: Dataset | torch.Tensor | Any,
    *,
    cond: Any = None,
    captions: Sequence[str] | None = None,
    text_encoder: str | Path | None = None,
    recipe: str | None = None,
    schedule: Schedule | Mapping[str, Any] | str | None = None,
    predict: Prediction | Mapping[str, Any] | str | None = None,
    network: Network | Mapping[str, Any] | str | None = None,
    codec: Codec | Mapping[str, Any] | str | None = None,
    latent: AutoencoderRun | Run | Autoencoder | str | Path | None = None,
    steps: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    seed: int | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    keep_data: bool = True,
    device: str | torch.device = "cpu",
    **settings: Any,
) -> Run:
    """Train a denoiser on data and return the run.

    Everything not given is the recipe's. For full control build a `Denoiser` and a `TrainConfig` and drive `fit`.

    Args:
        data: whatever `fn.data.open` reads: an array `[N, *S]`, a file's name, a built-in data set's name, a data set.
        cond: the condition of each sample: N labels, names or whole numbers, or vectors `[N, D]`.
        captions: a text for each sample, "" for none: what they show.
        text_encoder: a frozen encoder of the captions, CLIP, T5 or a sentence encoder: its folder, or the name of an
            installed package or of a model in the Hugging Face cache; without one the network has its own.
        recipe: where the other settings come from; the one that fits the data when not given.
        schedule: the path; this and the next three are an object, a name, or settings, `{"name": "linear", "T": 400}`.
        predict: what the network predicts: eps, x0, v, flow, score or edm.
        network: what is trained.
        codec: between the data's units and the denoiser's; by default every column of a table has a mean and standard
            deviation of its own, and points and pictures have one standard deviation.
        latent: the run of an autoencoder, or of another model in its latents, or its folder, in whose latents to
            train; the autoencoder is then the codec.
        steps: how many optimizer steps.
        batch_size: samples a step.
        lr: the highest learning rate.
        seed: of every random number.
        out: the run folder; None keeps nothing on disk.
        resume: go on with the run in `out` if there is one.
        keep_data: whether the run folder holds the samples; see `fit`.
        device: where to train.
        settings: any other setting of `TrainConfig` by its name: `ema=0.99`, `held_out=0.1`, `loss="sliced"`.

    Raises:
        InputError: if a setting is unknown or cannot be used; otherwise as `fit`.
    """
    of_data = [name for name in settings if name in OF_DATA]
    if of_data:
        raise InputError(
            f"train: {of_data[0]} is said of the data: give fn.data.open(data, settings="
            f"{{{of_data[0]!r}: {settings[of_data[0]]!r}}})"
        )
    numbers: Tree = {"steps": steps, "batch_size": batch_size, "lr": lr, "seed": seed}
    own = None if isinstance(network, str | Mapping) else network
    if latent is not None:
        if codec is not None:
            raise InputError("latent and codec were both given: an autoencoder is the codec; give one of the two")
        codec = latents_of(latent)
    changes = given_only({
        "schedule": schedules.as_settings(schedule),
        "predict": predictions.as_settings(predict),
        "codec": codecs.as_settings(codec),
        "network": network if own is None else None,
        "train": {**given_only(numbers), **settings},
    })  # fmt: skip
    if text_encoder is not None and captions is None:
        if not is_pictures(data):
            raise InputError("text_encoder reads captions: give these too, or have it read them, data.captioned(...)")
        changes["data"] = {"text_encoder": str(text_encoder)}
    own_codec = codec if isinstance(codec, Codec) else None
    plan, source = prepare(data, recipe, changes, codec=own_codec)
    if cond is not None:
        if not isinstance(source, Dataset):
            raise InputError(f"cond is for data in memory, and {type(source).__name__} brings its own: leave cond out")
        source = source.conditioned(cond)
    if captions is not None:
        if not isinstance(source, Dataset):
            raise InputError(f"captions are for data in memory, and {type(source).__name__} brings its own")
        source = source.captioned(captions, None if text_encoder is None else str(text_encoder))
    return plan.assemble(source, own, codec=own_codec, device=usable_device(device)).run(
        out, resume=resume, keep_data=keep_data
    )
