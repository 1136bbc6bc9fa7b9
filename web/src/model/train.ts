/**
 * Training in the page: the library's default recipe for points (EDM's schedule, preconditioning, weighting and times),
 * on a perceptron small enough for a browser. Its gradient is written out by hand. The result is a model like any other.
 */
import { type ModelPayload, type NetworkPayload, pack } from "../payload";
import { Mixture } from "./exact";
import { erf, type Kernel, makeKernel } from "./kernel";
import { embedding } from "./network";
import { Stream } from "./random";
import { schedule } from "./schedule";

export interface TrainSettings {
  steps: number;
  batch: number;
  hidden: number;
  depth: number;
  fourier: number;
  seed: number;
  lr: number;
}

export const TRAIN_DEFAULTS: TrainSettings = {
  steps: 3000,
  batch: 256,
  hidden: 64,
  depth: 3,
  fourier: 32,
  seed: 0,
  lr: 3e-3,
};

const TIME_DIM = 32;
const FOURIER_SCALE = 0.4;
const EMA = 0.998;
const LEVELS = { mean: -0.5, sd: 1.2 };

/** A linear layer: its weights `[n, m]`, its bias, and the gradients of both. */
class Linear {
  readonly w: Float32Array;
  readonly b: Float32Array;
  readonly dw: Float32Array;
  readonly db: Float32Array;
  readonly x: Float32Array;
  readonly out: Float32Array;
  readonly width: number;
  private readonly panels: Float32Array;
  private readonly back: Float32Array;
  private readonly bias: Float32Array;
  private readonly turned: Float32Array;
  private readonly deltas: Float32Array;
  private readonly gradient: Float32Array;
  private readonly zeros: Float32Array;
  private readonly inner: number;

  constructor(
    private readonly kernel: Kernel,
    readonly n: number,
    readonly m: number,
    private readonly rows: number,
    stream: Stream,
  ) {
    this.width = Math.ceil(m / 8) * 8;
    this.inner = Math.ceil(n / 8) * 8;
    const bound = 1 / Math.sqrt(n);
    this.w = Float32Array.from({ length: n * m }, () => (2 * stream.uniform() - 1) * bound);
    this.b = Float32Array.from({ length: m }, () => (2 * stream.uniform() - 1) * bound);
    this.dw = new Float32Array(n * m);
    this.db = new Float32Array(m);
    this.x = kernel.floats(rows * n);
    this.out = kernel.floats(rows * this.width);
    this.panels = kernel.floats(n * this.width);
    this.back = kernel.floats(this.width * this.inner);
    this.bias = kernel.floats(this.width);
    this.turned = kernel.floats(n * rows);
    this.deltas = kernel.floats(rows * this.width);
    this.gradient = kernel.floats(n * this.width);
    this.zeros = kernel.floats(Math.max(this.inner, this.width));
  }

  static room(n: number, m: number, rows: number): number {
    const [width, inner] = [m + 8, n + 8];
    return rows * (2 * n + 2 * width) + 2 * n * width + width * inner + 2 * width + inner + 128;
  }

  /** out = x W + b, for the rows that `x` holds. */
  forward(): Float32Array {
    const { n, m, width } = this;
    for (let j = 0; j < m; j++) {
      const start = (j >> 3) * 8 * n + (j & 7);
      for (let k = 0; k < n; k++) this.panels[start + 8 * k] = this.w[k * m + j];
    }
    this.bias.set(this.b);
    this.kernel.affine(this.x, this.panels, this.bias, this.out, this.rows, n, width);
    return this.out;
  }

