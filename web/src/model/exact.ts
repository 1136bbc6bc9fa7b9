/**
 * The exact denoiser of a mixture of round Gaussians: E[x0 | x_t] = sum_k r_k (shrink_k m_k + gain_k x_t), the
 * responsibilities r_k being proportional to w_k N(x_t; alpha m_k, alpha^2 s_k^2 + sigma^2). A finite set has s_k = 0.
 */
import { type DistributionPayload, unpack } from "../payload";
import { type Backend, type Kernel, makeKernel } from "./kernel";

const ROWS = 512;

export class Mixture {
  readonly count: number;
  readonly means: Float32Array;
  readonly stds: Float32Array;
  readonly weights: Float32Array;
  readonly labels: number[] | null;
  private readonly kernel: Kernel;
  private readonly width: number;
  private readonly params: Float32Array;
  private readonly x: Float32Array;
  private readonly out: Float32Array;
  private readonly logs: Float32Array;

  constructor(
    readonly distribution: DistributionPayload,
    private readonly backend?: Backend,
    only: number | null = null,
  ) {
    const all = unpack(distribution.means);
    const n = distribution.means.shape[0];
    const kept = Array.from({ length: n }, (_, k) => k).filter(
      (k) => only === null || distribution.labels?.[k] === only,
    );
    const stds =
      typeof distribution.std === "number" ? new Float32Array(n).fill(distribution.std) : unpack(distribution.std);
    const weights = distribution.weights ? unpack(distribution.weights) : new Float32Array(n).fill(1 / n);
    if (!kept.length) throw new Error(`the distribution has no label ${only}`);
    const total = kept.reduce((sum, k) => sum + weights[k], 0);
    this.count = kept.length;
    this.labels = distribution.labels ? kept.map((k) => distribution.labels![k]) : null;
    this.means = Float32Array.from(kept.flatMap((k) => [all[2 * k], all[2 * k + 1]]));
    this.stds = Float32Array.from(kept, (k) => stds[k]);
    this.weights = Float32Array.from(kept, (k) => weights[k] / total);
    this.width = Math.ceil(this.count / 4) * 4;
    this.kernel = makeKernel(6 * this.width + 5 * ROWS + 64, backend);
    this.params = this.kernel.floats(6 * this.width);
    for (let k = 0; k < this.count; k++) {
      this.params[k] = this.means[2 * k];
      this.params[this.width + k] = this.means[2 * k + 1];
    }
    this.x = this.kernel.floats(2 * ROWS);
    this.out = this.kernel.floats(2 * ROWS);
    this.logs = this.kernel.floats(ROWS);
  }

  /** The distribution of one label's data. */
  only(label: number): Mixture {
    return new Mixture(this.distribution, this.backend, label);
  }

  /** E[x0 | x_t] for x_t `[rows, 2]`, and log p_t(x_t), normalised. */
  at(x: Float32Array, rows: number, alpha: number, sigma: number): { x0: Float32Array; logs: Float32Array } {
    const w = this.width;
    for (let k = 0; k < w; k++) {
      const real = k < this.count;
      const variance = real ? this.stds[k] ** 2 : 0;
      const total = Math.max(alpha * alpha * variance + sigma * sigma, 1e-30);
      const gain = (alpha * variance) / total;
      this.params[2 * w + k] = real ? Math.log(this.weights[k]) - Math.log(2 * Math.PI * total) : -1e30;
      this.params[3 * w + k] = 0.5 / total;
      this.params[4 * w + k] = 1 - alpha * gain;
      this.params[5 * w + k] = gain;
    }
    const answer = { x0: new Float32Array(2 * rows), logs: new Float32Array(rows) };
    for (let start = 0; start < rows; start += ROWS) {
      const count = Math.min(ROWS, rows - start);
      this.x.set(x.subarray(2 * start, 2 * (start + count)));
      this.kernel.mixture(this.x, this.params, this.out, this.logs, count, w, alpha);
      answer.x0.set(this.out.subarray(0, 2 * count), 2 * start);
      answer.logs.set(this.logs.subarray(0, count), start);
    }
    return answer;
  }
}
