"""What a training changes: parameters, their average, the optimizer's state."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from fromnoise.errors import CheckpointDamaged, Diverged, shown
from fromnoise.run import Checkpoint
from fromnoise.training.config import TrainConfig
from fromnoise.training.ema import EMA
from fromnoise.training.task import Drawn, Task


class Learner:
    """A module on its way, with the average of its parameters and the optimizer.

    Args:
        task: of the training.
        config: its settings.
    """

    def __init__(self, task: Task, config: TrainConfig) -> None:
        self.task, self.config = task, config
        self.module = task.module.train().requires_grad_(True)
        self.average = EMA(self.module, config.ema) if config.ema else None
        self.parameters = dict(self.module.named_parameters())
        kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
        self.optimizer = kind(
            self.parameters.values(), lr=config.lr, betas=config.betas, weight_decay=config.weight_decay, fused=True
        )
        self._losses: list[Tensor] = []
        self._unlogged = 0.0, 0  # the sum and number of losses that a checkpoint brought along

    def step(self, step: int, batch: Sequence[Drawn], lr: float) -> None:
        """Do optimizer step 0, 1, ... on a batch in one or more equal pieces, and keep its loss."""
        total = None
        for piece in batch:
            with torch.enable_grad():  # the caller may have switched gradients off
                loss = self.task.loss(piece)
                loss = loss if len(batch) == 1 else loss / len(batch)
                loss.backward()
            total = loss.detach() if total is None else total + loss.detach()
        if self.config.clip_norm:
            torch.nn.utils.clip_grad_norm_(self.parameters.values(), self.config.clip_norm, foreach=True)
        self.optimizer.param_groups[0]["lr"] = lr
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update(step)
        assert total is not None
        self._losses.append(total)

    def mean_loss(self, first: int) -> float:
        """Return the mean of the losses since this was last asked, and forget them.

        Args:
            first: the number of the first step of this process among them.

        Raises:
            Diverged: naming the first step whose loss is not finite.
        """
        total, count = self.unlogged(first)
        self._losses.clear()
        self._unlogged = 0.0, 0
        return total / count

    def unlogged(self, first: int) -> tuple[float, int]:
        """Return the sum and the number of the losses not yet asked for; the one place that waits for them.

        Arguments and errors are those of `mean_loss`.
        """
        total, count = self._unlogged
        kept = torch.stack(self._losses).tolist() if self._losses else []
        for step, loss in enumerate(kept, first):
            if not math.isfinite(loss):
                raise Diverged(
                    f"the loss became {loss} at step {step + 1}: training stopped, checkpoints before it are kept; "
                    "lower lr, or set clip_norm above 0"
                )
            total += loss  # one by one, so that a resumed training has the same sum
        return total, count + len(kept)

    @contextlib.contextmanager
    def answering(self) -> Iterator[None]:
        """Hold the module as it will answer after the training inside the block: averaged, and not in training mode."""
        self.module.eval()
        try:
            with contextlib.nullcontext() if self.average is None else self.average.swapped_in():
                yield
        finally:
            self.module.train()

    def finish(self) -> None:
        """Leave the module as it answers."""
        if self.average is not None:
            self.module.load_state_dict(self.average.state_dict())
        self.module.eval().requires_grad_(False)

    def checkpoint(self, step: int, state: dict[str, Any]) -> Checkpoint:
        """Return the state after `step` steps.

        Raises:
            Diverged: if a parameter is not finite.
        """
        model = self.module.state_dict()
        for name, tensor in model.items():
            if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                raise Diverged(f"{name} became infinite or NaN by step {step}: lower lr, or set clip_norm above 0")
        moments = self.optimizer.state_dict()["state"]
        optimizer = {
            f"{name}.{key}": value
            for number, name in enumerate(self.parameters)
            for key, value in moments.get(number, {}).items()
        }
        ema = model if self.average is None else self.average.state_dict()
        return Checkpoint(step, model, ema, optimizer, {"seed": self.config.seed, **state})

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go back to a checkpoint's state.

        Raises:
            CheckpointDamaged: if what it says of the losses not yet logged is no sum and number.
        """
        match checkpoint.state.get("unlogged", [0.0, 0]):
            case [float() | int() as total, int() as count] if math.isfinite(total) and count >= 0:
                self._unlogged = float(total), count
            case other:
                raise CheckpointDamaged(f"the losses not yet logged at step {checkpoint.step} are {shown(other)}")
        self.module.load_state_dict(checkpoint.model)
        if self.average is not None:
            self.average.load_state_dict(checkpoint.ema)
        numbers, state = {name: k for k, name in enumerate(self.parameters)}, dict[int, dict[str, Tensor]]()
        for full_name, value in checkpoint.optimizer.items():
            name, _, key = full_name.rpartition(".")
            state.setdefault(numbers[name], {})[key] = value
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})