  /** From the loss's gradient at `out` (`delta`, rows of `width`) compute those at W and b, and that at x (`into`). */
  backward(delta: Float32Array, into: Float32Array | null): void {
    const { n, m, rows, width, inner } = this;
    for (let r = 0; r < rows; r++) for (let k = 0; k < n; k++) this.turned[k * rows + r] = this.x[r * n + k];
    for (let j = 0; j < width; j++) {
      const start = (j >> 3) * 8 * rows + (j & 7);
      for (let r = 0; r < rows; r++) this.deltas[start + 8 * r] = delta[r * width + j];
    }
    this.kernel.affine(this.turned, this.deltas, this.zeros, this.gradient, n, rows, width);
    for (let k = 0; k < n; k++) for (let j = 0; j < m; j++) this.dw[k * m + j] = this.gradient[k * width + j];
    this.db.fill(0);
    for (let r = 0; r < rows; r++) for (let j = 0; j < m; j++) this.db[j] += delta[r * width + j];
    if (!into) return;
    for (let k = 0; k < n; k++) {
      const start = (k >> 3) * 8 * width + (k & 7);
      for (let j = 0; j < m; j++) this.back[start + 8 * j] = this.w[k * m + j];
    }
    this.kernel.affine(delta, this.back, this.zeros, into, rows, width, inner);
  }
}

/** Adam with bias correction (Kingma & Ba 2015, Algorithm 1). */
class Adam {
  private readonly first: Float32Array;
  private readonly second: Float32Array;

  constructor(private readonly size: number) {
    this.first = new Float32Array(size);
    this.second = new Float32Array(size);
  }

  update(w: Float32Array, gradient: Float32Array, lr: number, step: number): void {
    const rate = (lr * Math.sqrt(1 - 0.999 ** step)) / (1 - 0.9 ** step);
    for (let i = 0; i < this.size; i++) {
      const g = gradient[i];
      this.first[i] += 0.1 * (g - this.first[i]);
      this.second[i] += 0.001 * (g * g - this.second[i]);
      w[i] -= (rate * this.first[i]) / (Math.sqrt(this.second[i]) + 1e-8);
    }
  }
}

export class Trainer {
  readonly path = schedule("edm");
  step = 0;
  private readonly kernel: Kernel;
  private readonly layers: Linear[];
  private readonly optimizers: { w: Adam; b: Adam }[];
  private readonly averages: { w: Float32Array; b: Float32Array }[];
  private readonly frequencies: Float32Array;
  private readonly stream: Stream;
  private readonly before: Float32Array[];
  private readonly deltas: Float32Array[];
  private readonly mean: [number, number];
  private readonly std: number;
  private readonly data: Float32Array;
  private readonly seen: number;

  constructor(
    points: Float32Array,
    readonly settings: TrainSettings,
  ) {
    const { hidden, depth, fourier, batch, seed } = settings;
    const n = points.length / 2;
    this.mean = [0, 1].map((d) => points.reduce((sum, value, i) => sum + (i % 2 === d ? value : 0), 0) / n) as [
      number,
      number,
    ];
    this.std = Math.sqrt(points.reduce((sum, value, i) => sum + (value - this.mean[i % 2]) ** 2, 0) / (2 * n)) || 1;
    this.data = points.map((value, i) => (value - this.mean[i % 2]) / this.std);
    this.seen = 2 + 2 * fourier;
    const sizes = [
      [this.seen + TIME_DIM, hidden],
      ...Array.from({ length: depth - 1 }, () => [hidden, hidden]),
      [hidden, 2],
    ];
    const room =
      sizes.reduce((sum, [a, b]) => sum + Linear.room(a, b, batch), 0) + batch * (hidden + 8) * (3 * depth + 4);
    this.kernel = makeKernel(room + 8 * batch);
    const weights = new Stream(seed, "network");
    this.layers = sizes.map(([a, b]) => new Linear(this.kernel, a, b, batch, weights));
    this.optimizers = this.layers.map(({ w, b }) => ({ w: new Adam(w.length), b: new Adam(b.length) }));
    this.averages = this.layers.map(({ w, b }) => ({ w: w.slice(), b: b.slice() }));
    this.frequencies = weights.normal(new Float32Array(Math.ceil((2 * fourier) / 16) * 16)).subarray(0, 2 * fourier);
    for (let i = 0; i < this.frequencies.length; i++) this.frequencies[i] *= 2 * Math.PI * FOURIER_SCALE;
    this.before = this.layers.slice(0, -1).map(() => new Float32Array(batch * hidden));
    this.deltas = this.layers.map((layer) => this.kernel.floats(batch * (layer === this.layers[0] ? 8 : layer.n + 8)));
    this.stream = new Stream(seed, "train");
  }

