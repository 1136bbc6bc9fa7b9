"""What a run is, as data: the configuration that config.toml holds."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import tomli_w
import torch
from pydantic import BaseModel, Discriminator, Field, Tag, model_validator
from torch import nn

from fromnoise.conditioners import conditioners
from fromnoise.data.codec import Codec, codecs
from fromnoise.data.dataset import Dataset
from fromnoise.data.images import Files
from fromnoise.data.source import Source
from fromnoise.data.views import inmost
from fromnoise.denoiser import Denoiser
from fromnoise.errors import ConfigError, FormatTooNew, RunError, shown
from fromnoise.latent import Autoencoder
from fromnoise.model import Model
from fromnoise.nn.autoencoder import autoencoders
from fromnoise.nn.network import networks, plain
from fromnoise.nn.skeleton import skeleton
from fromnoise.own_grid import AnySteps, OwnGrid
from fromnoise.process import predictions
from fromnoise.registry import STRICT, Registry, Settings
from fromnoise.run.guard import is_whole
from fromnoise.schedule import schedules
from fromnoise.settings import flat

FORMAT_VERSION = 2


class Measured(BaseModel):
    """What was measured on the data once, in the denoiser's units."""

    model_config = STRICT

    shape: list[int] = Field(default_factory=list)
    sigma_data: float = 1.0
    effective_dimension: float | None = None


def _way(grid: Any) -> str:
    """Return which kind of `FewSteps` a configuration means."""
    named = grid.get("name") if isinstance(grid, Mapping) else getattr(grid, "name", None)
    return "own" if named is None else str(named)


Way = Annotated[Annotated[OwnGrid, Tag("own")] | Annotated[AnySteps, Tag("any")], Discriminator(_way)]


NO_DENOISER = (
    "{0} is the run of an autoencoder, and no denoiser: train one in its latents, fromnoise train DATA --latent {0}"
)


class AnyConfig(BaseModel):
    """What makes a run what it is, as data, whatever was trained.

    Attributes:
        format_version: of the folder.
        data: how to make the data again: a built-in's name, n and seed; or the name and sum of stored samples.
        conditioners: what turns a user's words into conditions, a component's settings each.
        codec: a component's settings; what it measured is in codec.safetensors.
        measured: the shape of z, its standard deviation, and in how many directions it varies.
        network: a component's settings.
        train: the settings of the training (`TrainConfig`).
    """

    model_config = STRICT

    format_version: int = FORMAT_VERSION
    data: dict[str, Any]
    conditioners: list[Settings] = Field(default_factory=list)
    codec: Settings
    measured: Measured
    network: Settings
    train: dict[str, Any]

    components: ClassVar[Mapping[str, Registry[Any]]] = {"codec": codecs, "network": networks}
    """Where the settings of each component are known."""

    @model_validator(mode="before")
    @classmethod
    def _as_toml_has_it(cls, raw: Any) -> Any:
        return _without_none(raw) if isinstance(raw, dict) else raw

    def model(self, codec: Codec) -> Model:
        """Build the model this describes, with fresh weights.

        Args:
            codec: as it was measured.
        """
        raise NotImplementedError

    def skeleton(self) -> nn.Module:
        """Return its network without numbers; see `nn.skeleton`."""
        return skeleton(self.network, self.components["network"])

    def filled_as(self, other: AnyConfig) -> dict[str, Any]:
        """Return it as data, with the settings that an earlier release did not have where `other` has the component."""
        found = self.model_dump()
        for key, registry in self.components.items():
            found[key] = _filled(registry, found[key], getattr(other, key, None))
        if len(self.conditioners) == len(other.conditioners):
            found["conditioners"] = [
                _filled(conditioners, *pair) for pair in zip(self.conditioners, other.conditioners, strict=True)
            ]
        return found

    @property
    def sample_shape(self) -> list[int] | None:
        """The shape of one sample of the data; None where the codec does not say."""
        shape = codecs.build(self.codec).sample_shape(tuple(self.measured.shape))
        return None if shape is None else list(shape)


