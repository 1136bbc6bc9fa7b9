/** Panel 4: points drawn by the reader, a small model trained on them in the page, and its samples. */
import { Curves } from "../charts/curves";
import { Plane } from "../charts/plane";
import { theme } from "../charts/theme";
import { digits, field, h } from "../dom";
import { Engine } from "../engine/engine";
import type { TrainedNews } from "../engine/training";
import { train } from "../live/server";
import { call, formula, mi, mn, mo, norm, row, sup, x0, xt } from "../math";
import { TRAIN_DEFAULTS } from "../model/train";
import type { ModelPayload } from "../payload";
import { Readout } from "../readout";
import { lesson, type Panel, type Stage } from "./panel";

const MODEL = "drawing";
const SAMPLES = 300;
const MOST = 5000;
const FEWEST = 20;
const JITTER = 0.04;

const TEXT = `Draw something, or stamp a word, and train a small network on these points in this page. In each of a few
thousand steps the network sees noisy points and has to answer one question: <b>where was the clean point?</b> No
network can bring the loss below its floor, because one noisy point can come from many clean points.`;

const FORMULA = formula(
  row(mi("L"), mo("="), mi("E"), sup(norm(call(mi("D"), xt, mo(","), mi("t")), mo("−"), x0), mn(2))),
);

export const draw: Panel = {
  id: "draw",
  title: "Draw your own",
  misfit: () => null,
  mount: (stage) => new Drawing(stage).elements(),
};

class Drawing {
  private points: [number, number][] = [];
  private readonly history: number[] = [];
  private readonly plane = new Plane("Your points and the model's samples", { x: [-2.4, 2.4], y: [-2.4, 2.4] });
  private samples: Float32Array | null = null;
  private losses: { steps: number[]; values: number[]; smooth: number } = { steps: [], values: [], smooth: 1 };
  private readonly curves = new Curves("training loss over the steps");
  private readonly readout = new Readout();
  private readonly status = h("p", { className: "status", role: "status" });
  private readonly trainButton = h(
    "button",
    { className: "primary", type: "button", onclick: () => void this.train() },
    "Train",
  );
  private readonly generateButton = h(
    "button",
    { type: "button", disabled: true, onclick: () => void this.generate() },
    "Generate",
  );
  private readonly word = h("input", { type: "text", value: "hello", maxLength: 12, size: 8 });
  private readonly server: HTMLButtonElement | null;
  private engine: Engine | null = null;
  private training = false;
  private seed = 0;
  private cursor: [number, number] | null = null;

  constructor(private readonly stage: Stage) {
    this.plane.draw(() => this.paint());
    this.listen();
    this.server = stage.payload.live
      ? h("button", { type: "button", onclick: () => void this.onServer() }, "Train on the server")
      : null;
    stage.signal.addEventListener("abort", () => void this.engine?.stop());
    this.count();
  }

  elements(): HTMLElement[] {
    const button = (text: string, onclick: () => void) => h("button", { type: "button", onclick }, text);
    const hint = "Drag to draw. With the keyboard, the arrow keys move the pen and the space bar sets points.";
    return [
      h(
        "div",
        { className: "picture" },
        this.plane.element,
        h("p", { className: "hint" }, hint),
        h("div", { className: "row" }, button("Undo", () => this.undo()), button("Clear", () => this.clear()), field("Word", this.word), button("Stamp", () => this.stamp())),
      ),
      h(
        "div",
        { className: "side" },
        lesson(this.stage, TEXT, FORMULA, ["edm"]),
        h("div", { className: "row" }, this.trainButton, this.generateButton, this.server, this.status),
        this.readout.element,
        this.curves.element,
      ),
    ]; // prettier-ignore
  }

