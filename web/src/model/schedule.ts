/**
 * Noise schedules: x_t = alpha(t) x0 + sigma(t) eps, the same as in `fromnoise.schedule`. Time runs from 0 (clean) to
 * 1 (noise). A table is exact at t = (k + 1)/T and interpolates log SNR between; a continuous schedule has formulas.
 */

export interface Scales {
  alpha: number;
  sigma: number;
}

export type Settings = { name: string; [key: string]: unknown };

export abstract class Schedule {
  constructor(readonly settings: Settings) {}

  abstract scales(t: number): Scales;
  /** The time at which log SNR has this value, within [0, 1]. */
  abstract time(logSnr: number): number;

  /** T of a table; null where the schedule has formulas. */
  get T(): number | null {
    return null;
  }

  get name(): string {
    return this.settings.name;
  }

  logSnr(t: number): number {
    const { alpha, sigma } = this.scales(t);
    return 2 * (Math.log(alpha) - Math.log(sigma));
  }

  /** The noise level, sigma/alpha. */
  level(t: number): number {
    const { alpha, sigma } = this.scales(t);
    return alpha > 0 ? sigma / alpha : Infinity;
  }

  timeOfLevel(level: number): number {
    return this.time(level > 0 ? -2 * Math.log(level) : Infinity);
  }

  /** The lowest noise level above 0 at which a model on this schedule is trained. */
  get lowestLevel(): number {
    return 0;
  }

  /** steps + 1 times from 1 to 0. */
  grid(steps: number): number[] {
    return Array.from({ length: steps + 1 }, (_, i) => (steps - i) / steps);
  }

  /** c_noise: the number by which a network knows the time. */
  cNoise(t: number): number {
    return Math.min(Math.max(this.logSnr(t), -20), 20);
  }
}

const clamp = (t: number) => Math.min(Math.max(t, 0), 1);
const sigmoid = (x: number) => (x >= 0 ? 1 / (1 + Math.exp(-x)) : Math.exp(x) / (1 + Math.exp(x)));

class Table extends Schedule {
  private readonly bars: number[];
  private readonly logSnrs: number[];

  constructor(settings: Settings, betas: number[]) {
    super(settings);
    let product = 1;
    this.bars = [1, ...betas.map((beta) => (product *= 1 - beta))];
    this.logSnrs = this.bars.map((bar) => Math.log(bar) - Math.log1p(-bar));
  }

  override get T(): number {
    return this.bars.length - 1;
  }

  override get lowestLevel(): number {
    return this.level(1 / this.T);
  }

  scales(t: number): Scales {
    const position = clamp(t) * this.T;
    const cell = Math.min(Math.floor(position), this.T - 1);
    const entry = Math.round(position);
    if (Math.abs(position - entry) < 1e-9) {
      return { alpha: Math.sqrt(this.bars[entry]), sigma: Math.sqrt(1 - this.bars[entry]) };
    }
    const slope = this.logSnrs[cell + 1] - this.logSnrs[cell];
    if (Number.isFinite(slope)) {
      const logSnr = this.logSnrs[cell] + (position - cell) * slope;
      return { alpha: Math.sqrt(sigmoid(logSnr)), sigma: Math.sqrt(sigmoid(-logSnr)) };
    }
    const bar = this.bars[cell] + (position - cell) * (this.bars[cell + 1] - this.bars[cell]);
    return { alpha: Math.sqrt(bar), sigma: Math.sqrt(1 - bar) };
  }

  time(logSnr: number): number {
    const s = this.logSnrs;
    const wanted = Math.min(Math.max(logSnr, s[s.length - 1]), s[0]);
    let low = 0;
    let high = this.T - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (s[middle] >= wanted) low = middle;
      else high = middle - 1;
    }
    const span = s[low + 1] - s[low];
    const line = (sigmoid(wanted) - this.bars[low]) / (this.bars[low + 1] - this.bars[low]);
    return (low + (Number.isFinite(span) ? (wanted - s[low]) / span : line)) / this.T;
  }

  override grid(steps: number): number[] {
    if (steps > this.T) throw new Error(`steps must be at most T = ${this.T}, the length of the schedule's table`);
    return Array.from({ length: steps + 1 }, (_, i) => roundHalfEven(this.T - (i * this.T) / steps) / this.T);
  }

  override cNoise(t: number): number {
    return t * this.T - 1;
  }
}

