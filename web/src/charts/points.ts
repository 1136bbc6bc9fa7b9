/** Conversions between the network's units and the plane of a panel. */
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
 * The place where x_t is drawn: x_t divided by hypot(alpha, sigma), then in the data's units. The division keeps paths
 * with growing variance in the picture; on a variance-preserving path the divisor is 1.
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
