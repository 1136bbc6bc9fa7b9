/** What a worker does for the page, as plain functions; `engine.ts` carries questions and answers. */
import { type Label, Model } from "../model/denoiser";
import { wasserstein2 } from "../model/distance";
import type { Backend } from "../model/kernel";
import { Stream } from "../model/random";
import type { SamplerSettings } from "../model/rule";
import { pathFor, walk } from "../model/samplers";
import { type Settings, schedule } from "../model/schedule";
import type { ModelPayload } from "../payload";

/** Rows of the library's first chunk: its noise is drawn for all of them, whatever is asked for. */
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
  /** The path to walk; the run's own, or the sampler's home, where none is given. */
  path?: Settings;
}

/** A walk from noise to data; everything in the network's units but `samples`. */
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
  /** Where, `[rows, dim]`, in the network's units. */
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
    const path = question.path ?? pathFor(sampler, own);
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
    return denoiser.answer(x, x.length / denoiser.dim, t, label);
  },

  /** log p_t of the exact law at these places. */
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
    if (!exact) throw new Error("the law of this run's data is not known");
    return exact.of(label).at(x, x.length / 2, alpha, sigma).logs;
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

  /** How far the run's noise prediction is from the exact one, at each noise level, on noisy data: rms over rms. */
  errors({ run, levels, label }: { run: string; levels: number[]; label: Label }): number[] {
    const owner = model(run);
    const { learned, exact } = owner;
    if (!learned || !exact) throw new Error("there is nothing to compare");
    const law = exact.of(label);
    const stream = new Stream(0, "errors");
    const rows = 512;
    return levels.map((level) => {
      const t = learned.schedule.timeOfLevel(level);
      const { alpha, sigma } = learned.schedule.scales(t);
      const eps = stream.normal(new Float32Array(2 * rows));
      const jitter = stream.normal(new Float32Array(2 * rows));
      const x = new Float32Array(2 * rows);
      for (let r = 0; r < rows; r++) {
        const k = Math.floor(stream.uniform() * law.count);
        for (let d = 0; d < 2; d++) {
          const i = 2 * r + d;
          x[i] = alpha * (law.means[2 * k + d] + law.stds[k] * jitter[i]) + sigma * eps[i];
        }
      }
      const ours = learned.answer(x, rows, t, label);
      const theirs = exact.answer(x, rows, t, label);
      let square = 0;
      for (let i = 0; i < x.length; i++) square += ((alpha * (ours[i] - theirs[i])) / sigma) ** 2;
      return Math.sqrt(square / x.length);
    });
  },
};

export type Tasks = typeof tasks;
