/** Panel 2: the run's model makes data from noise. */
import { byDirection, Plane, places } from "../charts/plane";
import { shown, unitsOf, unshown } from "../charts/points";
import { theme } from "../charts/theme";
import { checkbox, digits, eachFrame, h } from "../dom";
import type { Walk } from "../engine/tasks";
import { bar, call, eps, formula, hat, mi, mn, mo, root, row, sub, xt } from "../math";
import { unpack } from "../payload";
import { Player } from "../player";
import { Readout } from "../readout";
import { type Choices, ChoicesForm } from "./choices";
import { lesson, notInThePlane, type Panel, type Stage } from "./panel";

const N = 300;
const PLAIN: Record<string, string> = { plain: ", without WebAssembly" };
const ARROWS = 17;
const DENSITY = 72;

const TEXT = `Sampling starts from pure noise and asks the network at every step where the clean point is. Each answer
<b>x̂₀</b> is the mean of all possible clean points, so it is vague in strong noise and sharp near the end. DDPM adds
new noise at every step, and DDIM adds none. Multistep uses every answer several times, so ten answers are enough.`;

const FEW = `This model was taught by another one to need few steps. Its answer <b>x̂₀</b> is not the mean of all possible
clean points, but the place to which one long step must go to land where many short steps of its teacher land. So a
sample takes as many evaluations as there are steps here, and no other sampler can use these answers.`;

const barAlphaS = sub(bar(mi("α")), mi("s"));
const x0Hat = sub(hat(mi("x")), mn(0));

const FORMULA = formula(
  row(sub(mi("x"), mi("s")), mo("="), root(barAlphaS), x0Hat, mo("+"), root(row(mn(1), mo("−"), barAlphaS)), hat(eps)),
  row(x0Hat, mo("="), call(mi("D"), xt, mo(","), mi("t"))),
);

export const reverse: Panel = {
  id: "reverse",
  title: "Reverse: structure re-emerges",
  misfit: notInThePlane,
  mount(stage) {
    if (!stage.walker) {
      const why = stage.run.why_not || "the model is not in the page";
      return [
        h(
          "p",
          { className: "absent" },
          `This page cannot run the model: ${why}. The studio can; start it with: fromnoise studio ${stage.run.name}`,
        ),
      ];
    }
    return new Reverse(stage).elements();
  },
};

class Reverse {
  private readonly form: ChoicesForm;
  private readonly overlays = { paths: false, arrows: false, score: false, density: false };
  private readonly plane: Plane;
  private readonly player: Player;
  private readonly readout = new Readout();
  private readonly units;
  private readonly status = h("p", { className: "status", role: "status" });
  private readonly generate = h(
    "button",
    { className: "primary", type: "button", onclick: () => void this.run() },
    "Generate",
  );
  private walk: Walk | null = null;
  private colours: ArrayLike<number> = [];
  private readonly lines: { score: number[][]; density: Float32Array | null; at: number } = {
    score: [],
    density: null,
    at: -1,
  };
  private asking = false;

  constructor(private readonly stage: Stage) {
    const { run } = stage;
    this.units = unitsOf(run);
    this.form = new ChoicesForm(run);
    this.plane = new Plane("Samples between noise and data", stage.view!);
    const redraw = eachFrame(() => {
      this.plane.redraw();
      void this.askOverlays();
    });
    this.player = new Player({
      label: "the path from noise to data",
      max: 10,
      value: 10,
      seconds: 3,
      text: (value) => (this.walk ? `step ${value} of ${this.walk.times.length - 1}` : "no samples yet"),
      onchange: redraw,
    });
    this.plane.draw(() => this.paint());
    stage.signal.addEventListener("abort", () => this.player.pause());
  }

