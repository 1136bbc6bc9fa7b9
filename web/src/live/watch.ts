/** A training that is running: its loss beside the floor, and samples of its latest checkpoint. */
import { Curves } from "../charts/curves";
import { Plane, viewOf } from "../charts/plane";
import { theme } from "../charts/theme";
import { digits, h } from "../dom";
import type { Engine } from "../engine/engine";
import { type RunPayload, unpack } from "../payload";
import { Readout } from "../readout";
import { ask } from "./server";

interface Progress {
  step: number;
  steps: number;
  loss: number;
  floor: number | null;
  progress: number | null;
  rate: number;
  seconds_left: number;
}

export class Watch {
  readonly element: HTMLElement;
  private readonly readout = new Readout();
  private readonly curves = new Curves("loss of the training beside its floor");
  private readonly status = h("p", { className: "status", role: "status" }, "starting");
  private readonly stop = h("button", { type: "button", onclick: () => void this.end() }, "Stop and save");
  private readonly open = h("button", { type: "button", className: "primary", disabled: true }, "Show this run");
  private readonly picture = h("div", { className: "picture" });
  private plane: Plane | null = null;
  private samples: Float32Array | null = null;
  private readonly steps: number[] = [];
  private readonly losses: number[] = [];
  private readonly events: EventSource;
  private reading = false;

  constructor(
    private readonly api: string,
    readonly id: string,
    name: string,
    private readonly engine: Engine,
    private readonly ended: (id: string) => void,
    show: (id: string) => void,
  ) {
    this.open.addEventListener("click", () => show(id));
    this.element = h(
      "div",
      { className: "watch body", "data-training": id },
      h("h2", { className: "full" }, `Training ${name}`),
      this.picture,
      h(
        "div",
        { className: "side" },
        h("div", { className: "row" }, this.stop, this.open, this.status),
        this.readout.element,
        this.curves.element,
      ),
    );
    this.events = new EventSource(`${api}/trainings/${id}/events`);
    const on = <News>(kind: string, tell: (news: News) => void) =>
      this.events.addEventListener(kind, ({ data }) => tell(JSON.parse(data as string) as News));
    on<Progress>("progress", (news) => this.progress(news));
    on<{ step: number }>("checkpoint", ({ step }) => void this.checkpoint(step));
    on<{ step: number }>("done", ({ step }) => this.finish(`done after ${step.toLocaleString("en")} steps`));
    on<{ step: number }>("stopped", ({ step }) =>
      this.finish(`stopped after ${step.toLocaleString("en")} steps; its state is saved`),
    );
    on<{ error: string }>("failed", ({ error }) => this.finish(`failed: ${error}`));
    this.events.onerror = () => (this.status.textContent = "the studio does not answer; the page tries again");
  }

  close(): void {
    this.events.close();
  }

  private progress({ step, steps, loss, floor, progress, rate, seconds_left }: Progress): void {
    this.status.textContent = `step ${step.toLocaleString("en")} of ${steps.toLocaleString("en")}, ${seconds_left.toFixed(0)} s left`;
    this.readout.set("loss", digits(loss, 4));
    if (floor !== null) this.readout.set("floor", digits(floor, 4));
    if (progress !== null) this.readout.set("progress", `${(100 * progress).toFixed(1)}%`);
    this.readout.set("steps per second", digits(rate));
    this.steps.push(step);
    this.losses.push(loss);
    const all = floor === null ? this.losses : [...this.losses, floor];
    const [low, high] = [Math.min(...all), Math.max(...all)];
    const room = 0.05 * (high - low || 1);
    const lines = [{ name: "loss", colour: theme().accent, x: this.steps, y: this.losses }];
    const least =
      floor === null ? [] : [{ name: "floor", colour: theme().quiet, x: [0, steps], y: [floor, floor], dashed: true }];
    this.curves.draw(
      [...lines, ...least],
      { label: "step", domain: [0, steps] },
      { label: "loss", domain: [low - room, high + room] },
    );
  }

  /** Load the latest checkpoint into the page and draw samples of it. */
  private async checkpoint(step: number): Promise<void> {
    if (this.reading || step === 0) return;
    this.reading = true;
    try {
      const run = await ask<RunPayload>(this.api, `/runs/${this.id}`);
      this.open.disabled = false;
      if (!run.network || !run.points || run.shape[0] !== 2) return;
      const key = `watched-${this.id}`;
      await this.engine.ask("load", { run: key, payload: run });
      const walk = await this.engine.ask("sample", {
        run: key, sampler: { name: run.few_steps?.sampler ?? "multistep" }, steps: run.few_steps?.steps ?? 12, seed: 0, n: 300, label: null, guidance: null,
      }); // prettier-ignore
      this.samples = walk.samples;
      this.draw(run, step);
    } catch (error) {
      this.status.textContent = (error as Error).message;
    } finally {
      this.reading = false;
    }
  }

  private draw(run: RunPayload, step: number): void {
    const points = unpack(run.points!.x);
    if (!this.plane) {
      this.plane = new Plane("Samples of the latest checkpoint", viewOf(points));
      this.picture.append(this.plane.element, h("p", { className: "hint" }));
    }
    const { plane } = this;
    this.picture.querySelector(".hint")!.textContent =
      `300 samples after ${step.toLocaleString("en")} steps, with the data behind them`;
    plane.draw(() => {
      plane.points(points.subarray(0, 2000), [theme().quiet], null, 1.4, 0.3);
      if (this.samples) plane.points(this.samples, [theme().warm], null, 2.2, 0.9);
    });
  }

  private async end(): Promise<void> {
    this.stop.disabled = true;
    try {
      await ask(this.api, `/trainings/${this.id}/stop`, {});
      this.status.textContent = "the training saves its state";
    } catch (error) {
      this.status.textContent = (error as Error).message;
    }
  }

  private finish(text: string): void {
    this.events.close();
    this.stop.disabled = true;
    this.open.disabled = false;
    this.status.textContent = text;
    this.ended(this.id);
  }
}
