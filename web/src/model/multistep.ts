/**
 * The library's own rule for few evaluations; `fromnoise.sample.multistep` derives it. D = x0_hat is interpolated
 * through its latest values in w = 1/sqrt(1 + (v/c)^2), v = sigma/alpha, and the ODE's step solved exactly for that.
 */
import { type Denoiser, type Label, spread } from "./denoiser";
import type { Rule, StepGiven, Stepped } from "./samplers";
import type { Schedule } from "./schedule";

const GRID = { length: 0.265, power: 1.3, rest: 0.35 };
const START = 2.1;
const VARIABLE_LENGTH = 0.45;

interface Past {
  x: Float32Array;
  t: number;
  values: Float32Array[];
  levels: number[];
}

export class Multistep implements Rule {
  private past: Past | null = null;

  constructor(private readonly order: number) {}

  /** v = g q^1.3/(1 - q), between the schedule's own levels. */
  grid(schedule: Schedule, steps: number, spread: number): number[] {
    const lowest = schedule.leastLevel;
    const highest = schedule.level(1);
    const inner = Array.from({ length: steps - 1 }, (_, i) => {
      const q = (steps - i - 1) / (steps + GRID.rest);
      const level = (GRID.length * spread * q ** GRID.power) / (1 - q);
      return schedule.timeOfLevel(lowest + 1 / (1 / level + 1 / (highest - lowest)));
    });
    return [1, ...inner, 0];
  }

  step({ denoiser, x, rows, t, s, label }: StepGiven): Stepped {
    const { schedule } = denoiser;
    const { past } = this;
    const begin = START * schedule.level(s);
    let from = { x, t };
    let x0: Float32Array;
    let at = { x, t };
    if (!past && 0 < begin && begin < schedule.level(t)) {
      ({ x0, ...at } = beginBelow(denoiser, x, rows, t, schedule.timeOfLevel(begin), label));
    } else {
      x0 = denoiser.answer(x, rows, t, label);
    }
    const values = [x0, ...(past?.values ?? [])].slice(0, this.order);
    const levels = [schedule.level(at.t), ...(past?.levels ?? [])].slice(0, this.order);
    const c = VARIABLE_LENGTH * spread(denoiser);
    if (past) {
      at.x = advance(schedule, past.x, past.t, t, values, levels, c); // correct the step that led here
      from = { x: at.x, t };
    }
    this.past = { ...from, values, levels };
    return { x: advance(schedule, at.x, at.t, s, values, levels, c), x0 };
  }
}

/** Go from t to s as a Gaussian of the data's standard deviation would, then redo it with D. */
function beginBelow(denoiser: Denoiser, x: Float32Array, rows: number, t: number, s: number, label: Label) {
  const here = denoiser.schedule.scales(t);
  const there = denoiser.schedule.scales(s);
  const std = denoiser.sigmaData;
  const [hHere, hThere] = [Math.hypot(here.alpha * std, here.sigma), Math.hypot(there.alpha * std, there.sigma)];
  const moved = x.map((value) => (hThere / hHere) * value);
  const x0 = denoiser.answer(moved, rows, s, label);
  const sine = here.sigma * there.alpha - there.sigma * here.alpha;
  const cosine = std ** 2 * here.alpha * there.alpha + here.sigma * there.sigma;
  const turn = std > 0 ? Math.atan2(std * sine, cosine) / std : sine / cosine;
  const weight = (hThere ** 2 * turn) / there.sigma;
  const onX = 1 - (weight * there.alpha * std ** 2) / hThere ** 2;
  return { x: moved.map((value, i) => onX * value + weight * x0[i]), t: s, x0 };
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
  const onX = there.sigma / schedule.scales(t).sigma;
  const out = x.map((value) => onX * value);
  integrals(schedule.level(t), schedule.level(s), levels, c).forEach((weight, j) => {
    const value = values[j];
    for (let i = 0; i < out.length; i++) out[i] += there.alpha * weight * value[i];
  });
  return out;
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

/** 1 - w, exact where w is nearly 1. */
function oneLessW(v: number, c: number): number {
  const angle = Math.atan2(v, c);
  return Math.sin(angle) ** 2 / (1 + Math.cos(angle));
}

function lagrange(nodes: number[], at: number): number[] {
  return nodes.map((node, j) =>
    nodes.reduce((product, other, k) => (k === j ? product : (product * (at - other)) / (node - other)), 1),
  );
}

/** Gauss and Legendre's 32 nodes on [-1, 1], by Newton's method on the polynomial. */
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