  elements(): HTMLElement[] {
    const names = Object.keys(this.overlays) as (keyof Reverse["overlays"])[];
    const text = { paths: "paths", arrows: "arrows to x̂₀", score: "score field", density: "density contours" };
    const boxes = names
      .filter((name) => name !== "density" || this.stage.run.law)
      .filter((name) => name !== "score" || (this.stage.run.network && !this.stage.run.few_steps))
      .map((name) =>
        checkbox(text[name], false, (on) => {
          this.overlays[name] = on;
          this.lines.at = -1;
          void this.askOverlays();
          this.plane.redraw();
        }),
      );
    const { exchange, signal } = this.stage;
    const few = this.stage.run.few_steps;
    this.form.element.addEventListener("change", () => exchange.tell("choices", { ...this.form.choices }));
    exchange.hear("choices", (given) => this.form.take(given), signal);
    exchange.hear("generate", () => void this.run(), signal);
    return [
      h(
        "div",
        { className: "picture" },
        this.plane.element,
        this.player.element,
        h("div", { className: "checks" }, ...boxes),
      ),
      h(
        "div",
        { className: "side" },
        lesson(this.stage, few ? FEW : TEXT, FORMULA, [
          ...(few ? [few.sampler] : ["ddim", "ddpm", "multistep"]),
          ...(this.stage.run.labels.length ? ["guided"] : []),
        ]),
        this.form.element,
        h("div", { className: "row" }, this.generate, this.status),
        this.readout.element,
      ),
    ];
  }

  private get choices(): Choices {
    return this.form.choices;
  }

  /** Draw samples, then play their path. */
  async run(): Promise<Walk | null> {
    const { stage, choices } = this;
    this.player.pause();
    this.generate.disabled = true;
    this.status.textContent = "sampling…";
    const began = performance.now();
    try {
      const guidance = choices.label === null ? null : choices.guidance;
      const walk = await stage.walker!.walk(
        { run: stage.key, ...choices, guidance, sampler: { ...choices.sampler }, n: N },
        (done, soFar) => this.soFar(done, soFar),
      );
      if (stage.signal.aborted) return null;
      this.walk = walk;
      this.lines.at = -1;
      this.colours = byDirection(walk.samples, stage.view!);
      this.status.textContent = `${N} points in ${walk.milliseconds.toFixed(0)} ms ${stage.walker!.where}${PLAIN[walk.backend] ?? ""}`;
      this.player.set(0, walk.times.length - 1);
      this.player.play();
      stage.exchange.tell("samples", { x: Array.from(walk.samples), dim: walk.dim });
      await this.measure(walk);
      return walk;
    } catch (error) {
      this.status.textContent = `Sampling failed: ${(error as Error).message}`;
      return null;
    } finally {
      this.generate.disabled = false;
      this.generate.dataset.seconds = String((performance.now() - began) / 1000);
    }
  }

  /** Show the steps that have arrived so far. */
  private soFar(done: number, walk: Walk): void {
    if (this.stage.signal.aborted) return;
    this.walk = walk;
    this.colours = [];
    this.status.textContent = `step ${done} of ${this.choices.steps} ${this.stage.walker!.where}`;
    this.player.set(done, this.choices.steps);
  }

  /** Show the distance of the samples to the data, beside the distance of new data to the data. */
  private async measure(walk: Walk): Promise<void> {
    const { run, engine } = this.stage;
    const truth = run.truth[this.choices.label === null ? "" : run.labels[this.choices.label]];
    this.readout.set("evaluations", String(walk.times.length - 1));
    if (!truth) return;
    const [count, size] = truth.draws.shape;
    if (size > N) return;
    const samples = walk.samples.map((value, i) => value / truth.unit[i % 2]);
    const distance = await engine.ask("distance", { samples, draws: unpack(truth.draws), count, dim: 2 });
    this.readout.set("distance to the data", digits(distance));
    this.readout.set("distance of new data (floor)", digits(truth.floor));
    this.readout.set("distance / floor", digits(distance / truth.floor));
  }

  private frame(): { k: number; at: Float32Array; size: number } | null {
    const { walk } = this;
    if (!walk) return null;
    const k = Math.min(this.player.value, walk.times.length - 1);
    const size = Math.hypot(walk.alphas[k], walk.sigmas[k]);
    return { k, size, at: shown(walk.x.subarray(k * 2 * N, (k + 1) * 2 * N), size, this.units) };
  }

