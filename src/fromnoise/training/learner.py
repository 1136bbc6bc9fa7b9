"""What a training changes: parameters, their average, the optimizer's state."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fromnoise.errors import CheckpointDamaged, Diverged, shown
from fromnoise.run import Checkpoint
from fromnoise.training.config import TrainConfig
from fromnoise.training.ema import EMA, PowerAverage
from fromnoise.training.muon import Muon, hidden_matrices
from fromnoise.training.task import AnyTask, Drawn


class Learner:
    """A module on its way, with the average of its parameters and the optimizer.

    Args:
        task: of the training.
        config: its settings.
    """

    def __init__(self, task: AnyTask, config: TrainConfig) -> None:
        self.task, self.config = task, config
        self.module = task.module.train().requires_grad_(True)
        self.average = EMA(self.module, config.ema) if config.ema else None
        self.tracks = [PowerAverage(self.module, length) for length in config.post_hoc_ema]
        self.parameters = dict(self.module.named_parameters())
        self.optimizers = _optimizers(self.module, self.parameters, config)
        self._losses: list[Tensor] = []
        self._unlogged = 0.0, 0  # the sum and number of losses that a checkpoint brought along

    def step(self, step: int, batch: Sequence[Drawn], rate: float) -> None:
        """Do optimizer step 0, 1, ... on a batch in one or more equal pieces, and keep its loss.

        Args:
            step: its number.
            batch: the pieces.
            rate: the learning rate, in parts of the highest.
        """
        total = None
        for piece in batch:
            with torch.enable_grad():  # the caller may have switched gradients off
                loss = self._loss(piece)
                loss = loss if len(batch) == 1 else loss / len(batch)
                loss.backward()
            total = loss.detach() if total is None else total + loss.detach()
        if self.config.clip_norm:
            torch.nn.utils.clip_grad_norm_(self.parameters.values(), self.config.clip_norm, foreach=True)
        for optimizer, highest in self.optimizers:
            optimizer.param_groups[0]["lr"] = rate * highest
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update(step)
        for track in self.tracks:
            track.update(step)
        assert total is not None
        self._losses.append(total)

    def _loss(self, piece: Drawn) -> Tensor:
        """Return the loss of a piece, and let the law of times hear those of its rows if it listens."""
        if self.task.listener is None:
            return self.task.loss(piece)
        each = self.task.losses(piece)
        self.task.hear(piece.t, each.detach())
        return each.mean()

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
        moments = {p: state for optimizer, _ in self.optimizers for p, state in optimizer.state.items()}
        optimizer = {
            f"{name}.{key}": value for name, p in self.parameters.items() for key, value in moments.get(p, {}).items()
        }
        ema = model if self.average is None else self.average.state_dict()
        if self.task.listener is not None:
            state = {**state, "times": self.task.listener.state()}
        averages = {track.length: track.averages for track in self.tracks} if step else {}
        return Checkpoint(step, model, ema, optimizer, {"seed": self.config.seed, **state}, averages)

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
        if self.task.listener is not None and checkpoint.step:
            kept = checkpoint.state.get("times")
            self.task.listener.restore(kept if isinstance(kept, Mapping) else {})
        self.module.load_state_dict(checkpoint.model)
        if self.average is not None:
            self.average.load_state_dict(checkpoint.ema)
        for track in self.tracks:
            track.load_state_dict(checkpoint.averages.get(track.length, checkpoint.model))
        of_each = dict[str, dict[str, Tensor]]()
        for full_name, value in checkpoint.optimizer.items():
            name, _, key = full_name.rpartition(".")
            of_each.setdefault(name, {})[key] = value
        names = {p: name for name, p in self.parameters.items()}
        for optimizer, _ in self.optimizers:
            own = [names[p] for p in optimizer.param_groups[0]["params"]]
            state = {number: of_each[name] for number, name in enumerate(own) if name in of_each}
            odd = next(
                (own[k] for k, found in state.items() if ("exp_avg" in found) == isinstance(optimizer, Muon)), None
            )
            if odd is not None:
                raise CheckpointDamaged(
                    f"the optimizer's state of {odd} at step {checkpoint.step} is another optimizer's"
                )
            optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def _optimizers(
    module: nn.Module, parameters: Mapping[str, nn.Parameter], config: TrainConfig
) -> list[tuple[torch.optim.Optimizer, float]]:
    """Return the optimizers, each with its highest learning rate; together they have every parameter once."""
    matrices = set(hidden_matrices(module)) if config.optimizer == "muon" else set[str]()
    hidden = [p for name, p in parameters.items() if name in matrices]
    rest = [p for name, p in parameters.items() if name not in matrices]
    plain = config.optimizer == "adam"  # whose weight decay would be a penalty in the gradient
    kind, decay = (torch.optim.Adam, 0.0) if plain else (torch.optim.AdamW, config.weight_decay)
    found = list[tuple[torch.optim.Optimizer, float]]()
    if rest:
        found.append((kind(rest, lr=config.lr, betas=config.betas, weight_decay=decay, fused=True), config.lr))
    if hidden:
        low = torch.bfloat16 if config.precision == "bf16" else torch.float32
        found.append((Muon(hidden, config.matrix_lr, weight_decay=decay, dtype=low), config.matrix_lr))
    return found
