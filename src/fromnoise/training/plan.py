"""From a recipe and what the user changed in it to a denoiser and its training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BaseModel, BeforeValidator, ValidationError

from fromnoise import recipes
from fromnoise.arrays import usable_device
from fromnoise.data.codec import Codec, codec_of, codecs
from fromnoise.data.dataset import Dataset
from fromnoise.data.opening import open as open_data
from fromnoise.denoiser import Denoiser
from fromnoise.deprecated import alias, renamed_argument, warn
from fromnoise.errors import ConfigError, InputError
from fromnoise.nn.network import Network, networks
from fromnoise.process import Prediction, predictions
from fromnoise.registry import STRICT, Settings, explain
from fromnoise.rng import seeded
from fromnoise.run import Run
from fromnoise.schedule import Schedule, schedules
from fromnoise.training.config import TrainConfig
from fromnoise.training.loop import fit

Tree = dict[str, Any]


class Plan(BaseModel):
    """A training yet to be done, as data. A recipe file holds one, in parts or whole.

    Attributes:
        predict: what the network predicts, a component's settings.
        codec: between the data's units and the denoiser's, a component's settings.
        data: for a built-in data set, its n and seed.
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
        base, changes = recipes.read(recipe), dict(changes or {})
        if "scaling" in changes:
            warn("the setting scaling", "codec.kind")
            changes["codec"] = {"name": "affine", "kind": changes.pop("scaling")}
        other_path = any(_name(changes.get(key, base[key])) != _name(base[key]) for key in ("predict", "schedule"))
        if other_path:
            base["train"] = {k: v for k, v in base["train"].items() if k not in ("weighting", "times")}
        merged = merge(base, changes)
        kind = predictions.find(str(_name(merged["predict"])))
        if not isinstance(merged["train"], Mapping):
            raise ConfigError(
                f"the configuration: train is a group, such as train.steps = 300, not {merged['train']!r}"
            )
        merged["train"] = {"weighting": kind.weighting, **merged["train"]}
        networks.find(str(_name(merged["network"])))
        try:
            return cls(**{**merged, "train": TrainConfig(**merged["train"])})
        except ValidationError as error:
            raise explain(error, "the configuration") from None

    def for_data(self, data: Dataset) -> Plan:
        """Return the plan with conditions left out now and then, for guidance, unless it says how often itself."""
        if not data.conditioners or "drop_cond" in self.train.model_fields_set:
            return self
        return self.model_copy(update={"train": self.train.model_copy(update={"drop_cond": 0.1})})

    def denoiser(self, data: Dataset, network: Network | None = None) -> Denoiser:
        """Build the denoiser, its network's sizes fitted to the data, its weights drawn from the seed."""
        with seeded(self.train.seed, "network"):
            if network is None:
                network = networks.build({**self._sizes(data), **self.network})
        return Denoiser(network, schedules.build(self.schedule), self.predict)

    def _sizes(self, data: Dataset) -> Settings:
        """Return the sizes that follow from the data: dim for points and tables, and those of their conditions."""
        wanted = networks.schema(self.network["name"]).model_fields
        known: Settings = {key: size for one in data.conditioners for key, size in one.sizes().items()}
        if "dim" in wanted and codecs.build(self.codec).fitted(data.x[:2]).form == "points":
            known["dim"] = data.shape[0]
        elif "dim" in wanted:
            raise InputError(f"network {self.network['name']!r} is for points and tables, not for {list(data.shape)}")
        return {key: value for key, value in known.items() if key in wanted}


def _name(settings: Any) -> Any:
    return settings.get("name") if isinstance(settings, Mapping) else settings


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> Tree:
    """Lay changes over a tree of settings. A component of another name replaces the old one whole."""
    merged = dict(base)
    for key, given in changes.items():
        old: Any = merged.get(key)
        value: Any = {"name": given} if isinstance(given, str) and isinstance(old, Mapping) else given
        both = isinstance(value, Mapping) and isinstance(old, Mapping)
        same = both and (_name(old) is None or value.get("name") in (None, _name(old)))
        merged[key] = merge(old, value) if same else value
    return merged


alias(Plan, "of", "Plan.from_recipe", Plan.from_recipe)


@renamed_argument("scaling", "codec", codec_of)
def train(
    data: Dataset | torch.Tensor | Any,
    *,
    cond: Any = None,
    recipe: str = "points",
    schedule: Schedule | str | None = None,
    predict: str | Prediction | None = None,
    network: Network | str | None = None,
    codec: Codec | str | None = None,
    steps: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    seed: int | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    device: str | torch.device = "cpu",
) -> Run:
    """Train a denoiser on data and return the run.

    Everything not given is the recipe's. For full control build a `Denoiser` and a `TrainConfig` and drive `fit`.

    Args:
        data: a data set, or an array `[N, *S]`.
        cond: the condition of each sample: N labels, names or whole numbers, or vectors `[N, D]`.
        recipe: where the other settings come from.
        schedule: the path, an object or a name.
        predict: what the network predicts, an object or a name: eps, x0, v, flow, score or edm.
        network: an object or a registered name.
        codec: between the data's units and the denoiser's, an object or a name; `fn.data.Affine("columns")` gives every
            column a standard deviation of its own.
        steps: how many optimizer steps.
        batch_size: samples a step.
        lr: the highest learning rate.
        seed: of every random number.
        out: the run folder; None keeps nothing on disk.
        resume: go on with the run in `out` if there is one.
        device: where to train.

    Raises:
        InputError: if a setting cannot be used; otherwise as `fit`.
    """
    dataset = open_data(data)
    if cond is not None:
        dataset = dataset.conditioned(cond)
    settings = {"steps": steps, "batch_size": batch_size, "lr": lr, "seed": seed}
    changes: Tree = {"train": {k: v for k, v in settings.items() if v is not None}}
    if codec is not None:
        changes["codec"] = codec if isinstance(codec, str) else codecs.settings(codec)
    if predict is not None:
        changes["predict"] = predict if isinstance(predict, str) else predictions.settings(predict)
    if schedule is not None:
        changes["schedule"] = schedule if isinstance(schedule, str) else schedules.settings(schedule)
    if isinstance(network, str):
        changes["network"] = network
    plan = Plan.from_recipe(recipe, changes)
    denoiser = plan.denoiser(dataset, None if isinstance(network, str) else network).to(usable_device(device))
    plan = plan.for_data(dataset) if denoiser.conditioners else plan
    run = None
    for event in fit(denoiser, dataset, plan.train, out=out, resume=resume, codec=plan.codec):
        run = event.run
    assert run is not None  # the last event carries it
    return run