  /** Do one step and return its loss: the squared error of the network's output F, which is EDM's weighted loss. */
  advance(): number {
    const { batch, lr, steps } = this.settings;
    const { target } = this.noised();
    const out = this.forward();
    const last = this.layers[this.layers.length - 1];
    const delta = this.kernelDelta;
    delta.fill(0);
    let loss = 0;
    for (let r = 0; r < batch; r++) {
      for (let d = 0; d < 2; d++) {
        const error = out[r * last.width + d] - target[2 * r + d];
        loss += error * error;
        delta[r * last.width + d] = error / batch;
      }
    }
    this.backward(delta);
    this.step += 1;
    const rate = lr * 0.5 * (1 + Math.cos((Math.PI * this.step) / steps));
    const decay = Math.min(EMA, (1 + this.step) / (10 + this.step));
    this.layers.forEach((layer, i) => {
      this.optimizers[i].w.update(layer.w, layer.dw, rate, this.step);
      this.optimizers[i].b.update(layer.b, layer.db, rate, this.step);
      average(this.averages[i].w, layer.w, decay);
      average(this.averages[i].b, layer.b, decay);
    });
    return loss / (2 * batch);
  }

  /** The lowest expected loss that any network can reach on these points: the loss of their exact denoiser. */
  floor(): number {
    const strata = 48;
    const rows = 128;
    const mixture = new Mixture(this.model().law!);
    const stream = new Stream(this.settings.seed, "floor");
    let sum = 0;
    for (let k = 0; k < strata; k++) {
      const sigma = Math.exp(LEVELS.mean + LEVELS.sd * normalQuantile((k + 0.5) / strata));
      const eps = stream.normal(new Float32Array(2 * rows));
      const clean = new Float32Array(2 * rows);
      for (let r = 0; r < rows; r++) {
        const row = Math.floor((stream.uniform() * this.data.length) / 2);
        for (let d = 0; d < 2; d++) clean[2 * r + d] = this.data[2 * row + d];
      }
      const { x0 } = mixture.at(
        clean.map((value, i) => value + sigma * eps[i]),
        rows,
        1,
        sigma,
      );
      const cOut = sigma / Math.hypot(sigma, 1); // c_out in x0_hat = c_skip x_t + c_out F
      for (let i = 0; i < x0.length; i++) sum += ((x0[i] - clean[i]) / cOut) ** 2 / (2 * rows * strata);
    }
    return sum;
  }

  private delta: Float32Array | null = null;

  private get kernelDelta(): Float32Array {
    this.delta ??= this.kernel.floats(this.settings.batch * 8);
    return this.delta;
  }

  /** Fill the first layer's input with a noisy batch, and return the target of the network's output. */
  private noised(): { target: Float32Array } {
    const { batch, fourier } = this.settings;
    const first = this.layers[0];
    const eps = this.stream.normal(new Float32Array(2 * batch));
    const z = this.stream.normal(new Float32Array(Math.ceil(batch / 16) * 16));
    const target = new Float32Array(2 * batch);
    const n = this.data.length / 2;
    const { path } = this;
    for (let r = 0; r < batch; r++) {
      const row = Math.floor(this.stream.uniform() * n);
      const sigma = Math.min(Math.exp(LEVELS.mean + LEVELS.sd * z[r]), 80);
      const size = Math.hypot(sigma, 1);
      const at = r * first.n;
      for (let d = 0; d < 2; d++) {
        const x0 = this.data[2 * row + d];
        first.x[at + d] = (x0 + sigma * eps[2 * r + d]) / size;
        target[2 * r + d] = (sigma * x0 - eps[2 * r + d]) / size;
      }
      for (let j = 0; j < fourier; j++) {
        const angle = first.x[at] * this.frequencies[2 * j] + first.x[at + 1] * this.frequencies[2 * j + 1];
        first.x[at + 2 + j] = Math.sin(angle);
        first.x[at + 2 + fourier + j] = Math.cos(angle);
      }
      first.x.set(embedding(path.cNoise(path.timeOfLevel(sigma)), TIME_DIM), at + this.seen);
    }
    return { target };
  }

