/**
 * The arithmetic that costs time, in one of three ways that agree up to rounding: WebAssembly with fused multiply-add,
 * WebAssembly, and plain JavaScript. A kernel owns its memory. Every array that it gets must come from its `floats`.
 *
 * Weights of a layer are packed in panels of 8 columns, `[m/8][n][8]`, so that a panel is read in one run.
 */
import { RELAXED, SIMD } from "./kernel.wasm";

export type Backend = "relaxed" | "simd" | "plain";

export const ACTIVATIONS: Record<string, number> = { silu: 0, relu: 1, leaky_relu: 2, tanh: 3, gelu: 4 };

export interface Kernel {
  readonly backend: Backend;
  /** Return zeros in the kernel's memory. */
  floats(count: number): Float32Array;
  /** out[r] = x[r] W + b for rows of n and m numbers, W packed, m a multiple of 8. */
  affine(
    x: Float32Array,
    w: Float32Array,
    b: Float32Array,
    out: Float32Array,
    rows: number,
    n: number,
    m: number,
  ): void;
  /** h = act(h) for the first count numbers, a multiple of 4. */
  activate(h: Float32Array, count: number, kind: number): void;
  /** out[r] = [x, sin(x W), cos(x W)], W `[dim, count]`, rows of out being n long. */
  fourier(
    x: Float32Array,
    w: Float32Array,
    out: Float32Array,
    rows: number,
    dim: number,
    count: number,
    n: number,
  ): void;
  /** Posterior means and log-sum-exps in the plane; see `exact.ts` for params, `[6, count]`. */
  mixture(
    x: Float32Array,
    params: Float32Array,
    out: Float32Array,
    logs: Float32Array,
    rows: number,
    count: number,
    alpha: number,
  ): void;
}

const modules = new Map<string, WebAssembly.Module | null>();

function compiled(backend: "relaxed" | "simd"): WebAssembly.Module | null {
  if (!modules.has(backend)) {
    let found: WebAssembly.Module | null = null;
    try {
      const bytes = Uint8Array.from(atob(backend === "relaxed" ? RELAXED : SIMD), (c) => c.charCodeAt(0));
      if (WebAssembly.validate(bytes)) found = new WebAssembly.Module(bytes);
    } catch {
      found = null; // this browser has no WebAssembly, or a content policy forbids it
    }
    modules.set(backend, found);
  }
  return modules.get(backend) ?? null;
}

/** Return the fastest way that this browser has. */
export function best(): Backend {
  return compiled("relaxed") ? "relaxed" : compiled("simd") ? "simd" : "plain";
}

/** Make a kernel with memory for this many numbers. */
export function makeKernel(room: number, backend: Backend = best()): Kernel {
  const module = backend === "plain" ? null : compiled(backend);
  return module ? new Wasm(module, room, backend) : new Plain();
}

type Exports = Record<"affine" | "activate" | "fourier" | "mixture", (...numbers: number[]) => void>;

const PAGE = 65536;

class Wasm implements Kernel {
  private readonly memory: WebAssembly.Memory;
  private readonly run: Exports;
  private next = PAGE; // below lie the module's own tables

  constructor(
    module: WebAssembly.Module,
    room: number,
    readonly backend: Backend,
  ) {
    this.memory = new WebAssembly.Memory({ initial: Math.ceil((room * 4 + 4096) / PAGE) + 2 });
    this.run = new WebAssembly.Instance(module, { env: { memory: this.memory } }).exports as unknown as Exports;
  }

  floats(count: number): Float32Array {
    const at = this.next;
    this.next += Math.ceil(count / 4) * 16;
    if (this.next > this.memory.buffer.byteLength) throw new RangeError("the kernel's memory is too small");
    return new Float32Array(this.memory.buffer, at, count);
  }

  affine(
    x: Float32Array,
    w: Float32Array,
    b: Float32Array,
    out: Float32Array,
    rows: number,
    n: number,
    m: number,
  ): void {
    this.run.affine(x.byteOffset, w.byteOffset, b.byteOffset, out.byteOffset, rows, n, m);
  }

  activate(h: Float32Array, count: number, kind: number): void {
    this.run.activate(h.byteOffset, count, kind);
  }

  fourier(
    x: Float32Array,
    w: Float32Array,
    out: Float32Array,
    rows: number,
    dim: number,
    count: number,
    n: number,
  ): void {
    this.run.fourier(x.byteOffset, w.byteOffset, out.byteOffset, rows, dim, count, n);
  }