class RunConfig(AnyConfig):
    """Everything that makes the run of a denoiser what it is, as data: what `AnyConfig` has, and these.

    Attributes:
        schedule: a component's settings.
        predict: what the network's output means, a component's settings.
        grid: of a model of few steps, how it is sampled.
    """

    schedule: Settings
    predict: Settings
    grid: Way | None = None

    components: ClassVar[Mapping[str, Registry[Any]]] = {
        **AnyConfig.components,
        "schedule": schedules,
        "predict": predictions,
    }

    def model(self, codec: Codec) -> Denoiser:
        return Denoiser(
            networks.build(self.network),
            schedules.build(self.schedule),
            self.predict,
            sigma_data=self.measured.sigma_data,
            effective_dimension=self.measured.effective_dimension,
            codec=codec,
            conditioners=[conditioners.build(one) for one in self.conditioners],
            grid=self.grid,
        )


class AutoencoderConfig(AnyConfig):
    """Everything that makes the run of an autoencoder what it is, as data.

    Attributes:
        kind: by which its config.toml is known.
    """

    kind: Literal["autoencoder"] = "autoencoder"

    components: ClassVar[Mapping[str, Registry[Any]]] = {**AnyConfig.components, "network": autoencoders}

    def model(self, codec: Codec) -> Autoencoder:
        made = Autoencoder(autoencoders.build(self.network), codec)
        made.rescale(codec, self.measured.sigma_data, self.measured.effective_dimension)
        return made


def config_of(raw: Mapping[str, Any]) -> AnyConfig:
    """Return the configuration that a config.toml holds. Raises as pydantic does."""
    return AutoencoderConfig(**raw) if raw.get("kind") == "autoencoder" else RunConfig(**raw)


def describe(model: Model, data: Source, train: Mapping[str, Any]) -> AnyConfig:
    """Return the configuration of a training.

    Raises:
        ConfigError: if the network or the schedule is of a class that was never registered.
    """
    common: dict[str, Any] = {
        "data": data.identity if isinstance(inmost(data), Dataset | Files) else _of_source(data),
        "conditioners": [_plain(conditioners.settings(one)) for one in model.conditioners],
        "codec": codecs.settings(model.codec),
        "measured": Measured(
            shape=list(model.shape), sigma_data=model.sigma_data, effective_dimension=model.effective_dimension
        ),
        "train": dict(train),
    }
    if isinstance(model, Autoencoder):
        return AutoencoderConfig(network=autoencoders.settings(model.inner), **common)
    assert isinstance(model, Denoiser)
    return RunConfig(
        schedule=schedules.settings(model.schedule),
        network=networks.settings(plain(model.network)),  # pyright: ignore[reportArgumentType] a user's own may be any module
        predict=predictions.settings(model.predict),
        grid=model.grid,  # pyright: ignore[reportArgumentType] one of the two
        **common,
    )


def _of_source(data: Source) -> dict[str, Any]:
    """Return what is kept of a user's own source, which cannot be made again by its name."""
    return {"name": data.name, **data.identity, "source": type(data).__name__}


def _filled(registry: Registry[Any], then: Settings, now: Settings | None) -> Settings:
    """Return a component's settings with the defaults of those it lacks, where the two are of one name."""
    return registry.complete(then) if now is not None and then.get("name") == now.get("name") else then


def _plain(settings: Settings) -> Settings:
    """Return settings as a TOML file gives them back, with lists for tuples."""
    return {key: list(value) if isinstance(value, tuple) else value for key, value in settings.items()}


