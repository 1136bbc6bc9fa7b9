"""The effect of guidance on samples: accuracy and diversity at several scales."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fromnoise.conditioners import find_label
from fromnoise.denoiser_like import DenoiserLike
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
        scale: the guidance scale.
        accuracy: the fraction of samples to which the best possible classifier gives this label.
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
    """Sample one label at several guidance scales from the same noise; judge each by the exact posterior of labels.

    Args:
        run: the run, whose data must be labelled.
        denoiser: the run's denoiser, on the path of the sampler.
        label: a name or number.
        scales: the guidance scales.
        sampler: the rule.
        steps: the number of steps.
        n: the number of samples for each scale.
        seed: the seed of the noise.
        progress: called with the steps done and the steps in all, for each scale.

    Raises:
        InputError: if the run knows no labels.
        LabelError: if it does not know this one.
    """
    if not denoiser.label_names:
        raise InputError("guidance needs a run with labels: train one on shapes, or on data with a label column")
    number, data = find_label(label, denoiser.label_names), run.source
    codec = denoiser.codec  # a table's columns count alike
    judge, own = mixture_of_data(data, codec), data.x[data.labels == number] if data.labels is not None else data.x
    own = codec.into(codec.store(own[:2000]))
    found = []
    for scale in scales:
        x = sample(
            Guided(denoiser, scale), n, sampler=sampler, steps=steps, cond=label, seed=seed, progress=progress
        ).cpu()  # fmt: skip
        z = codec.into(codec.store(x))
        right = _label_of(judge, z) == number
        found.append(AtScale(scale, float(right.double().mean()), diversity(z, own), x))
    return found


def _label_of(mixture: GaussianMixture, x: Tensor) -> Tensor:
    """Return the most probable label of each sample, `[n]`; a finite set is smoothed by 1% of its spread."""
    _, variance = mixture.mean_and_variance()
    width = 0.01 * float(variance.mean().sqrt()) if mixture.is_finite_set else 0.0
    return torch.argmax(mixture.label_probs(x.to(mixture.flat), 1.0, width), dim=1)
