/** What a sampler is: a rule for one step from t to s < t, and the times that it steps through. */
import type { Denoiser, Label, Spread } from "./denoiser";
import type { Schedule } from "./schedule";

export interface StepInput {
  denoiser: Denoiser;
  x: Float32Array;
  rows: number;
  t: number;
  s: number;
  label: Label;
  noise: () => Float32Array;
}

export interface StepOutput {
  x: Float32Array;
  x0: Float32Array;
}

export interface Rule {
  step(given: StepInput): StepOutput;
  grid(schedule: Schedule, steps: number, spread: Spread): number[];
}

export interface SamplerSettings {
  name: "ddpm" | "ddim" | "multistep" | "consistency";
  eta?: number;
  variance?: "small" | "large" | "learned";
  order?: number;
}
