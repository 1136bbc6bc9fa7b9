"""The loss floor: the lowest expected loss that any network can reach.

The optimal denoiser of a finite set or a mixture is known, so is its loss. A loss below the floor means a bug. What
the floor of a loss is, is said beside it, in `fromnoise.training.losses`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from fromnoise.data.codec import Affine, Codec
from fromnoise.data.opening import open as open_data
from fromnoise.data.source import Source, held_apart
from fromnoise.denoiser import Denoiser
from fromnoise.errors import InputError, whole_number
from fromnoise.exact import GaussianMixture
from fromnoise.process import Prediction, prediction
from fromnoise.schedule import Schedule, schedules
from fromnoise.training.config import TrainConfig
from fromnoise.training.noising import Objective
from fromnoise.training.optimum import Floor, floor_at, law_seen
from fromnoise.training.task import losses
from fromnoise.training.times import time_laws
from fromnoise.training.weighting import weightings


def loss_floor(
    data: Source | GaussianMixture | Tensor,
    schedule: Schedule | str,
    predict: str | Prediction = "eps",
    weighting: Any = "uniform",
    times: Any = "stratified",
    *,
    loss: Any = "denoising",
    drop_cond: float = 0.0,
    sigma_data: float | None = None,
    codec: Codec | None = None,
    draws: int | None = None,
    seed: int = 0,
) -> Floor:
    """Return the lowest expected training loss that any network can reach on the data, with its standard error.

    With the settings of a training it is the floor that this training shows. For each of `draws` triples (t, x0, eps)
    it is the loss of the exact denoiser, averaged over all x0 that could have led to the same x_t.

    Args:
        data: a data set, another source, or whatever `fn.data.open` reads, in its own units; or a law, in the units
            trained in.
        schedule: the path, an object or a name, as the next four may be.
        predict: what is predicted.
        weighting: the loss's, a name or settings.
        times: how times are drawn, a name or settings.
        loss: what is minimized, a name or settings.
        drop_cond: for conditional data, the probability of training without the condition.
        sigma_data: the data's standard deviation, measured when not given; "edm" uses it.
        codec: from the data's units to those trained in; `Affine()`, which trainings have, when not given.
        draws: how many triples, 32 at least; 32,768 when not given, fewer for large sets.
        seed: of the draws.

    Raises:
        InputError: for a loss whose floor is not known: one of the user's, or hybrid off a table; for a prediction that
            is not linear in the network's output; or for data whose conditions are noisy in training or partly missing.
    """
    draws = None if draws is None else whole_number("draws", draws, least=32)
    law = data if isinstance(data, GaussianMixture) else _law_of(open_data(data), codec or Affine())
    sigma_data = sigma_data or float(law.mean_and_variance()[1].mean().sqrt())
    kind = prediction(predict).fitted(sigma_data, Affine())
    path = schedules.get(schedule)
    goal = Objective(path, kind, time_laws.get(times), weightings.get(weighting), sigma_data)
    task = losses.get(loss)
    if not task.has_floor(goal) or not kind.is_linear:
        raise InputError(f"the floor of the loss {losses.settings(task)['name']!r} is not known on this schedule")
    return floor_at(task.least, law, goal, drop_cond=drop_cond, draws=draws, seed=seed)


def _law_of(data: Source, codec: Codec) -> GaussianMixture:
    law = law_seen(data, codec if codec.shape else codec.fitted(data), data.conditioners)
    if law is None:
        raise InputError("the floor is not known where conditions are noisy in training, or some samples have none")
    return law


def floor_of(denoiser: Denoiser, data: Source, train: Mapping[str, Any]) -> Floor | None:
    """Return the floor of a training: of its data, on its schedule, with its loss, weighting and times.

    Args:
        denoiser: with the codec it was trained with.
        data: in their own units.
        train: the settings of the training (`TrainConfig` as data).

    Returns:
        The floor, or None where it is not known.
    """
    config = TrainConfig(**train)
    rows, _ = held_apart(data, config.held_out, config.seed)
    return config.task(denoiser).floor(rows)