def check_version(version: Any, path: Path) -> None:
    """Refuse what a newer fromnoise wrote, and what none did."""
    if type(version) is not int or version < 1:
        raise RunError(f"{path} has format {shown(version)}, which no fromnoise ever wrote")
    if version > FORMAT_VERSION:
        raise FormatTooNew(
            f"{path} has format {shown(version)}, and this fromnoise reads up to {FORMAT_VERSION}: "
            "install a newer fromnoise"
        )


def check_settings(path: Path, config: AnyConfig) -> None:
    """Refuse settings that are of no use where the library reads them later: the data's name, the training's sizes."""
    if not isinstance(config.data.get("name"), str):
        raise ConfigError(f"{path}: data.name must be a text, not {shown(config.data.get('name'))}")
    for key in ("steps", "batch_size"):
        if not is_whole(config.train.get(key)) or not config.train[key]:
            raise ConfigError(f"{path}: train.{key} must be a whole number above 0, not {shown(config.train.get(key))}")
    for key in ("weighting", "times"):
        if not isinstance(config.train.get(key), (str, dict)):
            raise ConfigError(f"{path}: train.{key} must be a component, not {shown(config.train.get(key))}")
    dropped = config.train.get("drop_cond")
    if isinstance(dropped, bool) or not isinstance(dropped, (int, float)) or not 0 <= dropped < 1:
        raise ConfigError(f"{path}: train.drop_cond must lie in [0, 1), not {shown(dropped)}")


def differences(
    old: AnyConfig, new: AnyConfig, *, free: frozenset[str], filled: Callable[[Mapping[str, Any]], Mapping[str, Any]]
) -> list[tuple[str, Any, Any]]:
    """Return the settings in which a training differs from the run it would go on with: key, then and now.

    Args:
        old: of the run.
        new: of the training.
        free: the names of train settings that may differ.
        filled: gives train settings the defaults of those that a run of an earlier release lacks.
    """
    then = flat(json.loads(type(old)(**{**old.filled_as(new), "train": dict(filled(old.train))}).model_dump_json()))
    now = flat(json.loads(new.model_dump_json()))
    ignored = {f"train.{key}" for key in free}
    keys = {k for k in then.keys() | now.keys() if k not in ignored and not k.startswith("measured.")}
    if "data.path" in then:  # data that were moved or renamed are the same data
        keys -= {"data.path", "data.name"}
    if "train.loss.weights" in then:  # so is a teacher that was moved: a sum of its weights is compared
        keys.discard("train.loss.teacher")
    if then.get("train.loss.features_sum"):  # and a network of features
        keys.discard("train.loss.features")
    keys -= {"data.captions", "data.text_encoder"}  # what they say is in sums: of the data, and of the encoder's files
    if "data.conditions" not in then:  # an older run, which kept no sum of them
        keys.discard("data.conditions")
    pairs = ((key, _listed(then.get(key)), _listed(now.get(key))) for key in sorted(keys))
    return [(key, a, b) for key, a, b in pairs if _without_place(a) != _without_place(b)]


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _without_place(value: Any) -> Any:
    """Return conditioners without the place of an encoder, whose weights a sum is kept of; anything else as it is."""
    if isinstance(value, list):
        return [_without_place(one) for one in value]
    return {**value, "encoder": ""} if isinstance(value, dict) and {"encoder", "weights"} <= value.keys() else value


def to_toml(config: BaseModel) -> str:
    """Return a configuration as TOML."""
    return tomli_w.dumps(json.loads(config.model_dump_json(exclude_none=True)))


def _without_none(tree: dict[str, Any]) -> dict[str, Any]:
    """Leave out what is None, for which TOML has no word: it is the default of every setting that may be None."""
    return {k: _without_none(v) if isinstance(v, dict) else v for k, v in tree.items() if v is not None}


def environment() -> dict[str, Any]:
    """Return what the run was made with."""
    from importlib.metadata import version

    return {
        "fromnoise": version("fromnoise"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine(),
        "threads": torch.get_num_threads(),
        "command": " ".join(["fromnoise", *sys.argv[1:]]),
    }
