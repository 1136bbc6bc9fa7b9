"""Training an autoencoder: the loss, and the plan from data to a training.

loss = E over x, eps of  |x_hat - x|^p + kl KL(q(l | x) | N(0, I)) + perceptual |f(x_hat) - f(x)|^2
                         - adversarial D(x_hat)

per number of the picture, p = 2 or 1, x_hat decoded from l = m + exp(v/2) eps, D a critic.
Source: Rombach et al. 2022, section 3.1; Esser et al. 2021, eq. 4-6 (the adversarial term, here with a fixed weight).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import BaseModel, BeforeValidator, Field, ValidationError
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from fromnoise import recipes
from fromnoise.arrays import usable_device
from fromnoise.data.codec import Codec, codecs
from fromnoise.data.opening import open as open_data
from fromnoise.data.source import Batch, Source, held_apart
from fromnoise.errors import ConfigError, InputError
from fromnoise.latent import Autoencoder
from fromnoise.model import Model
from fromnoise.nn.autoencoder import KLAutoencoder, autoencoders
from fromnoise.registry import STRICT, Settings, explain
from fromnoise.rng import seeded
from fromnoise.run import AutoencoderRun
from fromnoise.settings import merge
from fromnoise.training.config import TrainConfig
from fromnoise.training.draws import Draws
from fromnoise.training.judge import Progress
from fromnoise.training.perceptual import Perceptual
from fromnoise.training.plan import Training, given_only
from fromnoise.training.task import AnyTask, Drawn, autocast, losses

_CRITIC_FROM = 0.25
"""The part of a training after which the adversarial term begins, when reconstructions are worth telling apart."""

_NEVER = frozenset({"weighting", "times", "drop_cond"})
"""Settings of a training that are of denoisers alone."""


@losses.register("autoencoding")
@dataclass(frozen=True)
class Autoencoding(AnyTask):
    """The loss of an autoencoder: how far reconstructions are from pictures, and latents from normal numbers.

    Args:
        error: "l2", squared, or "l1", absolute, of numbers in the network's units.
        kl: the weight of the KL divergence, in nats for each number of the picture.
        perceptual: the weight of the distance between features of a network; 0 for none.
        features: that network: a judge's file (.safetensors) or any as TorchScript (.pt); needed where it has a weight.
        features_sum: the sum of that file; filled in.
        adversarial: the weight of a critic's verdict, which is trained along (network.critic, its width); 0 for none.
            It begins after a quarter of the training.
    """

    error: Literal["l1", "l2"] = "l2"
    kl: Annotated[float, Field(ge=0)] = 1e-4
    perceptual: Annotated[float, Field(ge=0)] = 0.0
    features: str = ""
    features_sum: str = ""
    adversarial: Annotated[float, Field(ge=0)] = 0.0

    seen: ClassVar[Perceptual | None] = None
    """The network of features, once it was needed."""

    @property
    def network(self) -> KLAutoencoder:
        """What is trained."""
        return self.module  # pyright: ignore[reportReturnType] of an Autoencoder

    def check_model(self, model: Model) -> None:
        if not isinstance(model, Autoencoder):
            raise ConfigError(
                "train: the loss autoencoding is for autoencoders: fromnoise train-autoencoder trains one"
            )

    @property
    def steady(self) -> bool:
        return not self.adversarial  # the critic's measure moves

    def check(self) -> None:
        if self.network.critic is not None and not self.adversarial:
            raise ConfigError("train: network.critic is for an adversarial loss: set train.loss.adversarial too")
        if self.features and not self.perceptual:
            raise ConfigError("train: features are for a perceptual loss: set train.loss.perceptual too")
        if self.adversarial and self.network.critic is None:
            raise ConfigError("train: an adversarial loss needs a critic: set network.critic to its width, such as 32")
        if self.perceptual and not self.features:
            raise ConfigError("train: a perceptual loss needs train.loss.features: classifier, or a network's file")

    def draw(self, clean: Batch, draws: Draws) -> Drawn:
        x = clean.x
        eps = draws.normal("latent", x.new_empty((1, *self.network.latent_shape)))
        progress = draws.progress(self.in_all)
        nothing = torch.zeros(len(x), dtype=torch.float64)
        return Drawn(x, nothing.to(x), None, x, None, nothing, x, {"eps": eps, "progress": progress.to(x)})

    def loss(self, drawn: Drawn) -> Tensor:
        x = drawn.x
        with autocast(x, self.precision):
            x_hat, law = self.network(x, drawn.also["eps"])
        x_hat, law = x_hat.float(), type(law)(*(part.float() for part in law))
        error = x_hat - x
        loss = error.square().mean() if self.error == "l2" else error.abs().mean()
        loss = loss + self.kl * law.kl().sum() / x.numel()
        if self.perceptual:
            loss = loss + self.perceptual * self._features().distance(x_hat, x)
        if self.adversarial:
            loss = loss + self._adversarial(x_hat, x, drawn.also["progress"])
        return loss

    def _adversarial(self, x_hat: Tensor, x: Tensor, progress: Tensor) -> Tensor:
        """Return the critic's verdict on reconstructions, with the gradient of its own loss, which adds nothing to it.

        The critic's loss is max(0, 1 - D(x)) + max(0, 1 + D(x_hat)); its verdict on x_hat, -D(x_hat), moves the
        autoencoder alone.
        """
        critic = self.network.critic
        assert critic is not None  # `check` looked
        fixed = {name: p.detach() for name, p in critic.named_parameters()}
        begun = (progress >= _CRITIC_FROM).to(x)[:, None, None, None]
        verdict = -(begun * functional_call(critic, fixed, (x_hat,))).mean()
        own = (begun * (F.relu(1 - critic(x)) + F.relu(1 + critic(x_hat.detach())))).mean()
        return self.adversarial * verdict + (own - own.detach())

    def _features(self) -> Perceptual:
        if self.seen is None:
            found = Perceptual.from_file(self.features, self.features_sum, self.model.codec)
            object.__setattr__(self, "seen", found)
        assert self.seen is not None
        return self.seen


class AutoencoderPlan(BaseModel):
    """The training of an autoencoder yet to be done, as data. Its recipe is `autoencoder`.

    Attributes:
        codec: between the data's units and the network's, a component's settings.
        data: the data's own settings, such as the size of pictures.
        network: of the autoencoder, a component's settings; its shape follows from the data.
        train: the settings of the training.
    """

    model_config = STRICT

    codec: Annotated[Settings, BeforeValidator(codecs.complete)]
    data: dict[str, Any] = {}
    network: dict[str, Any]
    train: TrainConfig

    @classmethod
    def from_recipe(cls, recipe: str = "autoencoder", changes: Mapping[str, Any] | None = None) -> AutoencoderPlan:
        """Return a recipe with changes.

        Raises:
            UnknownName: if there is no such recipe or component.
            ConfigError: if a setting is unknown, out of range, or of denoisers alone.
        """
        changes = dict(changes or {})
        own = changes.get("train", {})
        for key in ("schedule", "predict"):
            if key in changes:
                raise ConfigError(f"{key} is a setting of denoisers, and an autoencoder has none")
        odd = next((key for key in own if key in _NEVER), None) if isinstance(own, Mapping) else None
        if odd is not None:
            raise ConfigError(f"train.{odd} is a setting of denoisers, and the training of an autoencoder has none")
        merged = merge(recipes.read(recipe), changes)
        if not isinstance(merged["train"], Mapping):
            raise ConfigError(f"train is a group, such as train.steps = 300, not {merged['train']!r}")
        try:
            return cls(**{**merged, "train": TrainConfig(**merged["train"])})
        except ValidationError as error:
            raise explain(error, "the configuration of an autoencoder", cls.model_fields) from None

    def assemble(
        self, source: Source, *, device: str | torch.device = "cpu", progress: Progress | None = None
    ) -> Training:
        """Build the autoencoder, its weights drawn from the seed, and return the training.

        Args:
            source: pictures.
            device: where to train.
            progress: called with the steps done, while a classifier is trained for a perceptual loss.

        Raises:
            InputError: if the plan does not fit the data.
        """
        if len(source.shape) != 3:
            raise InputError(f"an autoencoder is for pictures [C, H, W], not for samples of shape {list(source.shape)}")
        rows, _ = held_apart(source, self.train.held_out, self.train.seed)
        codec = codecs.build(self.codec)
        first = source.read(slice(0, 1)).x
        if codec.form == "images" and first.dtype != torch.uint8:
            codec = codecs.build("affine")
        codec = codec.fitted(rows)
        config = self._with_features(source, codec, progress)
        loss = losses.build(config.loss)
        critic = {"critic": 32} if getattr(loss, "adversarial", 0) and "critic" not in self.network else {}
        on_meta = torch.device("meta") if torch.device(device).type == "meta" else torch.device("cpu")
        with seeded(config.seed, "network"), on_meta:
            network = autoencoders.build({"shape": list(source.shape), **critic, **self.network})
        model = Autoencoder(network)
        model.measure(rows, codec)
        return Training(model.to(device), source, config)

    def _with_features(self, source: Source, codec: Codec, progress: Progress | None) -> TrainConfig:
        """Return the settings of the training with the file of features that a perceptual loss names, and its sum."""
        loss = self.train.loss
        if not loss.get("perceptual"):
            return self.train
        path, total = Perceptual.find(str(loss.get("features") or "classifier"), source, self.train, progress)
        x = codec.into(codec.store(source.read(slice(0, 2)).x))
        Perceptual.from_file(path, total, codec).check(x)
        return self.train.model_copy(
            update={"loss": losses.complete({**loss, "features": path, "features_sum": total})}
        )


def train_autoencoder(
    data: Any,
    *,
    factor: int | None = None,
    channels: int | None = None,
    network: Mapping[str, Any] | None = None,
    loss: Mapping[str, Any] | None = None,
    steps: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    seed: int | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    keep_data: bool = True,
    device: str | torch.device = "cpu",
    **settings: Any,
) -> AutoencoderRun:
    """Train an autoencoder on pictures and return the run: `fn.train(data, latent=run)` trains in its latents.

    Everything not given is the recipe's.

    Args:
        data: pictures, whatever `fn.data.open` reads.
        factor: by which the sides of latents are shorter: 2, 4, 8.
        channels: of a latent.
        network: other settings of the autoencoder, as `KLAutoencoder` has them.
        loss: settings of the loss, as `Autoencoding` has them: {"error": "l1", "kl": 1e-5}.
        steps: how many optimizer steps.
        batch_size: pictures a step.
        lr: the highest learning rate.
        seed: of every random number.
        out: the run folder; None keeps nothing on disk.
        resume: go on with the run in `out` if there is one.
        keep_data: whether the run folder holds the samples; see `fit`.
        device: where to train.
        settings: any other setting of `TrainConfig` by its name.

    Raises:
        InputError: if the data are no pictures, or a setting is unknown or cannot be used; otherwise as `fit`.
    """
    numbers = {"steps": steps, "batch_size": batch_size, "lr": lr, "seed": seed, "loss": loss and dict(loss)}
    changes = {
        "network": {**(network or {}), **given_only({"factor": factor, "channels": channels})},
        "train": {**given_only(numbers), **settings},
    }
    source = open_data(data)
    training = AutoencoderPlan.from_recipe(changes=changes).assemble(source, device=usable_device(device))
    return training.run(out, resume=resume, keep_data=keep_data)
