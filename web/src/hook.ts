/** For tests and benchmarks: what the page computes, as numbers, under `window.fromnoise`. */
import type { FieldQuestion, SampleQuestion } from "./engine/tasks";
import type { Backend } from "./model/kernel";
import type { Mounted } from "./mount";

export function hook(page: Mounted): void {
  const key = () => page.current()!.key;
  const tools = {
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
      const walk = await page.engine.ask("sample", { ...given, ...question, run: key() });
      return { x: Array.from(walk.samples), milliseconds: walk.milliseconds, backend: walk.backend };
    },
    field: async (question: Omit<FieldQuestion, "x" | "run"> & { x: number[] }) =>
      Array.from(await page.engine.ask("field", { ...question, x: Float32Array.from(question.x), run: key() })),
    distance: (samples: number[], draws: number[], count: number) =>
      page.engine.ask("distance", {
        samples: Float32Array.from(samples),
        draws: Float32Array.from(draws),
        count,
        dim: 2,
      }),
    /** How long each frame took, in milliseconds, over so many frames. */
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
  document.documentElement.dataset.ready = "";
}
