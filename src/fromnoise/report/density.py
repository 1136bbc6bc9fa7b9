"""A run's likelihood beside the best that is possible."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from fromnoise.data.dataset import Dataset
from fromnoise.exact import mixture_of_data
from fromnoise.likelihood import ELBO, elbo, log_likelihood
from fromnoise.report.assess import exact_beside
from fromnoise.run import Run


@dataclass(frozen=True)
class Likelihood:
    """Negative log-likelihoods in nats for a sample, in the data's own units.

    Attributes:
        bound: the model's ELBO, term by term.
        exact_bound: the ELBO of the exact denoiser, the best for this chain; None where the data have no density.
        flow, flow_error: the value of the model's probability-flow ODE, and its standard error.
        truth: the value of the true distribution, the lowest of any model; None where it is not known.
        judged: a description of the samples that were judged.
    """

    bound: ELBO
    exact_bound: ELBO | None
    flow: float
    flow_error: float
    truth: float | None
    judged: str

    def lines(self) -> list[str]:
        """Return the likelihood as lines of text."""
        bits = 1 / (self.bound.dimension * math.log(2))
        lines = [f"likelihood of {self.judged}", str(self.bound)]
        if self.exact_bound is not None:
            lines.append(f"{'exact denoiser':<18}{self.exact_bound.nats:10.4f}{self.exact_bound.bits_per_dim:10.4f}")
        lines.append(f"{'flow (ODE)':<18}{self.flow:10.4f}{self.flow * bits:10.4f}  +- {self.flow_error:.4f} nats")
        if self.truth is not None:
            lines.append(f"{'the truth':<18}{self.truth:10.4f}{self.truth * bits:10.4f}  (no model has less)")
        return lines

    def row(self) -> dict[str, Any]:
        """Return the likelihood as data."""
        return {
            "nats": self.bound.nats, "bits_per_dim": self.bound.bits_per_dim, "error": self.bound.error,
            "prior": self.bound.prior, "steps": sum(self.bound.steps), "reconstruction": self.bound.reconstruction,
            "units": self.bound.units, "exact_nats": None if self.exact_bound is None else self.exact_bound.nats,
            "flow_nats": self.flow, "flow_error": self.flow_error, "truth_nats": self.truth,
        }  # fmt: skip


def likelihood_of(
    run: Run, *, n: int = 2000, seed: int = 0, progress: Callable[[int, int], None] | None = None
) -> Likelihood:
    """Measure a run's likelihood on fresh data where they can be drawn, else on its training data.

    Args:
        run: a trained run.
        n: the number of samples; the ODE is solved for 256 of them.
        seed: the seed of the draws.
        progress: called with the ELBO's steps done and its steps in all.

    Raises:
        NotConverged: if the ODE cannot be solved.
    """
    data, judged = judged_of(run, n, seed)
    mixture = mixture_of_data(run.source)
    density = not mixture.is_finite_set
    cond = data.cond_for(run.denoiser.conditioners)
    true = -mixture.log_prob(data.x.double(), cond) if density else None
    truth = float(true.mean()) if true is not None else None
    bound = elbo(run.denoiser, data, seed=seed, progress=progress)
    exact_bound = elbo(exact_beside(run, run.source), data, seed=seed, progress=progress) if density else None
    few = slice(0, 256)
    flow = -log_likelihood(run.denoiser, data.x[few], None if cond is None else cond.rows(few))
    excess = flow if true is None else flow - true[few].to(flow)  # on the same points, so with a small variance
    error = float(excess.std() / math.sqrt(len(flow)))
    return Likelihood(bound, exact_bound, float(excess.mean()) + (truth or 0.0), error, truth, judged)


def judged_of(run: Run, n: int, seed: int) -> tuple[Dataset, str]:
    """Return n samples to judge a likelihood by, fresh ones if they can be drawn, and a description of them."""
    if run.source.distribution is not None:
        return run.source.draw(n, seed=seed + 1), f"{n:,} fresh draws"
    data = _some(run.source, n)
    return data, f"{len(data):,} of the training samples"


def _some(data: Dataset, n: int) -> Dataset:
    return data.take(torch.linspace(0, len(data) - 1, min(n, len(data))).long())


CHAIN: int | None = None
"""The steps of the chain whose bits are counted; None for a table's own, or 1,000."""


@dataclass(frozen=True)
class Bits:
    """Bits per dimension of pictures: the ELBO of their probability, on those held out and on those trained on.

    Attributes:
        held_out: on pictures that were held out; None where none were.
        trained_on: on those that were trained on.
    """

    held_out: ELBO | None
    trained_on: ELBO

    def lines(self) -> list[str]:
        """Return the bounds as lines of text."""
        parts = [("held-out pictures", self.held_out), ("training pictures", self.trained_on)]
        return [
            f"bits per dimension of {bound.of and f'{bound.of}, of '}{what}: {bound.bits_per_dim:.4f} +- "
            f"{bound.error / (bound.dimension * math.log(2)):.4f} (prior and steps {bound.rate:.4f}, last step "
            f"{bound.bits_per_dim - bound.rate:.4f})"
            for what, bound in parts
            if bound is not None
        ]

    def row(self) -> dict[str, Any]:
        """Return the bounds as data."""
        return {
            "bits_per_dim": (self.held_out or self.trained_on).bits_per_dim,
            "of_held_out": self.held_out is not None, "bits_per_dim_trained_on": self.trained_on.bits_per_dim,
            "error": (self.held_out or self.trained_on).error / (self.trained_on.dimension * math.log(2)),
        }  # fmt: skip


def bits_of(run: Run, *, draws: int = 32, seed: int = 0, progress: Callable[[int, int], None] | None = None) -> Bits:
    """Measure the bits per dimension of a run on pictures of whole numbers.

    Args:
        run: a trained run.
        draws: of a picture and its noise in each step of the chain.
        seed: of the draws.
        progress: called with the steps done and the steps in all, for each of the two bounds.
    """
    rows, held = run.parts()
    bounds = [
        None if part is None else elbo(run.denoiser, part, steps=CHAIN, draws=draws, seed=seed, progress=progress)
        for part in (held, rows)
    ]
    assert bounds[1] is not None
    return Bits(bounds[0], bounds[1])
