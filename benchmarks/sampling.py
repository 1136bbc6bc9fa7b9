"""Sampling: DDIM beside as many bare forward passes of the same network."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import partial

import ours
import torch
from network import SIGMAS, Plain, Rows, bare_passes, expected, trained
from timing import Row, interleaved, times_as_fast
from torch import Tensor

CASES = ((300, 50, 60), (10_000, 10, 12), (100_000, 4, 7))
"""Samples, steps, repetitions."""
TARGETS = {(300, "fromnoise"): 1.0, (10_000, "fromnoise"): 1.1, (100_000, "fromnoise"): 2.2}
BF16 = "fromnoise, bf16"
TARGETS[100_000, BF16] = 3.5
BARE = "bare passes"
TOLERANCE = 1e-2


def measure(*, peers: bool, quick: bool, say: Callable[[str], None]) -> list[Row]:
    """Return the section's rows."""
    torch.manual_seed(0)
    network = trained(ours.spiral(2_000).x)
    contenders = _Contenders(network, peers)
    for line in contenders.check():
        say(line)
    rows: list[Row] = []
    for n, steps, repetitions in CASES:
        say(f"sampling {n:,} points, {steps} steps")
        rows += _case(contenders, n, steps, max(repetitions // 5, 2) if quick else repetitions)
    return rows


Sampling = Callable[[Tensor, int], Tensor]
"""Turns standard normal start noise into samples with so many steps."""


class _Contenders:
    """Everyone who samples, by name, all with the same weights."""

    def __init__(self, network: Plain, peers: bool) -> None:
        self.network = network
        self.denoiser = ours.denoiser_of(network)
        self.sampling: dict[str, Sampling] = {}
        self.answers: dict[str, Callable[[Tensor, int], Tensor | None]] = {}
        self.broken: dict[str, str] = {}
        self._add_ours(ours.NAME, "float32")
        self._add_ours(BF16, "bf16")
        if peers:
            self._add_peers()

    def _add_ours(self, name: str, precision: ours.Precision) -> None:
        self.sampling[name] = lambda x, steps: ours.sample(self.denoiser, len(x), steps, start=x, precision=precision)
        self.answers[name] = lambda x, steps: expected(self.network, float(SIGMAS[-1]) * x, steps)

    def _add_peers(self) -> None:
        from peers import PEERS

        for name, kind in PEERS.items():
            try:
                peer = kind()
            except Exception as error:
                self.broken[name] = f"cannot be run: {type(error).__name__}: {error}"
                continue
            self.sampling[name] = partial(peer.sample, self.network)
            self.answers[name] = partial(peer.expected, self.network)

    def check(self) -> list[str]:
        """Sample 300 points in 50 steps with everyone and compare; who fails is not timed."""
        lines = []
        x = torch.randn(300, 2, generator=torch.Generator().manual_seed(1))
        for name in list(self.sampling):
            try:
                lines.append(f"checked {name}: {self._checked(name, x, 50)}")
            except Exception as error:
                del self.sampling[name]
                self.broken[name] = f"failed its check: {type(error).__name__}: {error}"
                lines.append(f"{name} {self.broken[name]}")
        return lines

    def evaluations(self, name: str, run: Callable[[], object], n: int) -> float:
        """Return how many rows the network is given for each of n samples."""
        with Rows(self.denoiser.network if name in (ours.NAME, BF16) else self.network) as rows:
            run()
        return round(rows.count / n, 2)

    def _checked(self, name: str, x: Tensor, steps: int) -> str:
        answer = self.sampling[name](x, steps)
        if answer.shape != x.shape or not torch.isfinite(answer).all():
            raise RuntimeError("the samples are not finite, or not as many as wanted")
        evaluations = self.evaluations(name, partial(self.sampling[name], x, steps), len(x))
        if not 1 <= evaluations / steps < 1.05:
            raise RuntimeError(f"{evaluations:g} evaluations a sample instead of {steps}")
        said = f"{evaluations:g} network evaluations a sample in {steps} steps"
        wanted = self.answers[name](x, steps)
        if wanted is None:
            return f"{said}; fresh noise, samples finite"
        off = (answer - wanted).abs()
        if name == BF16:
            return f"{said}; off the float32 reference by {off.mean():.1e} on average"
        if off.max() > TOLERANCE:
            raise RuntimeError(f"off the reference by up to {off.max():.1e}")
        return f"{said}; off the reference by at most {off.max():.1e}"


def _case(contenders: _Contenders, n: int, steps: int, repetitions: int) -> list[Row]:
    x = torch.randn(n, 2, generator=torch.Generator().manual_seed(2))
    runs: dict[str, Callable[[], object]] = {BARE: partial(bare_passes, contenders.network, x, steps)}
    for name, sampling in contenders.sampling.items():
        runs[name] = partial(sampling, x, steps)
    runs[ours.NAME] = partial(ours.sample, contenders.denoiser, n, steps)  # draws its own noise, as users have it
    if BF16 in runs:
        runs[BF16] = partial(ours.sample, contenders.denoiser, n, steps, precision="bf16")
    evaluations = {name: contenders.evaluations(name, run, n) for name, run in runs.items()}
    rounds = interleaved(runs, repetitions)
    what, rows = f"{n:,} points", []
    for name in runs:
        note = (
            f"{1e3 * statistics.median(rounds.times[name]) / steps:,.2f} ms a step, {evaluations[name]:g} evaluations"
        )
        note += f"; {rounds.note}" if name == BARE else ""
        fast = times_as_fast(rounds.times, name, BARE)
        rows.append(Row.ratio(("sample", what, name), fast, TARGETS.get((n, name)), note=note))
    return rows + [Row("sample", what, name, None, note=why) for name, why in contenders.broken.items()]
