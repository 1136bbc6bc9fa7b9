/**
 * Denoisers: from x_t and t they compute x0_hat = E[x0 | x_t], in the network's units. A sampler knows nothing else.
 */
import { type FewSteps, type ModelPayload, unpack } from "../payload";
import { Mixture } from "./exact";
import type { Backend } from "./kernel";
import { Network } from "./network";
import { needsSignal, precondition } from "./prediction";
import { type Scales, type Schedule, type Settings, schedule } from "./schedule";

export type Label = number | null;

export interface VariancePrediction {
  x0: Float32Array;
  varianceFraction: Float32Array;
}

export interface Denoiser {
  readonly schedule: Schedule;
  readonly dim: number;
  readonly sigmaData: number;
  /** In how many directions the data vary. */
  readonly effectiveDimension: number;
  /** How a model of few steps is sampled; null for a denoiser whose answer is a mean. */
  readonly fewSteps?: FewSteps | null;
  /** Whether it is told the guidance scale. */
  readonly toldScale?: boolean;
  /** x0_hat `[rows, dim]`; the scale is for a denoiser that is told it. */
  denoise(x: Float32Array, rows: number, t: number, label: Label, scale?: number): Float32Array;
  /**
   * x0_hat, and where the logarithm of a step's variance lies between the smallest (0) and the largest (1). Only models
   * that learned a variance have this method.
   */
  withVariance?(x: Float32Array, rows: number, t: number, label: Label): VariancePrediction;
}

/** How far data reach: their root mean square distance from their mean, and their two dimensions. */
export interface Spread {
  rms: number;
  dimension: number;
  effectiveDimension: number;
}

export function spread({ sigmaData, dim, effectiveDimension }: Denoiser): Spread {
  return {
    rms: sigmaData * Math.sqrt(dim) || 1,
    dimension: dim,
    effectiveDimension: Math.min(Math.max(effectiveDimension, 1), dim),
  };
}

/** The standard deviation of a sampler's start: that of x_1. */
export function startStd({ schedule, sigmaData }: Denoiser): number {
  const { alpha, sigma } = schedule.scales(1);
  return Math.hypot(alpha * sigmaData, sigma);
}

/** The sigma/alpha above which eps and the score tell nothing of x0. */
const NEARLY_NO_SIGNAL = 160;

/** The best linear answer for data of standard deviation sigmaData, which takes the network's place there. */
function linear({ alpha, sigma }: Scales, sigmaData: number): { cSkip: number; cOut: number } {
  const variance = sigmaData * sigmaData;
  return { cSkip: (alpha * variance) / (alpha * alpha * variance + sigma * sigma), cOut: 0 };
}

/** A trained network on its own schedule. */
export class Learned implements Denoiser {
  readonly schedule: Schedule;
  readonly dim: number;
  readonly sigmaData: number;
  readonly effectiveDimension: number;
  readonly network: Network;
  readonly fewSteps: FewSteps | null;
  readonly toldScale: boolean;
  private readonly predict: string;
  readonly withVariance?: Denoiser["withVariance"];

  constructor(payload: ModelPayload, backend?: Backend) {
    this.schedule = schedule(payload.schedule);
    this.dim = payload.shape[0];
    this.sigmaData = payload.sigma_data;
    this.effectiveDimension = payload.effective_dimension;
    this.predict = payload.predict;
    this.network = new Network(payload.network!, backend);
    this.fewSteps = payload.few_steps ?? null;
    this.toldScale = Boolean(payload.network!.settings.guidance);
    if (payload.network!.settings.learned_variance)
      this.withVariance = (x, rows, t, label) => this.predictBoth(x, rows, t, label);
  }

  denoise(x: Float32Array, rows: number, t: number, label: Label, scale?: number): Float32Array {
    return this.predictBoth(x, rows, t, label, scale).x0;
  }

  private endsInNoise({ alpha, sigma }: Scales): boolean {
    return needsSignal(this.predict) && sigma > NEARLY_NO_SIGNAL * alpha;
  }

  private predictBoth(x: Float32Array, rows: number, t: number, label: Label, scale?: number): VariancePrediction {
    const scales = this.schedule.scales(t);
    const { cIn, ...own } = precondition(this.predict, scales, this.sigmaData);
    const { cSkip, cOut } = this.endsInNoise(scales) ? linear(scales, this.sigmaData) : own;
    const input = cIn === 1 ? x : x.map((value) => cIn * value);
    const output = this.network.output(input, rows, this.schedule.cNoise(t), label, scale);
    const { dim } = this;
    const x0 = new Float32Array(rows * dim);
    const { outputs } = this.network;
    const varianceFraction = new Float32Array(outputs > dim ? rows * dim : 0);
    for (let r = 0; r < rows; r++) {
      for (let d = 0; d < dim; d++) {
        const i = r * dim + d;
        x0[i] = cSkip * x[i] + cOut * output[r * outputs + d];
        if (outputs > dim) varianceFraction[i] = (output[r * outputs + dim + d] + 1) / 2;
      }
    }
    return { x0, varianceFraction };
  }
}

