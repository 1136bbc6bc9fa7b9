/** The data that Python gives to the page; `fromnoise.export.payload` makes it. */
import type { Settings } from "./model/schedule";

export interface Packed {
  shape: number[];
  data: string;
}

export interface NetworkPayload {
  settings: {
    name: string;
    dim: number;
    hidden: number;
    depth: number;
    activation: string;
    residual: boolean;
    fourier: number;
    time_dim: number;
    classes: number;
    learned_variance: boolean;
    /** The lowest and the highest guidance scale that the network is told. */
    guidance?: [number, number];
  };
  tensors: Record<string, Packed>;
}

export interface DistributionPayload {
  means: Packed;
  std: number | Packed;
  weights: Packed | null;
  labels: number[] | null;
  note: string;
}

/** How a model of few steps is sampled. */
export interface FewSteps {
  sampler: "ddim" | "consistency";
  steps: number;
  /** The largest number of steps; null where it takes no other number. */
  most: number | null;
  /** The times of its finest grid, from 1 to 0. */
  finest: number[];
}

/** The data from which the page makes a denoiser. */
export interface ModelPayload {
  shape: number[];
  schedule: Settings;
  predict: string;
  sigma_data: number;
  effective_dimension: number;
  scaling: { mean: Packed; std: Packed };
  labels: string[];
  few_steps?: FewSteps | null;
  network: NetworkPayload | null;
  law: DistributionPayload | null;
}

export interface RunPayload extends ModelPayload {
  id?: string;
  name: string;
  data_name: string;
  step: number;
  batch_size: number;
  parameters: number;
  why_not: string;
  samples: number;
  points: { x: Packed; labels: number[] | null } | null;
  /** Of a run of pictures: samples, and the way from noise to a few, drawn where the page was made, as data URLs. */
  pictures?: { sheet: string; strip: string } | null;
  /** Fresh draws of each label's data, divided by the unit in which distances are measured. */
  truth: Record<string, { draws: Packed; floor: number; unit: [number, number] }>;
  training: {
    loss: number | null;
    steps: number[];
    losses: number[];
    floor: { value: number; zero_output_loss: number; law: string } | null;
  };
}

export interface CodeLine {
  file: string;
  line: number;
  text: string;
}

/** One trajectory, for a notebook. */
export interface TrajectoryPayload {
  title: string;
  /** The time of each frame. */
  times: number[];
  /** `[frames, n, 2]`, divided by hypot(alpha, sigma), ready to be drawn. */
  x: Packed;
}

export interface Payload {
  format: number;
  fromnoise: string;
  runs: RunPayload[];
  code: Record<string, CodeLine>;
  live?: { api: string };
  /** Instead of runs: one trajectory, drawn in Python. */
  trajectory?: TrajectoryPayload;
  /** Whether a notebook's widget holds the page and exchanges messages with it. */
  embedded?: boolean;
}

/** Return the numbers of an array. */
export function unpack(packed: Packed): Float32Array {
  const bytes = Uint8Array.from(atob(packed.data), (c) => c.charCodeAt(0));
  return new Float32Array(bytes.buffer);
}

/** Return numbers as an array of a payload. */
export function pack(x: Float32Array, shape: number[] = [x.length]): Packed {
  const bytes = new Uint8Array(x.buffer, x.byteOffset, x.byteLength);
  let text = "";
  for (let i = 0; i < bytes.length; i += 8192) text += String.fromCharCode(...bytes.subarray(i, i + 8192));
  return { shape, data: btoa(text) };
}
