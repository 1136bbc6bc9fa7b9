"""Samples drawn step by step for the page, the same as those of `fromnoise.sample`.

A walk runs in a thread: each step after the client has taken the one before. It ends when the client goes away.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError
from torch import Tensor

from fromnoise.denoiser_like import DenoiserLike
from fromnoise.errors import InputError
from fromnoise.guidance import Guided
from fromnoise.registry import STRICT, explain
from fromnoise.report import path_for
from fromnoise.run import Run
from fromnoise.samplers import Sampler, TrajectoryStep, samplers, trajectory_steps
from fromnoise.schedule import schedules

AT_ONCE = 2
"""The number of walks that are drawn at a time."""

MOST_SAMPLES, MOST_STEPS = 2000, 1000


class Walk(BaseModel):
    """The request of a walk, with the options of `fromnoise sample`.

    Attributes:
        sampler: the name of the rule; the usual one when not given.
        steps: the number of steps; the rule's default number when not given.
        seed: the seed of every random number.
        n: the number of samples.
        label: the label of all samples, by name or number.
        guidance: the guidance scale towards the label; 1 for no guidance.
        eta: DDIM's noise.
        schedule: another path than the run's own.
    """

    model_config = STRICT

    sampler: Annotated[str, Field(max_length=64)] | None = None
    steps: Annotated[int, Field(ge=1, le=MOST_STEPS)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    n: Annotated[int, Field(ge=1, le=MOST_SAMPLES)] = 300
    label: Annotated[str, Field(max_length=64)] | None = None
    guidance: float | None = None
    eta: float | None = None
    schedule: Annotated[str, Field(max_length=64)] | None = None

    @classmethod
    def from_query(cls, query: Mapping[str, str]) -> Walk:
        """Read a query; an empty value counts as not given.

        Raises:
            InputError: if the query is wrong; the message says in one line what is wrong with it.
        """
        given: dict[str, Any] = {key: value for key, value in query.items() if value != ""}
        try:
            return cls(**given)
        except ValidationError as error:
            raise explain(error, "the walk") from None

    def rule(self) -> Sampler | None:
        """Return the sampler; None for the denoiser's usual one."""
        eta = {} if self.eta is None else {"eta": self.eta}
        return samplers.build({"name": self.sampler or "multistep", **eta}) if self.sampler or eta else None

    def denoiser(self, run: Run) -> DenoiserLike:
        """Return the run's denoiser on the given or the sampler's schedule; guided if a scale is given."""
        path = schedules.build(self.schedule) if self.schedule else path_for(self.rule(), run.denoiser)
        denoiser = run.denoiser.on(path)
        if self.guidance is None:
            return denoiser
        if denoiser.label_names and self.label is None:
            raise InputError(f"guidance needs a label to go towards: {', '.join(denoiser.label_names)}")
        return Guided(denoiser, self.guidance)

    def lines(self, run: Run) -> Iterator[bytes]:
        """Yield a line of JSON for the start and for every step.

        Raises:
            InputError: before the first line, if the request does not fit the run.
        """
        way = trajectory_steps(
            self.denoiser(run), self.n, sampler=self.rule(), steps=self.steps, cond=self.label, seed=self.seed
        )
        for step in way:
            yield _line(step)


def _line(step: TrajectoryStep) -> bytes:
    """Return one step as JSON: time and scales as numbers, samples as base64 of little-endian float32."""
    line: dict[str, Any] = {"t": step.t, "alpha": step.alpha, "sigma": step.sigma, "x": _packed(step.x)}
    if step.x0_hat is None:
        line["shape"] = list(step.x.shape)
    else:
        line["x0_hat"] = _packed(step.x0_hat)
    return json.dumps(line).encode() + b"\n"


def _packed(x: Tensor) -> str:
    return base64.b64encode(x.detach().cpu().contiguous().numpy().astype("<f4").tobytes()).decode()
