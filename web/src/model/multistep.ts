/**
 * The library's own rule for few evaluations; docs/samplers.md derives it. D = x0_hat is interpolated through its
 * latest values in w = 1/sqrt(1 + (v/c)^2), where v = sigma/alpha, and the ODE's step is solved exactly for the
 * interpolant.
 */
import { type Denoiser, type Label, type Spread, spread } from "./denoiser";
import type { Rule, StepInput, StepOutput } from "./rule";
import type { Schedule } from "./schedule";

const GRID = { power: 1.25, rest: 0.1 };
const MOST = { step: 20, last: 12 };

/** The level in the middle of the grid. */
const gridLength = ({ rms, dimension, effectiveDimension }: Spread) =>
  0.28 * rms * (2 / dimension) ** 0.055 * (2 / effectiveDimension) ** 0.09;

/** The highest that the last level before 0 may be. */
const lastLevel = ({ rms, dimension }: Spread, steps: number) =>
  (0.044 * rms * (10 / steps) ** (4 / 3)) / Math.sqrt(dimension);

/** The length of the variable w. */
const variableLength = ({ rms, dimension, effectiveDimension }: Spread) =>
  0.68 * rms * (2 / dimension) ** 0.14 * (2 / effectiveDimension) ** 0.22;

/** A smooth minimum. */
const below = (length: number, most: number) => (Number.isFinite(most) ? (length ** -4 + most ** -4) ** -0.25 : length);

interface MultistepState {
  x: Float32Array;
  t: number;
  values: Float32Array[];
  levels: number[];
  answer: Float32Array;
}

export class Multistep implements Rule {
  private state: MultistepState | null = null;

  constructor(private readonly order: number) {}

  /** v = g q^p/(1 - q), between the lowest and the highest level of the schedule. */
  grid(schedule: Schedule, steps: number, spread: Spread): number[] {
    const [lowest, highest] = [schedule.lowestLevel, schedule.level(1)];
    const g = below(gridLength(spread), highest / 2);
    const e = below(lastLevel(spread, steps), highest / 2);
    const last = 1 / (steps + GRID.rest);
    const power = Math.max(GRID.power, Math.log((e * (1 - last)) / g) / Math.log(last));
    const inner = Array.from({ length: steps - 1 }, (_, i) => {
      const q = (steps - i - 1) * last;
      const level = (g * q ** power) / (1 - q);
      return schedule.timeOfLevel(lowest + 1 / (1 / level + 1 / (highest - lowest)));
    });
    return [1, ...inner, 0];
  }

  step({ denoiser, x, rows, t, s, label }: StepInput): StepOutput {
    const { state } = this;
    if (!state) return this.first(denoiser, x, rows, t, s, label);
    const { schedule } = denoiser;
    const c = variableLength(spread(denoiser));
    const x0 = denoiser.denoise(x, rows, t, label);
    // where two evaluations in turn give the same number, it is held fixed
    const held = (moved: Float32Array) => moved.map((value, i) => (x0[i] === state.answer[i] ? x0[i] : value));
    const before = state.values.length === 1 ? [held(state.values[0])] : state.values;
    const levels = [schedule.level(t), ...state.levels].slice(0, this.order + 1);
    // the last step, done again with the new value
    const corrected = advance(schedule, state.x, state.t, t, [x0, ...before].slice(0, this.order), levels, c);
    const values = [held(moved(denoiser, x0, x, corrected, t)), ...before].slice(0, this.order + 1);
    this.state = { x: corrected, t, values, levels, answer: x0 };
    return { x: advance(schedule, corrected, t, s, values, levels, c), x0 };
  }

  /** The first step from t to s: D is known at one level only, and x/h turns by an angle. */
  private first(denoiser: Denoiser, x: Float32Array, rows: number, t: number, s: number, label: Label): StepOutput {
    const { schedule, sigmaData: std } = denoiser;
    const [high, low] = [schedule.level(t), schedule.level(s)];
    const b = low > 0 ? schedule.timeOfLevel(3 / (2 / high + 1 / low)) : t; // Radau's point
    const [from, at] = [schedule.scales(t), schedule.scales(b)];
    const [hFrom, hAt] = [from, at].map(({ alpha, sigma }) => Math.hypot(alpha * std, sigma));
    const guess = x.map((value) => (hAt / hFrom) * value);
    const x0 = denoiser.denoise(guess, rows, b, label);
    const turned = (u: number): Float32Array => {
      const to = schedule.scales(u);
      const hTo = Math.hypot(to.alpha * std, to.sigma);
      const sine = from.sigma * to.alpha - to.sigma * from.alpha;
      const cosine = std ** 2 * from.alpha * to.alpha + from.sigma * to.sigma;
      const turn = std > 0 ? Math.atan2(std * sine, cosine) / std : sine / cosine;
      const onX = (hTo / hFrom) * (1 - (turn * at.alpha * std ** 2) / at.sigma);
      const onX0 = (hTo * hAt * turn) / at.sigma;
      return x.map((value, i) => onX * value + onX0 * x0[i]);
    };
    this.state = { x, t, values: [moved(denoiser, x0, guess, turned(b), b)], levels: [schedule.level(b)], answer: x0 };
    return { x: low > 0 ? turned(s) : x0, x0 };
  }
}