  private forward(): Float32Array {
    const { batch, hidden } = this.settings;
    let out = this.layers[0].forward();
    for (let i = 1; i < this.layers.length; i++) {
      const { x } = this.layers[i];
      const { width } = this.layers[i - 1];
      const kept = this.before[i - 1];
      for (let r = 0; r < batch; r++) {
        for (let j = 0; j < hidden; j++) {
          const h = out[r * width + j];
          kept[r * hidden + j] = h;
          x[r * hidden + j] = h / (1 + Math.exp(-h));
        }
      }
      out = this.layers[i].forward();
    }
    return out;
  }

  private backward(delta: Float32Array): void {
    const { batch, hidden } = this.settings;
    for (let i = this.layers.length - 1; i >= 0; i--) {
      const into = i > 0 ? this.deltas[i] : null;
      this.layers[i].backward(delta, into);
      if (!into) break;
      const { width } = this.layers[i - 1];
      const inner = Math.ceil(hidden / 8) * 8;
      const kept = this.before[i - 1];
      for (let r = 0; r < batch; r++) {
        for (let j = 0; j < hidden; j++) {
          const h = kept[r * hidden + j];
          const gate = 1 / (1 + Math.exp(-h));
          into[r * inner + j] *= gate * (1 + h * (1 - gate)); // silu'
        }
      }
      if (inner !== width) throw new Error("hidden widths are multiples of 8");
      delta = into;
    }
  }

  /** The averaged weights as a model. */
  model(): ModelPayload {
    const { hidden, depth, fourier } = this.settings;
    const settings: NetworkPayload["settings"] = {
      name: "mlp", dim: 2, hidden, depth, activation: "silu", residual: false, fourier, time_dim: TIME_DIM,
      classes: 0, learned_variance: false,
    }; // prettier-ignore
    const names = this.layers.map((_, i) =>
      i === 0 ? "first" : i === this.layers.length - 1 ? "out" : `layers.${i - 1}`,
    );
    const tensors: NetworkPayload["tensors"] = {
      "features.weight": pack(Float32Array.from(this.frequencies), [fourier, 2]),
    };
    this.layers.forEach(({ n, m }, i) => {
      const { w, b } = this.averages[i];
      tensors[`${names[i]}.weight`] = pack(
        Float32Array.from({ length: n * m }, (_, p) => w[(p % n) * m + Math.floor(p / n)]),
        [m, n],
      );
      tensors[`${names[i]}.bias`] = pack(b);
    });
    return {
      shape: [2],
      schedule: this.path.settings,
      predict: "edm",
      sigma_data: 1,
      effective_dimension: effectiveDimension(this.data),
      scaling: { mean: pack(Float32Array.from(this.mean)), std: pack(Float32Array.from([this.std])) },
      labels: [],
      network: { settings, tensors },
      law: {
        means: pack(this.data, [this.data.length / 2, 2]),
        std: 0,
        weights: null,
        labels: null,
        note: "the points that were drawn",
      },
    };
  }
}

/** (tr C)^2/tr C^2 of points in the plane with mean 0. */
function effectiveDimension(points: Float32Array): number {
  let [xx, yy, xy] = [0, 0, 0];
  for (let i = 0; i < points.length; i += 2) {
    xx += points[i] ** 2;
    yy += points[i + 1] ** 2;
    xy += points[i] * points[i + 1];
  }
  return (xx + yy) ** 2 / (xx ** 2 + yy ** 2 + 2 * xy ** 2);
}

function average(kept: Float32Array, now: Float32Array, decay: number): void {
  for (let i = 0; i < kept.length; i++) kept[i] += (1 - decay) * (now[i] - kept[i]);
}

/** A quantile of the standard normal distribution, by bisection; few are needed, so speed does not matter. */
function normalQuantile(u: number): number {
  let [low, high] = [-8, 8];
  for (let k = 0; k < 50; k++) {
    const middle = (low + high) / 2;
    if (0.5 * (1 + erf(middle * Math.SQRT1_2)) < u) low = middle;
    else high = middle;
  }
  return (low + high) / 2;
}
