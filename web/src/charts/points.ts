/** From the network's units to the plane that panels draw. */
import type { RunPayload } from "../payload";
import { unpack } from "../payload";

export interface Units {
  mean: Float32Array;
  std: Float32Array;
}

export function unitsOf(run: Pick<RunPayload, "scaling" | "shape">): Units {
  const each = (x: Float32Array) => (x.length === 1 ? new Float32Array(run.shape[0]).fill(x[0]) : x);
  return { mean: each(unpack(run.scaling.mean)), std: each(unpack(run.scaling.std)) };
}

/**
 * Where x_t is drawn: divided by hypot(alpha, sigma), so that a path that explodes stays in the picture (on a
 * variance-preserving path that is 1), then in the data's units.
 */
export function shown(
  z: Float32Array,
  size: number,
  { mean, std }: Units,
  into: Float32Array = new Float32Array(z.length),
): Float32Array {
  for (let i = 0; i < z.length; i++) into[i] = mean[i % 2] + (std[i % 2] * z[i]) / size;
  return into;
}

/** The inverse of `shown`. */
export function unshown(x: Float32Array, size: number, { mean, std }: Units): Float32Array {
  return x.map((value, i) => ((value - mean[i % 2]) / std[i % 2]) * size);
}
