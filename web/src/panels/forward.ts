/** Panel 1: the data dissolve into noise. */
import { byDirection, Plane } from "../charts/plane";
import { shown, unitsOf } from "../charts/points";
import { theme } from "../charts/theme";
import { checkbox, digits, eachFrame, field, h, select } from "../dom";
import { barAlpha, eps, formula, mn, mo, root, row, x0, xt } from "../math";
import { Stream } from "../model/random";
import { type Schedule, SCHEDULES, type Settings, schedule } from "../model/schedule";
import { type DistributionPayload, unpack } from "../payload";
import { Player } from "../player";
import { Readout } from "../readout";
import { lesson, type Panel, type Stage, withoutPoints } from "./panel";

export const POINTS = 300;
const TRAILS = 24;
const BINS = 96;

/** The first points of the data, in the network's units. Each has one noise, which never changes. */
export class Cloud {
  readonly n: number;
  readonly x0: Float32Array;
  readonly eps: Float32Array;
  readonly colours: ArrayLike<number>;
  readonly labelled: boolean;
  readonly units;

  constructor(stage: Stage) {
    const { run } = stage;
    const points = unpack(run.points!.x);
    this.units = unitsOf(run);
    this.n = Math.min(POINTS, points.length / 2);
    const first = points.slice(0, 2 * this.n);
    this.x0 = first.map((value, i) => (value - this.units.mean[i % 2]) / this.units.std[i % 2]);
    this.eps = new Stream(0, "page").normal(new Float32Array(608)).subarray(0, 2 * this.n);
    this.labelled = run.points!.labels !== null;
    this.colours = this.labelled ? run.points!.labels!.slice(0, this.n) : byDirection(first, stage.view!);
  }

  get palette(): string[] {
    return this.labelled ? theme().labels : theme().wheel;
  }

  /** The places of the noisy points for these alpha and sigma, in the plane of the panel. */
  at({ alpha, sigma }: { alpha: number; sigma: number }, into?: Float32Array): Float32Array {
    const z = new Float32Array(2 * this.n);
    for (let i = 0; i < z.length; i++) z[i] = alpha * this.x0[i] + sigma * this.eps[i];
    return shown(z, Math.hypot(alpha, sigma), this.units, into);
  }
}

/** The text of a slider's value: the step of a table, or t. */
export function timeText(path: Schedule, t: number): string {
  return path.T ? `t = ${Math.round(t * path.T)} of ${path.T}` : `t = ${t.toFixed(3)}`;
}

export function pathChoice(own: Settings): { options: [string, string][]; first: string } {
  const names = SCHEDULES.filter((name) => name !== own.name);
  return {
    options: [["own", `${own.name} (the run's)`], ...names.map((name): [string, string] => [name, name])],
    first: "own",
  };
}

const FORMULA = formula(row(xt, mo("="), root(barAlpha), x0, mo("+"), root(row(mn(1), mo("−"), barAlpha)), eps));

const TEXT = `Nothing is learned here. Every point has one fixed noise and moves towards it on its own path: the signal
fades as <b>α</b> falls, and the noise grows with <b>σ</b>. The curves at the upper and the right edge are the marginal
densities. Both end as the bell curve of a normal distribution, whatever the data were.`;