/** The best possible denoiser, which the distribution of the data determines. */
export class Exact implements Denoiser {
  readonly dim = 2;
  private readonly byLabel = new Map<number, Mixture>();

  constructor(
    readonly mixture: Mixture,
    readonly schedule: Schedule,
    readonly sigmaData: number,
    readonly effectiveDimension: number,
  ) {}

  forLabel(label: Label): Mixture {
    if (label === null) return this.mixture;
    if (!this.byLabel.has(label)) this.byLabel.set(label, this.mixture.only(label));
    return this.byLabel.get(label)!;
  }

  denoise(x: Float32Array, rows: number, t: number, label: Label): Float32Array {
    const { alpha, sigma } = this.schedule.scales(t);
    return this.forLabel(label).at(x, rows, alpha, sigma).x0;
  }
}

/**
 * A denoiser on the path of another schedule. It is asked at the time of the same noise level, since on every path
 * x_t/alpha = x0 + (sigma/alpha) eps.
 */
export class OnPath implements Denoiser {
  readonly dim: number;
  readonly sigmaData: number;
  readonly effectiveDimension: number;

  constructor(
    private readonly base: Denoiser,
    readonly schedule: Schedule,
  ) {
    this.dim = base.dim;
    this.sigmaData = base.sigmaData;
    this.effectiveDimension = base.effectiveDimension;
  }

  denoise(x: Float32Array, rows: number, t: number, label: Label): Float32Array {
    const own = this.base.schedule.timeOfLevel(this.schedule.level(t));
    const here = this.schedule.scales(t);
    const there = this.base.schedule.scales(own);
    const ratio = here.sigma > here.alpha ? there.sigma / here.sigma : there.alpha / here.alpha;
    return this.base.denoise(
      x.map((value) => ratio * value),
      rows,
      own,
      label,
    );
  }
}

/**
 * Classifier-free guidance: uncond + scale (cond - uncond). At the scales 1 and 0 one evaluation is enough, and always
 * where the denoiser is told the scale.
 */
export class Guided implements Denoiser {
  readonly schedule: Schedule;
  readonly dim: number;
  readonly sigmaData: number;
  readonly effectiveDimension: number;
  readonly fewSteps: FewSteps | null;

  constructor(
    private readonly base: Denoiser,
    private readonly scale: number,
  ) {
    this.fewSteps = base.fewSteps ?? null;
    this.schedule = base.schedule;
    this.dim = base.dim;
    this.sigmaData = base.sigmaData;
    this.effectiveDimension = base.effectiveDimension;
  }

  denoise(x: Float32Array, rows: number, t: number, label: Label): Float32Array {
    if (label !== null && this.base.toldScale) return this.base.denoise(x, rows, t, label, this.scale);
    if (label === null || this.scale === 1) return this.base.denoise(x, rows, t, label);
    if (this.scale === 0) return this.base.denoise(x, rows, t, null);
    const towards = this.base.denoise(x, rows, t, label);
    const without = this.base.denoise(x, rows, t, null);
    return without.map((value, i) => value + this.scale * (towards[i] - value));
  }
}

/** A run in the page: its network, if the page runs it, and the exact denoiser of its data. */
export class Model {
  readonly learned: Learned | null;
  readonly exact: Exact | null;
  readonly mean: Float32Array;
  readonly std: Float32Array;

  constructor(
    readonly payload: ModelPayload,
    backend?: Backend,
  ) {
    this.learned = payload.network ? new Learned(payload, backend) : null;
    const own = schedule(payload.schedule);
    const flat = payload.shape.length === 1 && payload.shape[0] === 2;
    this.exact =
      flat && payload.law
        ? new Exact(new Mixture(payload.law, backend), own, payload.sigma_data, payload.effective_dimension)
        : null;
    const each = (x: Float32Array) => (x.length === 1 ? new Float32Array(payload.shape[0]).fill(x[0]) : x);
    this.mean = each(unpack(payload.scaling.mean));
    this.std = each(unpack(payload.scaling.std));
  }

  /** The denoiser for a sampler: on this path, and guided if a scale is given. */
  denoiser(path: Settings, guidance: number | null, exact = false): Denoiser {
    const base: Denoiser | null = exact ? this.exact : this.learned;
    if (!base) throw new Error("the page has no such denoiser of this run");
    const wanted = schedule(path);
    const there =
      wanted === base.schedule
        ? base
        : exact
          ? new Exact(this.exact!.mixture, wanted, base.sigmaData, base.effectiveDimension)
          : new OnPath(base, wanted);
    return guidance === null ? there : new Guided(there, guidance);
  }

  /** Samples in the data's units. */
  out(z: Float32Array): Float32Array {
    const dim = this.mean.length;
    return z.map((value, i) => this.mean[i % dim] + this.std[i % dim] * value);
  }

  into(x: Float32Array): Float32Array {
    const dim = this.mean.length;
    return x.map((value, i) => (value - this.mean[i % dim]) / this.std[i % dim]);
  }
}
