"""Sampling: DDIM beside as many bare forward passes of the same network."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import ours
import torch
from network import SIGMAS, Plain, Rows, bare_passes, expected, trained
from timing import Row, interleaved, times_as_fast
from torch import Tensor, nn
from workers import Prepared

CASES = ((300, 50, 60), (10_000, 10, 12), (100_000, 4, 7))
"""Samples, steps, repetitions."""
BARE, BF16 = "bare passes", "fromnoise, bf16"
TARGETS = {(300, ours.NAME): 1.0, (10_000, ours.NAME): 1.1, (100_000, ours.NAME): 2.2, (100_000, BF16): 3.5}
TOLERANCE = 1e-2

Weights = dict[str, Any]


def measure(*, peers: bool, quick: bool, say: Callable[[str], None]) -> list[Row]:
    """Return the section's rows."""
    torch.manual_seed(0)
    weights = {key: value.numpy() for key, value in trained(ours.spiral(2_000).x).state_dict().items()}
    rows: list[Row] = []
    for n, steps, repetitions in CASES:
        say(f"sampling {n:,} points, {steps} steps")
        rows += _case(weights, n, steps, max(repetitions // 5, 3) if quick else repetitions, peers)
    return rows


def _case(weights: Weights, n: int, steps: int, repetitions: int, peers: bool) -> list[Row]:
    names = [BARE, ours.NAME, BF16]
    if peers:
        from peers import PEERS

        names += list(PEERS)
    rounds = interleaved({name: ("sampling", "prepared", (name, weights, n, steps)) for name in names}, repetitions)
    what, rows = f"{n:,} points", []
    for name, seconds in rounds.times.items():
        note = f"{1e3 * statistics.median(seconds) / steps:,.2f} ms a step; {rounds.notes[name]}"
        note += f"; {rounds.note}" if name == BARE else ""
        fast = times_as_fast(rounds.times, name, BARE)
        rows.append(Row.ratio(("sample", what, name), fast, TARGETS.get((n, name)), note=note))
    return rows + [Row("sample", what, name, None, note=why) for name, why in rounds.failed.items()]


def prepared(name: str, weights: Weights, n: int, steps: int) -> Prepared:
    """Prepare one contender, after comparing what it samples with the reference."""
    network = Plain()
    network.load_state_dict({key: torch.from_numpy(value) for key, value in weights.items()})
    network.eval().requires_grad_(False)
    x = torch.randn(n, 2, generator=torch.Generator().manual_seed(1))
    if name == BARE:
        return _counted(partial(bare_passes, network, x, steps), network, n, steps, "")
    if name in (ours.NAME, BF16):
        return _our_own(name, network, x, steps)
    from peers import PEERS

    peer = PEERS[name]()
    few = x[:300]
    said = _compared(peer.sample(network, few, steps), peer.expected(network, few, steps))
    return _counted(partial(peer.sample, network, x, steps), network, n, steps, said)


def _our_own(name: str, network: Plain, x: Tensor, steps: int) -> Prepared:
    """Prepare fromnoise, which draws its own start noise when timed, as users have it."""
    denoiser = ours.denoiser_of(network)
    precision: ours.Precision = "bf16" if name == BF16 else "float32"
    few = x[:300]
    answer = ours.sample(denoiser, len(few), steps, start=few, precision=precision)
    wanted = expected(network, float(SIGMAS[-1]) * few, steps)
    said = _compared(answer, wanted, mean=precision == "bf16")
    run = partial(ours.sample, denoiser, len(x), steps, precision=precision)
    return _counted(run, denoiser.network, len(x), steps, said)


def _counted(run: Callable[[], object], network: nn.Module, n: int, steps: int, said: str) -> Prepared:
    """Count the network evaluations of a run, which must be one a step but for the padding of a last chunk."""
    with Rows(network) as rows:
        run()
    if not 1 <= rows.count / (n * steps) < 1.05:
        raise RuntimeError(f"{rows.count / n:.1f} evaluations a sample in {steps} steps")
    return Prepared(run, f"{rows.count / n:.5g} evaluations a sample" + (f"; {said}" if said else ""))


def _compared(answer: Tensor, wanted: Tensor | None, mean: bool = False) -> str:
    """Say how far samples are off the reference's; None is no reference, as fresh noise has none."""
    if not torch.isfinite(answer).all():
        raise RuntimeError("the samples are not finite")
    if wanted is None:
        return "fresh noise, finite"
    off = (answer - wanted).abs()
    if mean:
        return f"off the float32 reference by {off.mean():.0e} on average"
    if not off.max() < TOLERANCE:
        raise RuntimeError(f"off the reference by {off.max():.1e}")
    return f"off the reference by {off.max():.0e} at most"
