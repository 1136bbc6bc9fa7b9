/**
 * Samplers, and the one loop that drives them all. A sampler is a rule for one step from t to s < t. It keeps what it
 * needs of earlier steps itself, so a new one is made for every set of samples.
 */
import { type Denoiser, type Label, spread, startStd } from "./denoiser";
import { Multistep } from "./multistep";
import type { Rule, SamplerSettings, StepInput, StepOutput } from "./rule";
import { roundHalfEven, type Schedule, type Settings } from "./schedule";
import type { FewSteps } from "../payload";

/** a x + b y. */
export function weighted(a: number, x: Float32Array, b: number, y: Float32Array): Float32Array {
  const out = new Float32Array(x.length);
  for (let i = 0; i < out.length; i++) out[i] = a * x[i] + b * y[i];
  return out;
}

/** q(x_s | x_t, x0): the factors of x_t and x0 in its mean, and its standard deviation (Ho et al. 2020, eq. 6-7). */
export function posterior(schedule: Schedule, t: number, s: number): { onX: number; onX0: number; std: number } {
  const here = schedule.scales(t);
  const there = schedule.scales(s);
  const newNoise = -Math.expm1(schedule.logSnr(t) - schedule.logSnr(s));
  return {
    onX: (here.alpha / there.alpha) * (there.sigma / here.sigma) ** 2,
    onX0: there.alpha * newNoise,
    std: there.sigma * Math.sqrt(newNoise),
  };
}

/** Ho et al. 2020, Algorithm 2. */
class DDPM implements Rule {
  constructor(private readonly variance: "small" | "large" | "learned") {}

  grid(schedule: Schedule, steps: number): number[] {
    return schedule.grid(steps);
  }

  step({ denoiser, x, rows, t, s, label, noise }: StepInput): StepOutput {
    const learned = this.variance === "learned" ? denoiser.withVariance?.(x, rows, t, label) : undefined;
    if (this.variance === "learned" && !learned)
      throw new Error("this model has not learned a variance: choose small or large");
    const x0 = learned?.x0 ?? denoiser.denoise(x, rows, t, label);
    if (s === 0) return { x: x0, x0 };
    const { onX, onX0, std } = posterior(denoiser.schedule, t, s);
    const newNoise = -Math.expm1(denoiser.schedule.logSnr(t) - denoiser.schedule.logSnr(s));
    const large = denoiser.schedule.scales(t).sigma * Math.sqrt(newNoise);
    const next = weighted(onX, x, onX0, x0);
    const z = noise();
    for (let i = 0; i < next.length; i++) {
      next[i] +=
        z[i] * (learned ? std * (large / std) ** learned.varianceFraction[i] : this.variance === "large" ? large : std);
    }
    return { x: next, x0 };
  }
}

/** Song et al. 2021 (DDIM), eq. 12 and 16. */
class DDIM implements Rule {
  constructor(private readonly eta: number) {}

  grid(schedule: Schedule, steps: number): number[] {
    return schedule.grid(steps);
  }

  step({ denoiser, x, rows, t, s, label, noise }: StepInput): StepOutput {
    const x0 = denoiser.denoise(x, rows, t, label);
    if (s === 0) return { x: x0, x0 };
    const here = denoiser.schedule.scales(t);
    const there = denoiser.schedule.scales(s);
    const std = this.eta ? this.eta * posterior(denoiser.schedule, t, s).std : 0;
    const onX = Math.sqrt(there.sigma ** 2 - std ** 2) / here.sigma;
    const next = weighted(onX, x, there.alpha - onX * here.alpha, x0);
    return { x: std ? weighted(1, next, std, noise()) : next, x0 };
  }
}

/** Song et al. 2023, algorithm 1: to the end, and back to s with new noise. */
class Consistency implements Rule {
  grid(schedule: Schedule, steps: number): number[] {
    return schedule.grid(steps);
  }

  step({ denoiser, x, rows, t, s, label, noise }: StepInput): StepOutput {
    const x0 = denoiser.denoise(x, rows, t, label);
    if (s === 0) return { x: x0, x0 };
    const there = denoiser.schedule.scales(s);
    return { x: weighted(there.alpha, x0, there.sigma, noise()), x0 };
  }
}

export function rule(settings: SamplerSettings): Rule {
  if (settings.name === "ddpm") return new DDPM(settings.variance ?? "small");
  if (settings.name === "ddim") return new DDIM(settings.eta ?? 0);
  if (settings.name === "consistency") return new Consistency();
  return new Multistep(settings.order ?? 4);
}

/**
 * The schedule to sample on: DDPM and DDIM need a table, and without one they take the linear one of 1,000 steps. A model
 * of few steps knows its own alone.
 */
export function pathFor(settings: SamplerSettings, own: Schedule, few?: FewSteps | null): Settings {
  return few || settings.name === "multistep" || own.T !== null ? own.settings : { name: "linear" };
}

/** The times through which a model of few steps goes. */
export function timesOf({ finest }: FewSteps, steps: number): number[] {
  const last = finest.length - 1;
  return Array.from({ length: steps + 1 }, (_, k) => finest[roundHalfEven((k * last) / steps)]);
}

/** Go from noise, `[rows, dim]`, to data, and yield every step; x is in the network's units. */
export function* walk(
  denoiser: Denoiser,
  settings: SamplerSettings,
  steps: number,
  start: Float32Array,
  noise: () => Float32Array,
  label: Label,
): Generator<StepOutput & { t: number; s: number }> {
  const sampler = rule(settings);
  const times = denoiser.fewSteps
    ? timesOf(denoiser.fewSteps, steps)
    : sampler.grid(denoiser.schedule, steps, spread(denoiser));
  const rows = start.length / denoiser.dim;
  let x = weighted(startStd(denoiser), start, 0, start);
  for (let i = 0; i < steps; i++) {
    const [t, s] = [times[i], times[i + 1]];
    const stepped = sampler.step({ denoiser, x, rows, t, s, label, noise });
    x = stepped.x;
    yield { ...stepped, t, s };
  }
}
