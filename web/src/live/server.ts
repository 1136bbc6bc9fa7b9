/** Requests to the studio's server: runs, samples step by step, trainings. */
import type { SampleQuestion, Walk } from "../engine/tasks";
import { pathFor } from "../model/samplers";
import { schedule } from "../model/schedule";
import { type RunPayload, unpack } from "../payload";
import { unitsOf } from "../charts/points";
import type { Walker } from "./walker";

export interface Listed {
  id: string;
  name: string;
  state: "done" | "queued" | "training" | "stopped" | "failed" | "damaged" | "gone";
  step: number;
  steps: number;
}

/** Send a request that is answered with JSON. An error has the server's own message. */
export async function ask<Answer>(api: string, place: string, body?: unknown): Promise<Answer> {
  const options =
    body === undefined
      ? {}
      : { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
  let response: Response;
  try {
    response = await fetch(`${api}${place}`, options);
  } catch {
    throw new Error("the studio does not answer: start it again with the command fromnoise studio");
  }
  const text = await response.text();
  let answer: Answer & { error?: string };
  try {
    answer = JSON.parse(text);
  } catch {
    throw new Error(`the studio answered ${response.status}`);
  }
  if (!response.ok) throw new Error(answer.error ?? `the studio answered ${response.status}`);
  return answer;
}

/** The name of the event that announces a new training to the page. */
export const BEGUN = "fromnoise:begun";

export interface Asked {
  data: string | { name: string; points: number[][] };
  recipe: string;
  changes: Record<string, unknown>;
}

/** Start a training on the server, and return a line about it for the reader. */
export async function train(api: string, asked: Asked): Promise<string> {
  const { position } = await ask<{ id: string; position: number }>(api, "/trainings", asked);
  document.dispatchEvent(new CustomEvent(BEGUN));
  return position ? `The training waits; ${position} before it.` : "The training has started; see the top of the page.";
}

/** One step as the server sends it: samples as base64 of float32, in the data's units. */
interface Line {
  t: number;
  alpha: number;
  sigma: number;
  x: string;
  x0_hat?: string;
  error?: string;
}

/** Draws a run's samples on the server, step by step. */
export class OnServer implements Walker {
  readonly where = "on the server";

  constructor(
    private readonly api: string,
    private readonly run: RunPayload,
  ) {}

  async walk(question: SampleQuestion, tell?: (done: number, soFar: Walk) => void): Promise<Walk> {
    const { sampler, steps, seed, n, label, guidance } = question;
    const given: Record<string, string> = {
      sampler: sampler.name,
      steps: String(steps),
      seed: String(seed),
      n: String(n),
    };
    if (label !== null) given.label = this.run.labels[label];
    if (guidance !== null && guidance !== 1) given.guidance = String(guidance);
    if (sampler.eta) given.eta = String(sampler.eta);
    const began = performance.now();
    const response = await fetch(`${this.api}/runs/${this.run.id}/walk?${new URLSearchParams(given)}`);
    if (!response.ok || !response.body)
      throw new Error(((await response.json()) as { error?: string }).error ?? "no answer");
    const { mean, std } = unitsOf(this.run);
    const dim = mean.length;
    const size = n * dim;
    const walk: Walk = {
      times: [],
      alphas: [],
      sigmas: [],
      x: new Float32Array((steps + 1) * size),
      x0: new Float32Array(steps * size),
      samples: new Float32Array(size),
      dim,
      path: pathFor(sampler, schedule(this.run.schedule), this.run.few_steps),
      milliseconds: 0,
      backend: "server",
    };
    const into = (z: Float32Array, alpha: number) =>
      z.map((value, i) => (value - alpha * mean[i % dim]) / std[i % dim]);
    for await (const text of linesOf(response.body)) {
      const line = JSON.parse(text) as Line;
      if (line.error) throw new Error(line.error);
      const k = walk.times.length;
      walk.samples = unpack({ shape: [], data: line.x });
      walk.x.set(into(walk.samples, line.alpha), k * size);
      if (k) walk.x0.set(into(unpack({ shape: [], data: line.x0_hat! }), 1), (k - 1) * size);
      walk.times.push(line.t);
      walk.alphas.push(line.alpha);
      walk.sigmas.push(line.sigma);
      walk.milliseconds = performance.now() - began;
      tell?.(k, walk);
    }
    return walk;
  }
}

/** The lines of a response, as they arrive. */
async function* linesOf(body: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const reader = body
    .pipeThrough(new TextDecoderStream() as unknown as ReadableWritablePair<string, Uint8Array>)
    .getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    const parts = (rest + value).split("\n");
    rest = parts.pop()!;
    yield* parts.filter(Boolean);
  }
  if (rest.trim()) yield rest;
}
