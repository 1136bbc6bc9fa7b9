"""Pictures of curves: loss against its floor, schedules side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from fromnoise.plot.style import INK, PALETTE, QUIET, as_array, new_figure, styled


def loss(
    steps: Sequence[int], losses: Sequence[float], *, floor: float | None = None, what: str = "",
    held_out: Mapping[int, float] = MappingProxyType({}),
) -> Figure:  # fmt: skip
    """Draw the training loss over the steps, with its floor as a line, and the held-out loss where it is known.

    Args:
        steps: the steps at which the losses were logged.
        losses: the mean losses between those steps.
        floor: the lowest possible expected loss.
        what: a note on the floor, for the legend.
        held_out: the loss on held-out samples by step.
    """
    x, y = np.asarray(steps, dtype=float), np.asarray(losses, dtype=float)
    with styled():
        figure, (axes,) = new_figure(1, width=6.4, height=3.6)
        axes.plot(x, y, color=PALETTE[0], alpha=0.25, linewidth=1)
        if len(y) >= 8:
            width = max(3, len(y) // 12)
            kernel = np.ones(width) / width
            axes.plot(x[width - 1 :], np.convolve(y, kernel, "valid"), color=PALETTE[0], label="training loss")
        else:
            axes.plot(x, y, color=PALETTE[0], label="training loss")
        if floor is not None:
            axes.axhline(floor, color=PALETTE[1], linestyle=(0, (4, 2)), label="floor" + (f": {what}" if what else ""))
        if held_out:
            axes.plot(list(held_out), list(held_out.values()), color=PALETTE[2], marker=".", label="held-out loss")
        low = min(float(y.min()), math.inf if floor is None else floor, *map(float, held_out.values()))
        high = float(np.quantile(y[min(1, len(y) - 1) :], 0.98)) if len(y) > 4 else float(y.max())
        high = max(high, *map(float, held_out.values())) if held_out else high
        axes.set_ylim(low - 0.08 * (high - low + 1e-9), high + 0.15 * (high - low + 1e-9))
        axes.set(xlabel="step", ylabel="loss")
        axes.legend(loc="best" if held_out else "upper right")
    return figure


def levels(checks: Mapping[int, tuple[Sequence[float], Sequence[float]]]) -> Figure:
    """Draw the held-out loss over the noise levels.

    Args:
        checks: noise levels sigma/alpha and the loss at each, by the step after which they were taken.
    """
    with styled():
        figure, (axes,) = new_figure(1, width=6.4, height=3.4)
        for k, (step, (noise, losses)) in enumerate(checks.items()):
            axes.semilogx(noise, losses, marker=".", color=PALETTE[k % len(PALETTE)], label=f"step {step:,}")
        axes.set(xlabel="noise level, sigma/alpha", ylabel="held-out loss", ylim=(0, None))
        axes.legend()
    return figure


def elbo(log_snrs: Sequence[float], terms: Sequence[float], simple: Sequence[float]) -> Figure:
    """Draw how the ELBO and the simple loss are distributed over the noise levels.

    Each curve is a density over log SNR: the area below it is 1.

    Args:
        log_snrs: log SNR at the start of each step, the noisiest first.
        terms: the term of each step in the bound, in any unit; the last, the reconstruction's, is left out.
        simple: the term of each step in the simple loss.
    """
    at = np.clip(np.asarray(log_snrs, dtype=float), -25, 25)
    widths = np.abs(np.diff(at)) + 1e-12
    with styled():
        figure, (axes,) = new_figure(1, width=6.4, height=3.6)
        for k, (name, values) in enumerate((("ELBO", terms), ("simple loss", simple))):
            weights = np.clip(np.asarray(values, dtype=float)[: len(widths)], 0, None)
            weights = weights / max(weights.sum(), 1e-300)
            count = min(40, len(widths))
            edges = np.linspace(at.min(), at.max(), count + 1)
            heights = np.histogram((at[:-1] + at[1:]) / 2, edges, weights=weights)[0] / np.diff(edges)
            axes.stairs(heights, edges, color=PALETTE[k], label=name, linewidth=1.6)
            axes.stairs(heights, edges, color=PALETTE[k], alpha=0.15, fill=True)
        axes.set(xlabel="log SNR (noise to the left, data to the right)", ylabel="density", ylim=(0, None))
        axes.legend(loc="upper left")
    return figure


def convergence(curves: Mapping[str, tuple[Sequence[int], Sequence[float]]]) -> Figure:
    """Draw error against evaluations, both on logarithmic axes, so that the slope is the order of convergence.

    Args:
        curves: (evaluations, errors) by name.
    """
    with styled():
        figure, (axes,) = new_figure(1, width=6.8, height=4.4)
        for k, (name, (evaluations, errors)) in enumerate(curves.items()):
            style = ("-", "--", ":")[k // len(PALETTE) % 3]
            axes.loglog(evaluations, errors, style, color=PALETTE[k % len(PALETTE)], label=name, linewidth=1.5)
        axes.set(xlabel="evaluations", ylabel="error of the end points (rms)")
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8)
    return figure


def bounds(curves: Mapping[str, tuple[Sequence[int], Sequence[float]]], *, best: float | None = None) -> Figure:
    """Draw bounds on the negative log-likelihood against the number of steps of the chain.

    Args:
        curves: (steps, nats) by name.
        best: the lowest possible value, the entropy of the data.
    """
    with styled():
        figure, (axes,) = new_figure(1, width=6.4, height=3.8)
        for k, (name, (steps, nats)) in enumerate(curves.items()):
            axes.semilogx(steps, nats, marker="o", markersize=4, color=PALETTE[k % len(PALETTE)], label=name)
        if best is not None:
            axes.axhline(best, color=QUIET, linestyle=(0, (4, 2)), label="entropy of the data")
        ticks = next(iter(curves.values()))[0]
        axes.set_xticks(ticks, [str(n) for n in ticks])
        axes.minorticks_off()
        axes.set(xlabel="steps of the chain", ylabel="-ELBO, nats a sample")
        axes.legend()
    return figure


def schedules(curves: Mapping[str, tuple[Any, Any, Any]]) -> Figure:
    """Draw log SNR and alpha, sigma over time for several schedules.

    Args:
        curves: (times, alphas, sigmas) by name.
    """
    with styled():
        figure, (left, right) = new_figure(2, width=5.0, height=3.7)
        for k, (name, curve) in enumerate(curves.items()):
            t, alpha, sigma = (as_array(v) for v in curve)
            colour = PALETTE[k % len(PALETTE)]
            with np.errstate(divide="ignore"):
                log_snr = 2 * (np.log(alpha) - np.log(sigma))
            left.plot(t, np.where(np.abs(log_snr) <= 25, log_snr, np.nan), color=colour, label=name)
            right.plot(t, alpha, color=colour)
            right.plot(t, sigma, color=colour, linestyle=(0, (4, 2)))
        left.axhline(0, color=QUIET, linewidth=0.8)
        left.text(1.0, 0.3, "signal = noise", color=QUIET, fontsize=9, ha="right")
        left.set(xlabel="t", ylabel="log SNR", title="signal to noise")
        right.set(xlabel="t", title="scales", ylim=(0, None))
        left.legend()
        handles = [
            right.plot([], [], color=INK, label="alpha")[0],
            right.plot([], [], color=INK, linestyle=(0, (4, 2)), label="sigma")[0],
        ]
        right.legend(handles=handles)
    return figure
