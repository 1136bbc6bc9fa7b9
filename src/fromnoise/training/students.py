"""Students: denoisers with a teacher's weights, and how they are trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fromnoise.denoiser import Denoiser
from fromnoise.denoiser_like import NEVER_WITHOUT
from fromnoise.errors import InputError
from fromnoise.guidance_cond import Scale, scale_of
from fromnoise.nn.network import networks, plain
from fromnoise.own_grid import FewSteps
from fromnoise.process import predictions
from fromnoise.run import Run
from fromnoise.training.config import TrainConfig
from fromnoise.training.distill import sum_of
from fromnoise.training.task import losses

_USUAL_SCALES = (1.0, 5.0)
"""The guidance scales that students are taught, where nothing is said and the teacher can be guided."""


@dataclass(frozen=True)
class Lesson:
    """What the student of one round learns.

    Args:
        way: how it is sampled.
        loss: the settings of its task, but for its teacher.
        weighting: of the loss.
        part: how many steps it trains, in parts of the teacher's; None for the usual part.
    """

    way: FewSteps
    loss: dict[str, Any]
    weighting: str
    part: float | None = None


@dataclass(frozen=True)
class School:
    """How the students of a run are taught.

    Args:
        scales: the guidance scales that they take as a condition; None for none.
        usual: the settings of a student's training.
        first: what differs in those of one that has more to learn than a step: guidance scales, or another prediction.
        given: the user's settings, which go before both.
        its_steps: the optimizer steps of the run that all come from.
    """

    scales: Scale | None
    usual: dict[str, Any]
    first: dict[str, Any]
    given: dict[str, Any]
    its_steps: int

    @classmethod
    def of(cls, teacher: Run, guidance: tuple[float, float] | None, given: dict[str, Any]) -> School:
        """Return how the students of a run are taught, those of its students too.

        Args:
            teacher: the run that the others come from.
            guidance: the lowest and highest guidance scale; see `distill_rounds`.
            given: the user's settings.

        Raises:
            InputError: if it cannot be guided so.
        """
        its = TrainConfig(**teacher.config.train)
        usual = {
            **teacher.config.train, "warmup": 0, "decay": "linear", "decay_part": 1.0, "patience": 0, "ema": 0.99,
            "times": "stratified", "post_hoc_ema": (),
        }  # fmt: skip
        scales = _scales_of(teacher, guidance)
        first = {"steps": max(1500, its.steps // 6), "lr": its.lr, "matrix_lr": its.matrix_lr}
        if teacher.denoiser.grid is None:  # otherwise its own settings are those of a student
            steps = max(300, its.steps // 25) if scales is None else max(900, its.steps // 10)
            usual |= {"steps": steps, "lr": its.lr / 3, "matrix_lr": its.matrix_lr / 3}
        return cls(scales, usual, first, given, its.steps)

    def student_of(self, teacher: Run, lesson: Lesson) -> tuple[Denoiser, TrainConfig]:
        """Return a student with the weights of its teacher, which is in its folder, and how it is trained."""
        assert teacher.folder is not None
        its, scales = teacher.config, self.scales
        predict = predictions.complete("v") if teacher.denoiser.prediction.needs_signal else its.predict
        network = {**its.network, **({} if scales is None else scales.sizes())}
        known = [one for one in its.conditioners if one["name"] != "guidance"]  # the network says which it takes
        config = its.model_copy(
            update={"grid": lesson.way, "predict": predict, "network": network, "conditioners": known}
        )
        student = config.model(teacher.folder.codec()).to(teacher.denoiser.device)
        weights, own = plain(teacher.denoiser.network).state_dict(), plain(student.network).state_dict()
        student.network.load_state_dict({**own, **weights})
        place = {"teacher": str(teacher.folder.path.resolve()), "weights": sum_of(teacher.denoiser.network)}
        train = self.training(lesson, more=self.has_more_to_learn(teacher))
        return student, train.model_copy(update={"loss": losses.complete({**lesson.loss, **place})})

    def training(self, lesson: Lesson, *, more: bool) -> TrainConfig:
        """Return how a student is trained, but for its teacher.

        Args:
            lesson: what it learns.
            more: whether it has more to learn than a step.
        """
        changes = self.first if more or lesson.part else {}
        if lesson.part:
            changes = {**changes, "steps": max(changes["steps"], int(lesson.part * self.its_steps))}
        own = {"loss": {"name": "denoising"}, "weighting": lesson.weighting}
        return TrainConfig(**{**self.usual, **own, **changes, **self.given})

    def lengths(self, teacher: Run, lessons: Sequence[Lesson]) -> list[int]:
        """Return how many optimizer steps each of a run's students takes, the first one that of the run itself."""
        more = self.has_more_to_learn(teacher)
        return [self.training(one, more=more and k == 0).steps for k, one in enumerate(lessons)]

    def has_more_to_learn(self, teacher: Run) -> bool:
        """Return whether the student of a teacher learns more than a step: scales, or another prediction."""
        new = self.scales is not None and scale_of(teacher.denoiser.conditioners) is None
        return new or teacher.denoiser.prediction.needs_signal


def called(run: Run) -> str:
    """Return what a run is called: its folder, or its data where it was not kept."""
    return run.name if run.folder is None else run.folder.path.name


def _scales_of(teacher: Run, guidance: tuple[float, float] | None) -> Scale | None:
    """Return the guidance scales that students are taught; None for none. Raises InputError if they cannot be."""
    denoiser, name = teacher.denoiser, teacher.config.network["name"]
    if guidance is not None and (not isinstance(guidance, tuple | list) or len(guidance) != 2):
        raise InputError(f"guidance is the lowest and the highest scale, such as (1, 5), not {guidance!r}")
    known = scale_of(denoiser.conditioners)
    if known is not None or denoiser.grid is not None:
        own = (1.0, 1.0) if known is None else (known.low, known.high)
        if guidance not in (None, own):
            raise InputError(
                f"{called(teacher)} was distilled for guidance scales of {own[0]:g} to {own[1]:g}: keep them"
            )
        return known
    takes = "guidance" in networks.schema(name).model_fields
    droppable = any(one.droppable for one in denoiser.conditioners)
    if guidance is None:
        return Scale(*_USUAL_SCALES) if takes and droppable and denoiser.unconditional else None
    scales = Scale(*guidance)
    if scales.low == scales.high == 1:
        return None
    if not droppable:
        raise InputError("guidance scales need a teacher with labels, and this one was trained without: leave them out")
    if not denoiser.unconditional:
        raise InputError(f"guidance compares with the answer without a condition, and {NEVER_WITHOUT}")
    if not takes:
        raise InputError(f"network {name!r} takes no guidance scale as condition: distill it without, by 1,1")
    return scales