export const forward: Panel = {
  id: "forward",
  title: "Forward: structure dissolves",
  misfit: withoutPoints,
  mount(stage) {
    const cloud = new Cloud(stage);
    const own = stage.run.schedule;
    let path = schedule(own);
    let trails = true;
    const plane = new Plane("The data's points under noise", stage.view!);
    const readout = new Readout();
    const margins = stage.run.law ? new Margins(stage.run.law, cloud, stage) : null;
    const buffer = new Float32Array(2 * cloud.n);
    const lines = () =>
      Array.from({ length: TRAILS }, (_, k) => {
        const i = Math.floor((k * cloud.n) / TRAILS);
        return { i, line: [] as number[] };
      });
    let paths = lines();

    const paint = () => {
      const t = player.value / 1000;
      const scales = path.scales(t);
      const at = cloud.at(scales, buffer);
      if (trails)
        plane.paths(
          paths.map(({ line }) => line.slice(0, 2 * (1 + Math.round(t * 60)))),
          theme().quiet,
          1,
          0.55,
        );
      plane.points(at, cloud.palette, cloud.colours);
      if (margins) plane.margins(...margins.at(scales), theme().accent);
    };
    const numbers = () => {
      const { alpha, sigma } = path.scales(player.value / 1000);
      const bar = (alpha / Math.hypot(alpha, sigma)) ** 2;
      readout.set("ᾱ", digits(bar, 4));
      readout.set("SNR", digits((alpha / sigma) ** 2, 4));
      readout.set("log SNR", digits(2 * Math.log(alpha / sigma), 4));
      readout.set("rms distance from the mean", digits(spreadOf(buffer)));
    };
    const redraw = eachFrame(() => {
      plane.redraw();
      numbers();
      stage.exchange.tell("time", player.value / 1000);
    });
    const player = new Player({
      label: "diffusion time",
      max: 1000,
      value: 0,
      seconds: 6,
      text: (value) => timeText(path, value / 1000),
      onchange: redraw,
    });
    const choose = (name: string) => {
      path = schedule(name === "own" ? own : { name });
      paths = lines();
      for (const trail of paths) {
        for (let k = 0; k <= 60; k++) {
          const { alpha, sigma } = path.scales(k / 60);
          const z = [0, 1].map((d) => alpha * cloud.x0[2 * trail.i + d] + sigma * cloud.eps[2 * trail.i + d]);
          trail.line.push(...shown(Float32Array.from(z), Math.hypot(alpha, sigma), cloud.units));
        }
      }
      player.set(player.value);
    };
    choose("own");
    plane.draw(paint);
    numbers();
    stage.exchange.hear("time", (t) => Math.round(1000 * t) !== player.value && player.set(1000 * t), stage.signal);
    stage.signal.addEventListener("abort", () => player.pause());
    const choice = pathChoice(own);
    return [
      h("div", { className: "picture" }, plane.element, player.element),
      h(
        "div",
        { className: "side" },
        lesson(stage, TEXT, FORMULA, ["add_noise"]),
        h(
          "div",
          { className: "controls roomy" },
          field("Schedule", select(choice.options, choice.first, choose)),
          checkbox("paths of some points", trails, (on) => {
            trails = on;
            plane.redraw();
          }),
        ),
        readout.element,
      ),
    ];
  },
};

/** Root mean square distance from the mean. */
export function spreadOf(xy: Float32Array): number {
  const n = xy.length / 2;
  let [mx, my, square] = [0, 0, 0];
  for (let i = 0; i < n; i++) {
    mx += xy[2 * i] / n;
    my += xy[2 * i + 1] / n;
  }
  for (let i = 0; i < n; i++) square += (xy[2 * i] - mx) ** 2 + (xy[2 * i + 1] - my) ** 2;
  return Math.sqrt(square / n);
}

/** The marginal densities of x_t along both axes. Each component of the data's distribution adds a bell curve. */
class Margins {
  private readonly means: number[][];
  private readonly variances: number[];
  private readonly weights: number[];

  constructor(
    distribution: DistributionPayload,
    private readonly cloud: Cloud,
    private readonly stage: Stage,
  ) {
    const means = unpack(distribution.means);
    const n = means.length / 2;
    const every = Math.max(1, Math.ceil(n / 512));
    const kept = Array.from({ length: Math.ceil(n / every) }, (_, k) => k * every);
    const stds = typeof distribution.std === "number" ? null : unpack(distribution.std);
    const weights = distribution.weights ? unpack(distribution.weights) : null;
    this.means = [0, 1].map((d) => kept.map((k) => means[2 * k + d]));
    this.variances = kept.map((k) => (stds ? stds[k] : (distribution.std as number)) ** 2);
    this.weights = kept.map((k) => (weights ? weights[k] : 1 / n));
  }

  at({ alpha, sigma }: { alpha: number; sigma: number }): [Float64Array, Float64Array] {
    const size = Math.hypot(alpha, sigma);
    const { units } = this.cloud;
    const axis = (d: number, [low, high]: [number, number]) => {
      const out = new Float64Array(BINS);
      const bin = (high - low) / BINS / units.std[d];
      const first = (low - units.mean[d]) / units.std[d] + bin / 2;
      this.means[d].forEach((mean, k) => {
        // the bell curves of a finite set are made at least one bin wide, or they could not be seen
        const std = Math.max(Math.sqrt(alpha * alpha * this.variances[k] + sigma * sigma) / size, bin);
        const centre = (alpha * mean) / size;
        const from = Math.max(0, Math.floor((centre - 4 * std - first) / bin));
        const to = Math.min(BINS - 1, Math.ceil((centre + 4 * std - first) / bin));
        for (let i = from; i <= to; i++) {
          const u = (first + i * bin - centre) / std;
          out[i] += (this.weights[k] / std) * Math.exp(-0.5 * u * u);
        }
      });
      return out;
    };
    const view = this.stage.view!;
    return [axis(0, view.x), axis(1, view.y)];
  }
}
