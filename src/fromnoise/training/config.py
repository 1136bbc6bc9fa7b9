"""The settings of a training, as data."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, ValidationError

from fromnoise.model import Model
from fromnoise.registry import STRICT, Settings, explain
from fromnoise.training.task import AnyTask, losses
from fromnoise.training.times import time_laws
from fromnoise.training.weighting import weightings

Positive = Annotated[float, Field(gt=0)]


def _apart(lengths: tuple[float, ...]) -> tuple[float, ...]:
    """Refuse lengths that files cannot be called by."""
    if len({round(length, 3) for length in lengths}) < len(lengths) or any(round(v, 3) != v for v in lengths):
        raise ValueError("must be different lengths of three decimals")
    return lengths


class TrainConfig(BaseModel):
    """How to train. Unknown keys and values out of range are refused, in one line.

    Attributes:
        steps: how many optimizer steps.
        batch_size: samples a step, drawn with replacement.
        lr: the highest learning rate.
        matrix_lr: muon's, of the hidden matrices; it rises and falls with the other.
        warmup: steps in which the learning rate rises linearly from 0.
        decay: how it falls: "cosine" to 0 over the whole training, "linear" to 0 over its last part, or "constant".
        decay_part: the part of the training in which a linear decay falls.
        optimizer: "adam", "adamw", or "muon" for the hidden matrices and adamw for the rest.
        betas: adam's averaging rates.
        weight_decay: adamw's and muon's.
        clip_norm: the largest gradient norm; 0 for no clipping.
        ema: the decay of the average of the weights, warmed up as (1 + k)/(10 + k); 0 for no average.
        post_hoc_ema: lengths of power-function averages of which snapshots are kept with every checkpoint, for choosing
            one of any length after the training: (0.05, 0.1); each is a standard deviation in parts of the training.
        loss: what is minimized, a name or a component's settings: denoising, sliced (score matching), hybrid (for a
            learned variance).
        weighting: of the loss, a name or a component's settings: uniform, snr, min-snr, truncated-snr, edm,
            elbo; landing for students.
        times: how times are drawn: uniform, stratified, log-normal, geometric-levels, loss-aware.
        drop_cond: the probability with which a sample's condition is left out, for guidance.
        precision: "float32", or "bf16" for the network's arithmetic.
        seed: of every random number.
        log_every: steps between lines in metrics.jsonl.
        save_every: steps between checkpoints.
        keep: how many checkpoints are kept.
        held_out: the share of the samples that are not trained on, whose loss is told; 0 for none.
        check_every: steps between two looks at the held-out loss.
        patience: how many looks without a new minimum end the training, after a decay of the learning rate to 0 in a
            fifth of the steps done; 0 for never.
        parts_together: how many of the 8 parts in which a batch is drawn are computed together, less memory for more
            passes; 0 for all. The gradient is the same, to rounding.
        checkpointing: whether a network of pictures computes the values inside its blocks again for the gradient,
            instead of keeping them: less memory for a third more time, and the same gradient.
        compile: whether the network is compiled by `torch.compile`, which takes minutes and needs a C++ compiler.
    """

    model_config = STRICT

    steps: Annotated[int, Field(ge=1)] = 7_000
    batch_size: Annotated[int, Field(ge=1)] = 256
    lr: Positive = 3e-3
    matrix_lr: Positive = 0.02
    warmup: Annotated[int, Field(ge=0)] = 0
    decay: Literal["cosine", "linear", "constant"] = "cosine"
    decay_part: Annotated[float, Field(gt=0, le=1)] = 0.25
    optimizer: Literal["adam", "adamw", "muon"] = "adam"
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    clip_norm: Annotated[float, Field(ge=0)] = 0.0
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.999
    post_hoc_ema: Annotated[
        tuple[Annotated[float, Field(ge=0.005, le=0.25)], ...], Field(max_length=8), AfterValidator(_apart)
    ] = ()
    loss: Annotated[Settings, BeforeValidator(losses.complete)] = Field(
        default_factory=lambda: losses.complete("denoising")
    )
    weighting: Annotated[Settings, BeforeValidator(weightings.complete)] = Field(
        default_factory=lambda: weightings.complete("uniform")
    )
    times: Annotated[Settings, BeforeValidator(time_laws.complete)] = Field(
        default_factory=lambda: time_laws.complete("stratified")
    )
    drop_cond: Annotated[float, Field(ge=0, lt=1)] = 0.0
    precision: Literal["float32", "bf16"] = "float32"
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    log_every: Annotated[int, Field(ge=1)] = 100
    save_every: Annotated[int, Field(ge=1)] = 5_000
    keep: Annotated[int, Field(ge=1)] = 2
    held_out: Annotated[float, Field(ge=0, lt=1)] = 0.0
    check_every: Annotated[int, Field(ge=1)] = 500
    patience: Annotated[int, Field(ge=0)] = 0
    parts_together: Annotated[int, Field(ge=0, le=8)] = 0
    checkpointing: bool = False
    compile: bool = False

    def __init__(self, **data: Any) -> None:
        try:
            super().__init__(**data)
        except ValidationError as error:
            raise explain(error, "train", type(self).model_fields) from None

    def task(self, model: Model) -> AnyTask:
        """Return the task of training a model with these settings.

        Raises:
            ConfigError: if the loss trains no models of this kind.
        """
        task = losses.build(self.loss)
        task.check_model(model)
        goal = task.goal_of(model, self.weighting, self.times)
        return task.bound(model, goal, drop_cond=self.drop_cond, precision=self.precision, in_all=self.steps)


FREE_KEYS = frozenset({"steps", "log_every", "save_every", "keep", "parts_together", "checkpointing", "compile"})
"""Settings with which a run may be resumed otherwise than it was begun.

All but `steps` change nothing about what is learned but rounding. With more steps a run goes on where it ended, at the
learning rate that a training of so many steps has there.
"""


def rate_at(config: TrainConfig, step: int) -> float:
    """Return the learning rate of step 0, 1, ..., steps - 1, in parts of the highest."""
    warm = min(1.0, (step + 1) / config.warmup) if config.warmup else 1.0
    done = step / config.steps
    if config.decay == "cosine":
        return warm * 0.5 * (1 + math.cos(math.pi * done))
    return warm * min(1.0, (1 - done) / config.decay_part) if config.decay == "linear" else warm