  private paint(): void {
    const { plane, walk, overlays } = this;
    const frame = this.frame();
    if (!walk || !frame) {
      const { points } = this.stage.run;
      if (points) plane.points(unpack(points.x).subarray(0, 2 * N), [theme().quiet], null, 1.6, 0.35);
      return;
    }
    const { k, at } = frame;
    if (overlays.density && this.lines.density) {
      const peak = Math.max(...this.lines.density);
      plane.contours(
        this.lines.density,
        DENSITY,
        [0.01, 0.05, 0.15, 0.4, 0.7].map((part) => part * peak),
        theme().accent,
      );
    }
    if (overlays.score && this.lines.score.length)
      plane.arrows(this.lines.score[0], this.lines.score[1], theme().quiet);
    if (overlays.paths) plane.paths(this.pathsUpTo(k), theme().quiet, 1, 0.3);
    if (overlays.arrows && k < walk.times.length - 1) {
      const ends = shown(walk.x0.subarray(k * 2 * N, (k + 1) * 2 * N), 1, this.units);
      plane.arrows(at, ends, theme().warm, 0.4);
    }
    const streaming = this.colours.length === 0; // the end of each point's path is not known yet
    plane.points(at, streaming ? [theme().accent] : theme().wheel, streaming ? null : this.colours);
  }

  private pathsUpTo(k: number): number[][] {
    const walk = this.walk!;
    const stride = Math.max(1, Math.floor(k / 60));
    return Array.from({ length: 75 }, (_, j) => {
      const i = 4 * j;
      const line: number[] = [];
      for (let step = 0; step <= k; step += stride) {
        const size = Math.hypot(walk.alphas[step], walk.sigmas[step]);
        line.push(...shown(walk.x.slice((step * N + i) * 2, (step * N + i) * 2 + 2), size, this.units));
      }
      return line;
    });
  }

  /** Ask the worker for the overlays of this step. There is one question at a time; the next is for the latest step. */
  private async askOverlays(): Promise<void> {
    const frame = this.frame();
    const { walk, overlays, stage } = this;
    if (!frame || !walk || this.asking || this.lines.at === frame.k) return;
    if (!overlays.score && !overlays.density) return;
    this.asking = true;
    const { k, size } = frame;
    const { choices } = this;
    const t = Math.max(walk.times[k], 1e-3);
    const guidance = choices.label === null ? null : choices.guidance;
    const [alpha, sigma] = [walk.alphas[k], Math.max(walk.sigmas[k], 0.02 * walk.alphas[k])];
    try {
      if (overlays.score) {
        const from = places(stage.view!, ARROWS);
        const x = unshown(from, size, this.units);
        const x0 = await stage.engine.ask("field", {
          run: stage.key,
          x,
          t,
          path: walk.path,
          label: choices.label,
          guidance,
          exact: false,
        });
        this.lines.score = [Array.from(from), scoreEnds(from, x, x0, alpha, sigma, stage)];
      }
      if (overlays.density) {
        const x = unshown(places(stage.view!, DENSITY), size, this.units);
        const logs = await stage.engine.ask("density", { run: stage.key, x, alpha, sigma, label: choices.label });
        this.lines.density = logs.map(Math.exp);
      }
      this.lines.at = k;
    } finally {
      this.asking = false;
    }
    this.plane.redraw();
    if (this.frame()!.k !== k) void this.askOverlays();
  }
}

/** The ends of arrows for sigma times the score, (alpha x0_hat - x)/sigma. A vector of length 1 reaches half a cell. */
export function scoreEnds(
  from: Float32Array,
  x: Float32Array,
  x0: Float32Array,
  alpha: number,
  sigma: number,
  stage: Stage,
): number[] {
  const cell = (stage.view!.x[1] - stage.view!.x[0]) / ARROWS;
  const ends: number[] = [];
  for (let i = 0; i < from.length; i += 2) {
    const [u, v] = [0, 1].map((d) => (alpha * x0[i + d] - x[i + d]) / sigma);
    const length = Math.hypot(u, v);
    const reach = (cell * 0.9 * length) / (length + 1); // no arrow is longer than a cell
    ends.push(from[i] + (u / (length || 1)) * reach, from[i + 1] + (v / (length || 1)) * reach);
  }
  return ends;
}
