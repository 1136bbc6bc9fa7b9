"""Post-hoc EMA: averages of the weights over a training, of a length that is chosen after it.

A *power-function average* after step t weighs the parameters after step tau <= t by the profile

    p(tau) = (gamma + 1) tau^gamma / t^(gamma + 1),

so it spans the same part of any training. It is kept up by theta_hat(t) = b theta_hat(t - 1) + (1 - b) theta(t) with
b = (1 - 1/t)^(gamma + 1). Its length is the standard deviation of p in parts of t,

    sigma_rel = (gamma + 1)^1/2 / ((gamma + 2) (gamma + 3)^1/2).

A training keeps snapshots of two or more such averages, `averages/000010000-0.050.safetensors`. The profile of any
other length is nearly a sum of theirs; the least-squares solution gives the factors with which the snapshots are added.
Other than in the paper they sum to 1 exactly, so that a parameter that never moved stays where it was.

Source: Karras et al. 2024, "Analyzing and improving the training dynamics of diffusion models", section 3 and
appendix C.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from fromnoise.errors import CheckpointDamaged, InputError
from fromnoise.run.files import Writing, apart, check_sum, file_sum, make_folder, read_tensors, save_tensors, write_json
from fromnoise.run.guard import distrusting, is_whole, read_object

LONGEST = 0.28
"""The largest sigma_rel: at gamma = 0, the mean over the whole training, it is 0.289."""


def exponent(length: float) -> float:
    """Return gamma of an average of the relative length sigma_rel, the largest root of

        sigma_rel^2 (gamma + 2)^2 (gamma + 3) = gamma + 1.

    Raises:
        InputError: if sigma_rel is not between 0 and 0.28.
    """
    if not 0.001 <= length <= LONGEST:
        raise InputError(f"an average's length is a part of the training, between 0.001 and {LONGEST}, not {length}")
    over = length**-2
    roots = np.roots([1, 7, 16 - over, 12 - over])
    return float(roots[np.abs(roots.imag) < 1e-6].real.max())


_MOST = 2000
"""How many snapshots are added at most: the last ones."""


class Snapshot(NamedTuple):
    """An average that was kept.

    Attributes:
        step: after which it was taken, t.
        length: sigma_rel.
    """

    step: int
    length: float


class Mix(NamedTuple):
    """How snapshots are added.

    Attributes:
        factors: of each snapshot; their sum is 1.
        error: |sum of their profiles - wanted profile|/|wanted profile|, root mean square over the training.
    """

    factors: tuple[float, ...]
    error: float


def mix(snapshots: Sequence[Snapshot], length: float, step: int) -> Mix:
    """Return how snapshots are added to an average of the length `length` after step `step`."""
    t = np.array([float(each.step) for each in snapshots] + [float(step)])
    gamma = np.array([exponent(each.length) for each in snapshots] + [exponent(length)])
    # <p_i, p_j> = (g_i + 1)(g_j + 1)/(g_i + g_j + 1) x min(t)^(g_i + g_j + 1)/(t_i^(g_i + 1) t_j^(g_j + 1))
    total = gamma[:, None] + gamma + 1
    logs = total * np.log(np.minimum(t[:, None], t)) - ((gamma + 1) * np.log(t))[:, None] - (gamma + 1) * np.log(t)
    gram = (gamma + 1)[:, None] * (gamma + 1) / total * np.exp(logs)
    count = len(snapshots)
    equations = np.ones((count + 1, count + 1))  # with the multiplier of the condition sum = 1
    equations[:-1, :-1], equations[-1, -1] = gram[:-1, :-1], 0
    factors = np.linalg.lstsq(equations, np.append(gram[:-1, -1], 1.0), rcond=1e-13)[0][:count]
    every = np.append(factors, -1.0)
    error = math.sqrt(max(0.0, float(every @ gram @ every)) / float(gram[-1, -1]))
    return Mix(tuple(factors.tolist()), error)


class Averages:
    """The snapshots of a run.

    Args:
        path: of the run's folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path / "averages"

    def save(self, step: int, averages: Mapping[float, Mapping[str, Tensor]]) -> None:
        """Keep the averages of each length after a step, unless they stand there already.

        Raises:
            RunError: if they cannot be written.
        """
        if not averages or self._are_sound(step, averages):
            return
        with Writing(self.path):
            make_folder(self.path, exist_ok=True)
            for length, tensors in averages.items():
                save_tensors(self.place(Snapshot(step, length)), apart(tensors))
            places = [self.place(Snapshot(step, length)) for length in averages]
            sums = {place.name: {"sha256": file_sum(place)} for place in places}
            write_json(self._manifest(step), {"step": step, "files": sums})  # last: it is what makes them whole

    def _are_sound(self, step: int, lengths: Iterable[float]) -> bool:
        """Return whether the files of a step are those of its manifest."""
        try:
            sums = self._files(step)
            for length in lengths:
                place = self.place(Snapshot(step, length))
                check_sum(place, sums.get(place.name))
        except CheckpointDamaged:
            return False
        return True

    def drop_after(self, step: int) -> None:
        """Remove the averages after a step: they belong to work that a resumed run does again, perhaps otherwise."""
        with Writing(self.path):
            for path in self.path.iterdir() if self.path.is_dir() else ():
                match = re.fullmatch(r"([0-9]{9,18})(-0\.[0-9]{3}\.safetensors|\.json)", path.name)
                if match and int(match[1]) > step:
                    path.unlink(missing_ok=True)

    def place(self, snapshot: Snapshot) -> Path:
        """Return the file of a snapshot."""
        return self.path / f"{snapshot.step:09d}-{snapshot.length:.3f}.safetensors"

    def _manifest(self, step: int) -> Path:
        return self.path / f"{step:09d}.json"

    def _files(self, step: int) -> dict[str, Any]:
        """Return the sum of each file of a step's averages."""
        path = self._manifest(step)
        with distrusting(path, CheckpointDamaged):
            found = read_object(path)
            if not is_whole(found["step"]) or found["step"] != step:
                raise CheckpointDamaged(f"{path} is of another step")
            return {name: found["files"][name]["sha256"] for name in found["files"]}

    def found(self, up_to: int) -> list[Snapshot]:
        """Return the snapshots that are whole, up to a step, the earliest first."""
        names = [p.name for p in self.path.iterdir()] if self.path.is_dir() else []
        steps = sorted(int(name[:-5]) for name in names if re.fullmatch(r"[0-9]{9,18}\.json", name))
        pattern = re.compile(r"([0-9]{9,18})-(0\.[0-9]{3})\.safetensors")
        there = set(names)
        whole = [
            Snapshot(step, float(match[2]))
            for step in steps if 0 < step <= up_to
            for match in map(pattern.fullmatch, sorted(there.intersection(self._files(step))))
            if match and int(match[1]) == step and 0.001 <= float(match[2]) <= LONGEST
        ]  # fmt: skip
        return whole[-_MOST:]

    def read(self, snapshot: Snapshot, wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return a snapshot's parameters, which must be those wanted by name, shape and dtype.

        Raises:
            CheckpointDamaged: if they are not, or cannot be read.
        """
        path = self.place(snapshot)
        return read_tensors(path, wanted, self._files(snapshot.step).get(path.name))

    def error(self, length: float, step: int) -> float:
        """Return the error of the profile that an average of this length has after a step, as `Mix` says it."""
        return mix(self.found(step), length, step).error

    def mixed(self, length: float, step: int, wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the parameters averaged over a length, after a step.

        Args:
            length: sigma_rel.
            step: of the checkpoint.
            wanted: the parameters by name; they may be on the meta device.

        Raises:
            InputError: if the run kept no snapshots, or the length is out of range.
            CheckpointDamaged: if one cannot be read.
        """
        exponent(length)
        snapshots = self.found(step)
        if not snapshots:
            raise InputError(
                f"{self.path.parent} kept no averages of which one of another length can be made: train with "
                "--set train.post_hoc_ema=[0.05,0.1]"
            )
        how = mix(snapshots, length, step)
        total = dict[str, Tensor]()
        for factor, snapshot in zip(how.factors, snapshots, strict=True):
            for name, tensor in self.read(snapshot, wanted).items():
                part = tensor.double() * factor
                total[name] = total[name].add_(part) if name in total else part
        return {name: tensor.to(wanted[name].dtype) for name, tensor in total.items()}