/** D after x has moved from one place to another, as if the data were a Gaussian. */
function moved(denoiser: Denoiser, x0: Float32Array, from: Float32Array, to: Float32Array, t: number): Float32Array {
  const { alpha, sigma } = denoiser.schedule.scales(t);
  const variance = denoiser.sigmaData ** 2;
  const gain = (alpha * variance) / (alpha ** 2 * variance + sigma ** 2);
  return x0.map((value, i) => value + gain * (to[i] - from[i]));
}

function advance(
  schedule: Schedule,
  x: Float32Array,
  t: number,
  s: number,
  values: Float32Array[],
  levels: number[],
  c: number,
): Float32Array {
  const there = schedule.scales(s);
  const weights = bounded(schedule.level(t), schedule.level(s), levels.slice(0, values.length), c);
  const [newest] = values;
  if (s === 0)
    // the weights add up to 1
    return newest.map((value, i) =>
      weights.slice(1).reduce((sum, w, j) => sum + w * (values[j + 1][i] - value), value),
    );
  const onX = there.sigma / schedule.scales(t).sigma;
  const out = x.map((value) => onX * value);
  weights.forEach((weight, j) => {
    const value = values[j];
    for (let i = 0; i < out.length; i++) out[i] += there.alpha * weight * value[i];
  });
  return out;
}

/** The weights of as many of the newest values as keep the sum of their sizes within bounds. */
function bounded(from: number, to: number, levels: number[], c: number): number[] {
  const most = (to === 0 ? MOST.last : MOST.step) * (1 - to / from);
  for (let count = levels.length; count > 1; count--) {
    const weights = integrals(from, to, levels.slice(0, count), c);
    if (weights.reduce((sum, weight) => sum + Math.abs(weight), 0) <= most) return weights;
  }
  return integrals(from, to, levels.slice(0, 1), c);
}

/** v_s times the integral of each Lagrange polynomial, in w, over dv/v^2 from v_s to v_t. */
function integrals(from: number, to: number, levels: number[], c: number): number[] {
  const nodes = levels.map((level) => oneLessW(level, c));
  if (to === 0) return lagrange(nodes, 0);
  const low = to / from;
  const sums = levels.map(() => 0);
  GAUSS.forEach(({ node, weight }) => {
    const y = low + ((1 - low) * (node + 1)) / 2;
    lagrange(nodes, oneLessW(to, c * y)).forEach((value, j) => (sums[j] += (value * weight * (1 - low)) / 2));
  });
  return sums;
}

/** 1 - w, computed without cancellation where w is nearly 1. */
function oneLessW(v: number, c: number): number {
  const angle = Math.atan2(v, c);
  return Math.sin(angle) ** 2 / (1 + Math.cos(angle));
}

function lagrange(nodes: number[], at: number): number[] {
  return nodes.map((node, j) =>
    nodes.reduce((product, other, k) => (k === j ? product : (product * (at - other)) / (node - other)), 1),
  );
}

/** The 32 nodes and weights of Gauss-Legendre quadrature on [-1, 1], by Newton's method on the polynomial. */
const GAUSS = Array.from({ length: 32 }, (_, i) => {
  const n = 32;
  let x = Math.cos((Math.PI * (i + 0.75)) / (n + 0.5));
  let slope = 1;
  for (let pass = 0; pass < 100; pass++) {
    let [before, value] = [1, x];
    for (let k = 2; k <= n; k++) [before, value] = [value, ((2 * k - 1) * x * value - (k - 1) * before) / k];
    slope = (n * (x * value - before)) / (x * x - 1);
    const move = value / slope;
    x -= move;
    if (Math.abs(move) < 1e-15) break;
  }
  return { node: x, weight: 2 / ((1 - x * x) * slope * slope) };
});
