"""The gain from a learned variance: the ELBO of a run's chain, respaced to few steps, for each variance."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fromnoise.errors import InputError
from fromnoise.exact import mixture_of_data
from fromnoise.likelihood import Variance, elbo
from fromnoise.report.density import judged_of
from fromnoise.run import Run

STEPS = (10, 25, 50, 100, 250, 1000)
VARIANCES: tuple[Variance, ...] = ("small", "large", "learned")


@dataclass(frozen=True)
class Respaced:
    """-ELBO in nats for a sample, in the data's own units.

    Attributes:
        steps: the lengths of the chains.
        nats: the bounds by variance, one for each length.
        errors: the standard errors of the bounds.
        truth: the data's entropy, the lowest value of any model; None where it is not known.
        judged: a description of the samples that were judged.
    """

    steps: tuple[int, ...]
    nats: dict[str, list[float]]
    errors: dict[str, list[float]]
    truth: float | None
    judged: str


def respaced(
    run: Run,
    steps: Sequence[int] = STEPS,
    *,
    n: int = 2000,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Respaced:
    """Measure a run's ELBO at several lengths of its chain, with every variance it knows, on the same draws.

    Args:
        run: a run trained on a table.
        steps: the lengths; those above the table's length are cut to it.
        n: the number of samples that are judged.
        seed: the seed of the draws.
        progress: called with the steps done and the steps in all, over all chains.

    Raises:
        InputError: if the run's schedule is not a table.
    """
    denoiser = run.denoiser
    T = denoiser.schedule.table_length
    if T is None:
        raise InputError("respaced chains are those of a table: train with --schedule linear, cosine or sigmoid")
    lengths = sorted({min(count, T) for count in steps})
    data, judged = judged_of(run, n, seed)
    variances = VARIANCES if denoiser.learned_variance else VARIANCES[:2]
    nats: dict[str, list[float]] = {variance: [] for variance in variances}
    errors: dict[str, list[float]] = {variance: [] for variance in variances}
    done, in_all = 0, sum(lengths) * len(variances)
    for count in lengths:
        for variance in variances:
            draws = max(256, min(512_000 // math.prod(data.shape), 256_000) // count)
            bound = elbo(denoiser, data, steps=count, variance=variance, draws=draws, seed=seed)
            nats[variance].append(bound.nats)
            errors[variance].append(bound.error)
            done += count
            if progress is not None:
                progress(done, in_all)
    mixture = mixture_of_data(run.source)
    truth = None
    if not mixture.is_finite_set:
        truth = -float(mixture.log_prob(data.x.double(), data.cond_for(denoiser.conditioners)).mean())
    return Respaced(tuple(lengths), nats, errors, truth, judged)
