/**
 * The perceptron of `fromnoise.nn.mlp`, forward only. All rows share one time and one label, so their part of the first
 * layer is one vector for each step. Rows go through all layers in blocks that stay in the cache.
 */
import { type NetworkPayload, unpack } from "../payload";
import { ACTIVATIONS, type Backend, type Kernel, makeKernel, packed } from "./kernel";

const BLOCK = 64;

interface Layer {
  w: Float32Array;
  b: Float32Array;
  n: number;
  m: number;
}

/** A residual block: h + second(act(first(act(h)) + shift(act(g)))), where g depends on time and label only. */
interface Block {
  first: Layer;
  shift: (g: Float32Array) => Float32Array;
  second: Layer;
}

export class Network {
  readonly dim: number;
  /** How many numbers the network puts out for each row: twice `dim` where it predicts a variance too. */
  readonly outputs: number;
  private readonly kernel: Kernel;
  private readonly hidden: number;
  private readonly seen: number;
  private readonly act: number;
  private readonly frequencies: Float32Array | null = null;
  private readonly count: number;
  private readonly onX: Layer;
  private readonly onTime: Float32Array;
  private readonly timeDim: number;
  private readonly firstBias: Float32Array;
  private readonly labels: Float32Array | null;
  /** The cosine series of the guidance scale, `[hidden, terms]`, and the range of scales. */
  private readonly series: { weight: Float32Array; terms: number; low: number; high: number } | null = null;
  private readonly layers: Layer[] = [];
  private readonly blocks: Block[] = [];
  private readonly out: Layer;
  private readonly h: Float32Array[];
  private readonly x: Float32Array;
  private readonly features: Float32Array;
  private readonly result: Float32Array;

  constructor(payload: NetworkPayload, backend?: Backend) {
    const s = payload.settings;
    const tensor = (name: string) => unpack(payload.tensors[name]);
    this.dim = s.dim;
    this.hidden = s.hidden;
    this.count = s.fourier;
    this.seen = s.dim + 2 * s.fourier;
    this.act = ACTIVATIONS[s.activation];
    this.outputs = s.learned_variance ? 2 * s.dim : s.dim;
    this.timeDim = s.time_dim;
    this.kernel = makeKernel(room(s), backend);
    if (s.fourier) {
      const w = tensor("features.weight"); // [count, dim]
      this.frequencies = this.kernel.floats(s.dim * s.fourier);
      for (let j = 0; j < s.fourier; j++)
        for (let d = 0; d < s.dim; d++) this.frequencies[d * s.fourier + j] = w[j * s.dim + d];
    }
    const first = tensor("first.weight"); // [H, seen + time_dim]
    const width = this.seen + s.time_dim;
    this.onX = this.layer(this.seen, s.hidden, (k, j) => first[j * width + k], new Float32Array(s.hidden));
    this.onTime = Float32Array.from({ length: s.hidden * s.time_dim }, (_, i) => {
      return first[Math.floor(i / s.time_dim) * width + this.seen + (i % s.time_dim)];
    });
    this.firstBias = tensor("first.bias");
    this.labels = s.classes ? tensor("condition.table.weight") : null;
    if (s.guidance) {
      const weight = tensor("condition.guidance.series.weight");
      this.series = { weight, terms: weight.length / s.hidden, low: s.guidance[0], high: s.guidance[1] };
    }
    const linear = (name: string, n: number, m: number) => {
      const w = tensor(`${name}.weight`);
      return this.layer(n, m, (k, j) => w[j * n + k], tensor(`${name}.bias`));
    };
    for (let i = 0; i < (s.residual ? s.depth : s.depth - 1); i++) {
      if (s.residual) this.blocks.push(this.block(`layers.${i}`, tensor, linear));
      else this.layers.push(linear(`layers.${i}`, s.hidden, s.hidden));
    }
    this.out = linear("out", s.hidden, this.outputs);
    this.x = this.kernel.floats(BLOCK * s.dim);
    this.features = this.kernel.floats(BLOCK * this.seen);
    this.h = [0, 1, 2].map(() => this.kernel.floats(BLOCK * this.onX.m));
    this.result = this.kernel.floats(BLOCK * this.out.m);
  }

  get backend(): Backend {
    return this.kernel.backend;
  }

  /**
   * Return the network output for x, `[rows, dim]`. All rows share one time, one label, null for none, and one guidance
   * scale, for a network that is told it: 1, or the nearest that it knows, where none is given.
   */
  output(x: Float32Array, rows: number, cNoise: number, label: number | null, scale?: number): Float32Array {
    const given = this.embed(cNoise, label);
    if (this.series) {
      const { weight, terms, low, high } = this.series;
      const u = ((scale ?? Math.min(Math.max(1, low), high)) - low) / (high - low || 1);
      for (let j = 0; j < given.length; j++)
        for (let k = 0; k < terms; k++) given[j] += weight[j * terms + k] * Math.cos(Math.PI * u * k);
    }
    this.onX.b.set(given);
    const shifts = this.blocks.map((block) => block.shift(given));
    const output = new Float32Array(rows * this.outputs);
    for (let start = 0; start < rows; start += BLOCK) {
      const count = Math.min(BLOCK, rows - start);
      this.x.set(x.subarray(start * this.dim, (start + count) * this.dim));
      this.forward(count, shifts);
      for (let r = 0; r < count; r++) {
        for (let d = 0; d < this.outputs; d++) output[(start + r) * this.outputs + d] = this.result[r * this.out.m + d];
      }
    }
    return output;
  }

