/** `window.fromnoise`: the page's results as numbers, for tests and benchmarks. */
import type { Spread } from "./model/denoiser";
import type { FieldQuestion, SampleQuestion } from "./engine/tasks";
import type { Backend } from "./model/kernel";
import { Stream } from "./model/random";
import type { SamplerSettings } from "./model/rule";
import { rule } from "./model/samplers";
import { schedule, type Settings } from "./model/schedule";
import type { Mounted } from "./mount";
import type { ModelPayload } from "./payload";

export function hook(page: Mounted): void {
  const key = () => page.current()!.key;
  const tools = {
    /** Load another run into the worker under a name, for `sample` to draw from. */
    load: async (run: string, payload: ModelPayload, backend?: Backend) =>
      page.engine.ask("load", { run, payload, backend }),
    /** Standard normal numbers of a stream of the library. */
    normal: (seed: number, purpose: string, index: number, count: number) =>
      Array.from(new Stream(seed, purpose, index).normal(new Float32Array(count))),
    /** alpha and sigma at these times, and the times of these log SNRs. */
    schedule: (settings: Settings, times: number[], logSnrs: number[]) => {
      const path = schedule(settings);
      const scales = times.map((t) => path.scales(t));
      return {
        alpha: scales.map((s) => s.alpha),
        sigma: scales.map((s) => s.sigma),
        time: logSnrs.map((l) => path.time(l)),
      };
    },
    grid: (settings: Settings, sampler: SamplerSettings, steps: number, spread: Spread) =>
      rule(sampler).grid(schedule(settings), steps, spread),
    backend: async (backend?: Backend) =>
      (await page.engine.ask("load", { run: key(), payload: page.current()!.run, backend })).backend,
    /** Samples in the data's units, `[n * dim]`, and how long they took. */
    sample: async (question: Partial<SampleQuestion>) => {
      const given = {
        sampler: { name: "multistep" as const },
        steps: 10,
        seed: 0,
        n: 300,
        label: null,
        guidance: null,
      };
      const walk = await page.engine.ask("sample", { ...given, run: key(), ...question });
      return { x: Array.from(walk.samples), milliseconds: walk.milliseconds, backend: walk.backend };
    },
    field: async (question: Omit<FieldQuestion, "x"> & { x: number[] }) =>
      Array.from(await page.engine.ask("field", { ...question, x: Float32Array.from(question.x) })),
    distance: (samples: number[], draws: number[], count: number) =>
      page.engine.ask("distance", {
        samples: Float32Array.from(samples),
        draws: Float32Array.from(draws),
        count,
        dim: 2,
      }),
    /** The duration of each of `count` frames, in milliseconds. */
    frames: (count: number) =>
      new Promise<number[]>((resolve) => {
        const times: number[] = [];
        let before = performance.now();
        const frame = (now: number) => {
          times.push(now - before);
          before = now;
          if (times.length < count) requestAnimationFrame(frame);
          else resolve(times.slice(1));
        };
        requestAnimationFrame(frame);
      }),
  };
  Object.assign(window, { fromnoise: tools });
}