/** Round to the nearest integer, and halves to the even one, as Python does. */
export function roundHalfEven(x: number): number {
  const floor = Math.floor(x);
  if (x - floor !== 0.5) return Math.round(x);
  return floor % 2 ? floor + 1 : floor;
}

class Formula extends Schedule {
  constructor(
    settings: Settings,
    private readonly at: (t: number) => Scales,
    private readonly inverse: (logSnr: number) => number,
  ) {
    super(settings);
  }

  scales(t: number): Scales {
    return this.at(t);
  }

  time(logSnr: number): number {
    return clamp(this.inverse(logSnr));
  }
}

/** The betas of a table whose alpha_bar follows f; each beta is clipped. */
function fromBars(T: number, f: (u: number) => number, most: number): number[] {
  return Array.from({ length: T }, (_, k) => Math.min(Math.max(1 - f((k + 1) / T) / f(k / T), 0), most));
}

type Numbers = Record<string, number>;

const KINDS: Record<string, (given: Numbers, settings: Settings) => Schedule> = {
  linear: ({ T = 1000, beta_start = 1e-4, beta_end = 0.02 }, settings) => {
    const step = T > 1 ? (beta_end - beta_start) / (T - 1) : 0;
    return new Table(settings, Array.from({ length: T }, (_, k) => (k === T - 1 && T > 1 ? beta_end : beta_start + k * step))); // prettier-ignore
  },
  cosine: ({ T = 1000, s = 0.008, beta_max = 0.999 }, settings) => {
    const f = (u: number) => Math.cos((((u + s) / (1 + s)) * Math.PI) / 2) ** 2;
    return new Table(settings, fromBars(T, f, beta_max));
  },
  sigmoid: ({ T = 1000, start = -3, end = 3, tau = 1, beta_max = 0.999 }, settings) => {
    const logistic = (u: number) => 1 / (1 + Math.exp((start + u * (end - start)) / tau));
    const f = (u: number) => (logistic(u) - logistic(1)) / (logistic(0) - logistic(1));
    return new Table(settings, fromBars(T, f, beta_max));
  },
  betas: (_, settings) => new Table(settings, settings.table as number[]),
  vp: ({ beta_min = 0.1, beta_max = 20 }, settings) =>
    new Formula(
      settings,
      (t) => {
        const logAlpha = (-t * t * (beta_max - beta_min)) / 4 - (t * beta_min) / 2;
        return { alpha: Math.exp(logAlpha), sigma: Math.sqrt(-Math.expm1(2 * logAlpha)) };
      },
      (logSnr) => {
        const a = (beta_max - beta_min) / 2;
        const c = Math.max(-logSnr, 0) + Math.log1p(Math.exp(-Math.abs(logSnr)));
        return (2 * c) / (beta_min + Math.sqrt(beta_min * beta_min + 4 * a * c));
      },
    ),
  edm: ({ sigma_max = 80, rho = 7 }, settings) =>
    new Formula(
      settings,
      (t) => ({ alpha: 1, sigma: sigma_max * t ** rho }),
      (logSnr) => Math.exp(-(logSnr / 2 + Math.log(sigma_max)) / rho),
    ),
  flow: (_, settings) =>
    new Formula(
      settings,
      (t) => ({ alpha: 1 - t, sigma: t }),
      (logSnr) => sigmoid(-logSnr / 2),
    ),
  trig: (_, settings) =>
    new Formula(
      settings,
      (t) =>
        t === 1 ? { alpha: 0, sigma: 1 } : { alpha: Math.cos((t * Math.PI) / 2), sigma: Math.sin((t * Math.PI) / 2) },
      (logSnr) => (Math.atan(Math.exp(-logSnr / 2)) * 2) / Math.PI,
    ),
};

/** The names of the schedules that need no table of their own. */
export const SCHEDULES = ["linear", "cosine", "sigmoid", "vp", "edm", "flow", "trig"];

const made = new Map<string, Schedule>();

/** Return the schedule of these settings, or of this name with its defaults. */
export function schedule(settings: Settings | string): Schedule {
  const given = typeof settings === "string" ? { name: settings } : settings;
  const key = JSON.stringify(given);
  if (!made.has(key)) {
    if (!(given.name in KINDS)) throw new Error(`the page does not know the schedule ${given.name}`);
    made.set(key, KINDS[given.name](given as unknown as Numbers, given));
  }
  return made.get(key)!;
}
