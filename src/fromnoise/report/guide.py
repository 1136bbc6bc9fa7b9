"""What guidance does to samples: from loose to tight, with what it costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fromnoise.data.dataset import find_label
from fromnoise.denoiser import DenoiserLike
from fromnoise.errors import InputError
from fromnoise.exact import GaussianMixture, mixture_of_data
from fromnoise.guidance import Guided
from fromnoise.metrics import diversity
from fromnoise.run import Run
from fromnoise.samplers import Sampler, sample


@dataclass(frozen=True)
class AtScale:
    """Samples of one label at one guidance scale.

    Attributes:
        scale: the guidance.
        accuracy: the share of samples that the best classifier there can be takes for this label.
        diversity: the mean distance between two samples, in units of that between two of the label's data.
        samples: `[n, *S]`, in the data's units.
    """

    scale: float
    accuracy: float
    diversity: float
    samples: Tensor = field(repr=False)


def at_scales(
    run: Run,
    denoiser: DenoiserLike,
    label: str | int,
    scales: Sequence[float],
    *,
    sampler: Sampler,
    steps: int,
    n: int = 1000,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> list[AtScale]:
    """Sample one label at several guidance scales, from the same noise, and judge each by the exact posterior.

    Args:
        run: for its data, which must be labelled.
        denoiser: the run's, on the path to walk.
        label: a name or number.
        scales: of the guidance.
        sampler: the rule.
        steps: how many.
        n: how many samples for each scale.
        seed: of the noise.
        progress: called with steps done and in all, for each scale.

    Raises:
        InputError: if the run knows no labels.
        LabelError: if it does not know this one.
    """
    if not denoiser.label_names:
        raise InputError("guidance needs a run with labels: train one on shapes, or on data with a label column")
    number, data = find_label(label, denoiser.label_names), run.data
    judge, own = mixture_of_data(data), data.x[data.labels == number] if data.labels is not None else data.x
    found = []
    for scale in scales:
        x = sample(
            Guided(denoiser, scale), n, sampler=sampler, steps=steps, cond=number, seed=seed, progress=progress
        ).cpu()  # fmt: skip
        right = _label_of(judge, x) == number
        found.append(AtScale(scale, float(right.double().mean()), diversity(x, own[:2000]), x))
    return found


def _label_of(law: GaussianMixture, x: Tensor) -> Tensor:
    """Return the likeliest label of each sample, `[n]`; a finite set is given a width: a hundredth of its spread."""
    _, covariance = law.mean_and_covariance()
    width = 0.01 * float(covariance.diagonal().mean().sqrt()) if law.is_finite_set else 0.0
    return torch.argmax(law.label_probs(x.to(law.flat), 1.0, width), dim=1)
