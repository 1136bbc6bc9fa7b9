/** The studio's server, as the page asks it: runs, samples step by step, trainings. */
import type { SampleQuestion, Walk } from "../engine/tasks";
import { type Packed, type RunPayload, unpack } from "../payload";
import { unitsOf } from "../charts/points";
import type { Walker } from "./walker";

export interface Listed {
  id: string;
  name: string;
  state: "done" | "training" | "gone";
  step: number;
  steps: number;
}

/** Ask for JSON; the server's own line is the error's message. */
export async function ask<Answer>(api: string, place: string, body?: unknown): Promise<Answer> {
  const options =
    body === undefined
      ? {}
      : { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
  let response: Response;
  try {
    response = await fetch(`${api}${place}`, options);
  } catch {
    throw new Error("the studio does not answer: start it again with fromnoise studio");
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

/** Start a training on points and say what came of it. */
export async function trainOnServer(api: string, data: { name: string; points: number[][] }): Promise<string> {
  const { id, position } = await ask<{ id: string; position: number }>(api, "/trainings", {
    data,
    recipe: "points",
    changes: {},
  });
  document.dispatchEvent(new CustomEvent("fromnoise:training", { detail: id }));
  return position ? `waiting, ${position} before it` : "training on the server: see the top of the page";
}

interface Line {
  t: number;
  alpha: number;
  sigma: number;
  x: Packed | string;
  x0_hat?: Packed | string;
}

/** A run's samples drawn by the server, step by step. */
export class OnServer implements Walker {
  readonly where = "on the server";

  constructor(
    private readonly api: string,
    private readonly run: RunPayload,
  ) {}

  async walk(question: SampleQuestion, tell?: (done: number) => void): Promise<Walk> {
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
    const lines: Line[] = [];
    for await (const line of linesOf(response.body)) {
      lines.push(JSON.parse(line) as Line);
      tell?.(lines.length - 1);
    }
    const numbers = (value: Packed | string) => unpack(typeof value === "string" ? { shape: [], data: value } : value);
    const flat = (parts: Float32Array[]) => Float32Array.from(parts.flatMap((part) => Array.from(part)));
    const xs = lines.map((line) => numbers(line.x));
    const units = unitsOf(this.run);
    return {
      times: lines.map((line) => line.t),
      alphas: lines.map((line) => line.alpha),
      sigmas: lines.map((line) => line.sigma),
      x: flat(xs),
      x0: flat(lines.slice(1).map((line) => numbers(line.x0_hat!))),
      samples: xs[xs.length - 1].map((value, i) => units.mean[i % 2] + units.std[i % 2] * value),
      dim: 2,
      path: this.run.schedule,
      milliseconds: performance.now() - began,
      backend: "server",
    };
  }
}

/** The lines of a body as they come. */
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