  mixture(
    x: Float32Array,
    params: Float32Array,
    out: Float32Array,
    logs: Float32Array,
    rows: number,
    count: number,
    alpha: number,
  ): void {
    this.run.mixture(x.byteOffset, params.byteOffset, out.byteOffset, logs.byteOffset, rows, count, alpha);
  }
}

class Plain implements Kernel {
  readonly backend = "plain";

  floats(count: number): Float32Array {
    return new Float32Array(count);
  }

  affine(
    x: Float32Array,
    w: Float32Array,
    b: Float32Array,
    out: Float32Array,
    rows: number,
    n: number,
    m: number,
  ): void {
    for (let r = 0; r < rows; r++) {
      for (let j = 0; j < m; j += 8) {
        let [a0, a1, a2, a3, a4, a5, a6, a7] = b.subarray(j, j + 8) as unknown as number[];
        for (let k = 0, p = j * n; k < n; k++, p += 8) {
          const y = x[r * n + k];
          a0 += y * w[p];
          a1 += y * w[p + 1];
          a2 += y * w[p + 2];
          a3 += y * w[p + 3];
          a4 += y * w[p + 4];
          a5 += y * w[p + 5];
          a6 += y * w[p + 6];
          a7 += y * w[p + 7];
        }
        out.set([a0, a1, a2, a3, a4, a5, a6, a7], r * m + j);
      }
    }
  }

  activate(h: Float32Array, count: number, kind: number): void {
    const act = PLAIN_ACTIVATIONS[kind];
    for (let i = 0; i < count; i++) h[i] = act(h[i]);
  }

  fourier(
    x: Float32Array,
    w: Float32Array,
    out: Float32Array,
    rows: number,
    dim: number,
    count: number,
    n: number,
  ): void {
    for (let r = 0; r < rows; r++) {
      for (let d = 0; d < dim; d++) out[r * n + d] = x[r * dim + d];
      for (let j = 0; j < count; j++) {
        let angle = 0;
        for (let d = 0; d < dim; d++) angle += x[r * dim + d] * w[d * count + j];
        out[r * n + dim + j] = Math.sin(angle);
        out[r * n + dim + count + j] = Math.cos(angle);
      }
    }
  }

  mixture(
    x: Float32Array,
    params: Float32Array,
    out: Float32Array,
    logs: Float32Array,
    rows: number,
    count: number,
    alpha: number,
  ): void {
    const [mx, my, offset, scale, shrink, gain] = [0, 1, 2, 3, 4, 5].map((i) =>
      params.subarray(i * count, (i + 1) * count),
    );
    const logits = new Float64Array(count);
    for (let r = 0; r < rows; r++) {
      const u = x[2 * r], v = x[2 * r + 1]; // prettier-ignore
      let top = -Infinity;
      for (let k = 0; k < count; k++) {
        const dx = u - alpha * mx[k], dy = v - alpha * my[k]; // prettier-ignore
        logits[k] = offset[k] - (dx * dx + dy * dy) * scale[k];
        if (logits[k] > top) top = logits[k];
      }
      let sum = 0, sx = 0, sy = 0, sg = 0; // prettier-ignore
      for (let k = 0; k < count; k++) {
        const e = Math.exp(logits[k] - top);
        sum += e;
        sx += e * shrink[k] * mx[k];
        sy += e * shrink[k] * my[k];
        sg += e * gain[k];
      }
      out[2 * r] = (sx + sg * u) / sum;
      out[2 * r + 1] = (sy + sg * v) / sum;
      logs[r] = top + Math.log(sum);
    }
  }
}

const PLAIN_ACTIVATIONS: ((x: number) => number)[] = [
  (x) => x / (1 + Math.exp(-x)),
  (x) => Math.max(x, 0),
  (x) => Math.max(x, 0.01 * x),
  Math.tanh,
  (x) => 0.5 * x * (1 + erf(x * Math.SQRT1_2)),
];

/** The error function, to 2e-7 (Abramowitz & Stegun 7.1.26). */
export function erf(x: number): number {
  const t = 1 / (1 + 0.3275911 * Math.abs(x));
  const p = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t;
  return Math.sign(x) * (1 - p * Math.exp(-x * x));
}

/** Pack a matrix given by `at(input, output)` for `affine`, in the kernel's memory; missing columns are zeros. */
export function packed(kernel: Kernel, n: number, m: number, at: (k: number, j: number) => number): Float32Array {
  const width = Math.ceil(m / 8) * 8;
  const out = kernel.floats(width * n);
  for (let j = 0; j < m; j++) {
    const start = (j >> 3) * 8 * n + (j & 7);
    for (let k = 0; k < n; k++) out[start + 8 * k] = at(k, j);
  }
  return out;
}
