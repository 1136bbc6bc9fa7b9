/** The tasks that a worker does for the page, as plain functions; `engine.ts` carries questions and answers. */
import { type Label, Model } from "../model/denoiser";
import { wasserstein2 } from "../model/distance";
import type { Backend } from "../model/kernel";
import { Stream } from "../model/random";
import type { SamplerSettings } from "../model/rule";
import { pathFor, walk } from "../model/samplers";
import { type Settings, schedule } from "../model/schedule";
import type { ModelPayload } from "../payload";

/** Rows of the library's first chunk. Noise is always drawn for the whole chunk, so sample i is the same for any n. */
const CHUNK = 304;

export interface SampleQuestion {
  run: string;
  sampler: SamplerSettings;
  steps: number;
  seed: number;
  n: number;
  label: Label;
  guidance: number | null;
  exact?: boolean;
  /** The schedule to sample on. Without one it is the run's own, or the one that the sampler needs. */
  path?: Settings;
}

/** All steps from noise to data. Everything except `samples` is in the network's units. */
export interface Walk {
  times: number[];
  alphas: number[];
  sigmas: number[];
  /** `[steps + 1, n, dim]`. */
  x: Float32Array;
  /** `[steps, n, dim]`. */
  x0: Float32Array;
  /** In the data's units. */
  samples: Float32Array;
  dim: number;
  path: Settings;
  milliseconds: number;
  backend: string;
}

export interface FieldQuestion {
  run: string;
  /** The places, `[rows, dim]`, in the network's units. */
  x: Float32Array;
  t: number;
  path: Settings;
  label: Label;
  guidance: number | null;
  exact: boolean;
}

const models = new Map<string, Model>();

function model(run: string): Model {
  const found = models.get(run);
  if (!found) throw new Error(`the run ${run} is not loaded`);
  return found;
}

export const tasks = {
  load({ run, payload, backend }: { run: string; payload: ModelPayload; backend?: Backend }): {
    backend: string | null;
  } {
    const made = new Model(payload, backend);
    models.set(run, made);
    return { backend: made.learned?.network.backend ?? null };
  },

  forget({ run }: { run: string }): void {
    models.delete(run);
  },

  sample(question: SampleQuestion): Walk {
    const { sampler, steps, seed, n, label, guidance, exact = false } = question;
    if (n > CHUNK) throw new Error(`at most ${CHUNK} samples at a time`);
    const owner = model(question.run);
    const own = schedule(owner.payload.schedule);
    const path = question.path ?? pathFor(sampler, own, owner.payload.few_steps);
    const denoiser = owner.denoiser(path, guidance, exact);
    const { dim } = denoiser;
    const began = performance.now();
    const stream = new Stream(seed, "chunk");
    const noise = () => stream.normal(new Float32Array(CHUNK * dim)).subarray(0, n * dim);
    const start = noise();
    const x = new Float32Array((steps + 1) * n * dim);
    const x0 = new Float32Array(steps * n * dim);
    const times = [1];
    const { sigma } = denoiser.schedule.scales(1);
    x.set(start.map((value) => sigma * value));
    let i = 0;
    for (const step of walk(denoiser, sampler, steps, start, noise, label)) {
      x0.set(step.x0, i * n * dim);
      x.set(step.x, ++i * n * dim);
      times.push(step.s);
    }
    const milliseconds = performance.now() - began;
    const scales = times.map((t) => denoiser.schedule.scales(t));
    return {
      times,
      alphas: scales.map((s) => s.alpha),
      sigmas: scales.map((s) => s.sigma),
      x,
      x0,
      samples: owner.out(x.slice(-n * dim)),
      dim,
      path,
      milliseconds,
      backend: owner.learned?.network.backend ?? "",
    };
  },

  /** x0_hat at these places. */
  field({ run, x, t, path, label, guidance, exact }: FieldQuestion): Float32Array {
    const denoiser = model(run).denoiser(path, guidance, exact);
    return denoiser.denoise(x, x.length / denoiser.dim, t, label);
  },

  /** log p_t of the data's exact distribution at these places. */
  density({
    run,
    x,
    alpha,
    sigma,
    label,
  }: {
    run: string;
    x: Float32Array;
    alpha: number;
    sigma: number;
    label: Label;
  }): Float32Array {
    const { exact } = model(run);
    if (!exact) throw new Error("the distribution of this run's data is not known");
    return exact.forLabel(label).at(x, x.length / 2, alpha, sigma).logs;
  },

  /** The mean 2-Wasserstein distance of samples to each of several draws `[k, n, dim]`. */
  distance({
    samples,
    draws,
    count,
    dim,
  }: {
    samples: Float32Array;
    draws: Float32Array;
    count: number;
    dim: number;
  }): number {
    const size = draws.length / count;
    let sum = 0;
    for (let k = 0; k < count; k++) {
      sum += wasserstein2(samples.subarray(0, size), draws.subarray(k * size, (k + 1) * size), dim);
    }
    return sum / count;
  },

  /** The root mean square error of the run's noise prediction at each noise level, on noisy data. */
  errors({ run, levels, label }: { run: string; levels: number[]; label: Label }): number[] {
    const owner = model(run);
    const { learned, exact } = owner;
    if (!learned || !exact) throw new Error("a comparison needs the network and the exact denoiser");
    const mixture = exact.forLabel(label);
    const stream = new Stream(0, "errors");
    const rows = 512;
    return levels.map((level) => {
      const t = learned.schedule.timeOfLevel(level);
      const { alpha, sigma } = learned.schedule.scales(t);
      const eps = stream.normal(new Float32Array(2 * rows));
      const jitter = stream.normal(new Float32Array(2 * rows));
      const x = new Float32Array(2 * rows);
      for (let r = 0; r < rows; r++) {
        const k = Math.floor(stream.uniform() * mixture.count);
        for (let d = 0; d < 2; d++) {
          const i = 2 * r + d;
          x[i] = alpha * (mixture.means[2 * k + d] + mixture.stds[k] * jitter[i]) + sigma * eps[i];
        }
      }
      const learnedX0 = learned.denoise(x, rows, t, label);
      const exactX0 = exact.denoise(x, rows, t, label);
      let square = 0;
      for (let i = 0; i < x.length; i++) square += ((alpha * (learnedX0[i] - exactX0[i])) / sigma) ** 2;
      return Math.sqrt(square / x.length);
    });
  },
};

export type Tasks = typeof tasks;