  private listen(): void {
    const { canvas } = this.plane;
    canvas.tabIndex = 0;
    canvas.setAttribute("role", "application");
    canvas.setAttribute(
      "aria-label",
      "Drawing area. Drag to draw; the arrow keys move the pen and the space bar sets points.",
    );
    canvas.classList.add("drawable");
    let last: [number, number] | null = null;
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.history.push(this.points.length);
      last = this.plane.at(event);
      this.dab(last, 6);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!last) return;
      const next = this.plane.at(event);
      const distance = Math.hypot(next[0] - last[0], next[1] - last[1]);
      const dabs = Math.ceil(distance / 0.05);
      for (let k = 1; k <= dabs; k++)
        this.dab([0, 1].map((d) => last![d] + ((next[d] - last![d]) * k) / dabs) as [number, number], 3);
      last = next;
    });
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => (last = null));
    canvas.addEventListener("keydown", (event) => this.key(event));
  }

  private key(event: KeyboardEvent): void {
    const moves: Record<string, [number, number]> = {
      ArrowLeft: [-1, 0],
      ArrowRight: [1, 0],
      ArrowUp: [0, 1],
      ArrowDown: [0, -1],
    };
    const move = moves[event.key];
    if (!move && event.key !== " ") return;
    event.preventDefault();
    this.cursor ??= [0, 0];
    if (move)
      this.cursor = [0, 1].map((d) => Math.min(Math.max(this.cursor![d] + 0.1 * move[d], -2.3), 2.3)) as [
        number,
        number,
      ];
    else {
      this.history.push(this.points.length);
      this.dab(this.cursor, 6);
    }
    this.plane.redraw();
  }

  /** Add points around a place. */
  private dab([x, y]: [number, number], count: number): void {
    for (let k = 0; k < count && this.points.length < MOST; k++) {
      const radius = JITTER * Math.sqrt(-2 * Math.log(1 - Math.random()));
      const angle = 2 * Math.PI * Math.random();
      this.points.push([x + radius * Math.cos(angle), y + radius * Math.sin(angle)]);
    }
    this.changed();
  }

  private undo(): void {
    this.points.length = this.history.pop() ?? 0;
    this.changed();
  }

  private clear(): void {
    this.points = [];
    this.history.length = 0;
    this.samples = null;
    this.generateButton.disabled = true;
    this.changed();
  }

  /** Add points on the letters of a word. */
  private stamp(): void {
    const text = this.word.value.trim();
    if (!text) return;
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [480, 240];
    const context = canvas.getContext("2d", { willReadFrequently: true })!;
    context.textAlign = "center";
    context.textBaseline = "middle";
    let size = 200;
    do context.font = `700 ${(size -= 4)}px system-ui, sans-serif`;
    while (context.measureText(text).width > 460 && size > 12);
    context.fillText(text, 240, 125);
    const { data } = context.getImageData(0, 0, 480, 240);
    const inked: number[] = [];
    for (let i = 0; i < 480 * 240; i++) if (data[4 * i + 3] > 128) inked.push(i);
    if (!inked.length) return;
    this.history.push(this.points.length);
    for (let k = 0; k < 1500 && this.points.length < MOST; k++) {
      const i = inked[Math.floor(Math.random() * inked.length)];
      this.points.push([((i % 480) + Math.random() - 240) / 110, (120 - Math.floor(i / 480) - Math.random()) / 110]);
    }
    this.changed();
  }

  private changed(): void {
    this.count();
    this.plane.redraw();
    this.stage.exchange.tell("points", this.points.flat());
  }

  private count(): void {
    this.readout.set("points", String(this.points.length));
    const few = this.points.length < FEWEST;
    if (!this.training) this.trainButton.disabled = few;
    if (this.server) this.server.disabled = few;
    if (few && !this.training) this.status.textContent = `draw at least ${FEWEST} points`;
    else if (!this.training && !this.samples) this.status.textContent = "ready to train";
  }

  private paint(): void {
    const { plane } = this;
    const mine = Float32Array.from(this.points.flat());
    plane.points(mine, [theme().quiet], null, 1.5, this.samples ? 0.35 : 0.8);
    if (this.samples) plane.points(this.samples, [theme().warm], null, 2.2, 0.9);
    if (this.cursor) {
      const [x, y] = this.cursor;
      plane.paths([[x - 0.12, y, x + 0.12, y], [x, y - 0.12, x, y + 0.12]], theme().accent, 2, 1); // prettier-ignore
    }
  }

  private async train(): Promise<void> {
    if (this.training) {
      await this.engine?.stop();
      return;
    }
    this.training = true;
    this.trainButton.textContent = "Stop";
    this.losses = { steps: [], values: [], smooth: 1 };
    this.samples = null;
    this.engine ??= new Engine(); // a worker of its own, so that the other panels keep answering
    const began = performance.now();
    try {
      const model = await this.engine.train(
        { points: Float32Array.from(this.points.flat()), settings: TRAIN_DEFAULTS },
        (news) => {
          const seconds = (performance.now() - began) / 1000;
          this.status.textContent = `step ${news.step} of ${news.steps}, ${seconds.toFixed(0)} s`;
          this.lossAt(news);
          if (news.model) void this.show(news.model, 0);
        },
      );
      this.status.textContent = `trained in ${((performance.now() - began) / 1000).toFixed(1)} s in this page`;
      await this.show(model, this.seed);
      this.generateButton.disabled = false;
    } catch (error) {
      this.status.textContent = `Training stopped: ${(error as Error).message}`;
    } finally {
      this.training = false;
      this.trainButton.textContent = "Train";
      this.count();
    }
  }

  private lossAt({ step, steps, loss, floor }: TrainedNews): void {
    const { losses } = this;
    losses.smooth += (losses.steps.length ? 0.15 : 1) * (loss - losses.smooth);
    losses.steps.push(step);
    losses.values.push(losses.smooth);
    this.readout.set("loss", digits(losses.smooth, 4));
    this.readout.set("floor", digits(floor, 4));
    const low = Math.min(floor, ...losses.values);
    const high = Math.max(...losses.values);
    this.curves.draw(
      [
        { name: "loss", colour: theme().accent, x: losses.steps, y: losses.values },
        { name: "floor", colour: theme().quiet, x: [0, steps], y: [floor, floor], dashed: true },
      ],
      { label: "step", domain: [0, steps] },
      { label: "loss", domain: [low - 0.02, high + 0.02] },
    );
  }

  /** Draw samples of a model of the drawing, in the page's first worker. */
  private async show(model: ModelPayload, seed: number): Promise<void> {
    const { engine } = this.stage;
    await engine.ask("load", { run: MODEL, payload: model });
    const walk = await engine.ask("sample", {
      run: MODEL, sampler: { name: "multistep" }, steps: 15, seed, n: SAMPLES, label: null, guidance: null,
    }); // prettier-ignore
    this.samples = walk.samples;
    this.plane.redraw();
  }

  private async generate(): Promise<void> {
    this.seed += 1;
    const { engine } = this.stage;
    const walk = await engine.ask("sample", {
      run: MODEL, sampler: { name: "multistep" }, steps: 15, seed: this.seed, n: SAMPLES, label: null, guidance: null,
    }); // prettier-ignore
    this.samples = walk.samples;
    this.status.textContent = `${SAMPLES} points, seed ${this.seed}`;
    this.plane.redraw();
  }

  private async onServer(): Promise<void> {
    const points = this.points.map(([x, y]) => [x, y]);
    try {
      this.status.textContent = await train(this.stage.payload.live!.api, {
        data: { name: "drawing", points },
        recipe: "points",
        changes: {},
      });
    } catch (error) {
      this.status.textContent = (error as Error).message;
    }
  }
}