  private forward(rows: number, shifts: Float32Array[]): void {
    const { kernel } = this;
    let [h, next, spare] = this.h;
    let seen = this.x;
    if (this.frequencies) {
      kernel.fourier(this.x, this.frequencies, this.features, rows, this.dim, this.count, this.seen);
      seen = this.features;
    }
    this.apply(this.onX, seen, h, rows);
    for (const layer of this.layers) {
      kernel.activate(h, rows * layer.n, this.act);
      this.apply(layer, h, next, rows);
      [h, next] = [next, h];
    }
    this.blocks.forEach((block, i) => {
      const width = block.first.m;
      spare.set(h);
      kernel.activate(spare, rows * width, this.act);
      block.first.b.set(shifts[i]);
      this.apply(block.first, spare, next, rows);
      kernel.activate(next, rows * width, this.act);
      this.apply(block.second, next, spare, rows);
      for (let k = 0; k < rows * width; k++) h[k] += spare[k];
    });
    kernel.activate(h, rows * this.onX.m, this.act);
    this.apply(this.out, h, this.result, rows);
  }

  private apply(layer: Layer, x: Float32Array, out: Float32Array, rows: number): void {
    this.kernel.affine(x, layer.w, layer.b, out, rows, layer.n, layer.m);
  }

  /** The part of the first layer that time and label determine: W_t emb(t) + b, plus the label's row. */
  private embed(cNoise: number, label: number | null): Float32Array {
    const { hidden, timeDim } = this;
    const emb = embedding(cNoise, timeDim);
    const g = new Float32Array(hidden);
    const row = this.labels ? (label ?? this.labels.length / hidden - 1) * hidden : 0;
    for (let j = 0; j < hidden; j++) {
      let sum = this.firstBias[j] + (this.labels ? this.labels[row + j] : 0);
      for (let k = 0; k < timeDim; k++) sum += this.onTime[j * timeDim + k] * emb[k];
      g[j] = sum;
    }
    return g;
  }

  /** Pack a layer. Hidden widths that are not a multiple of 8 are filled up with zeros. */
  private layer(n: number, m: number, at: (k: number, j: number) => number, bias: Float32Array): Layer {
    const inner = n === this.seen || n === this.dim ? n : Math.ceil(n / 8) * 8;
    const w = packed(this.kernel, inner, m, (k, j) => (k < n ? at(k, j) : 0));
    const width = Math.ceil(m / 8) * 8;
    const b = this.kernel.floats(width);
    b.set(bias);
    return { w, b, n: inner, m: width };
  }

  private block(
    name: string,
    tensor: (name: string) => Float32Array,
    linear: (name: string, n: number, m: number) => Layer,
  ): Block {
    const { hidden } = this;
    const first = linear(`${name}.first`, hidden, hidden);
    const bias = first.b.slice(0, hidden);
    const onTime = tensor(`${name}.modulation.weight`);
    const act = (x: number) => this.one(x);
    const shift = (g: Float32Array) =>
      Float32Array.from({ length: hidden }, (_, j) => {
        let sum = bias[j];
        for (let k = 0; k < hidden; k++) sum += onTime[j * hidden + k] * act(g[k]);
        return sum;
      });
    return { first, shift, second: linear(`${name}.second`, hidden, hidden) };
  }

  private one(x: number): number {
    const slot = this.scratch;
    slot[0] = x;
    this.kernel.activate(slot, 4, this.act);
    return slot[0];
  }

  private get scratch(): Float32Array {
    return this.result.subarray(0, 4);
  }
}

/** sin and cos of c_noise at decreasing frequencies, in float32 as torch computes them. */
export function embedding(cNoise: number, width: number): Float32Array {
  const half = width / 2;
  const out = new Float32Array(width);
  for (let k = 0; k < half; k++) {
    const angle = Math.fround(Math.fround(cNoise) * Math.fround(Math.exp((-Math.log(10000) * k) / half)));
    out[k] = Math.sin(angle);
    out[half + k] = Math.cos(angle);
  }
  return out;
}

/** How many numbers a network needs in the kernel's memory. */
function room(s: NetworkPayload["settings"]): number {
  const h = Math.ceil(s.hidden / 8) * 8;
  const seen = s.dim + 2 * s.fourier;
  const each = s.residual ? 2 * (h * h + 2 * h) : h * h + h;
  return (
    (seen + 2) * (h + 16) + s.depth * each + (h + 1) * (2 * s.dim + 16) + BLOCK * (seen + s.dim + 4 * h + 32) + 4096
  );
}
