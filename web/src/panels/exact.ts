/** Panel 5: the learned denoiser beside the exact one. */
import { Curves } from "../charts/curves";
import { Plane, places } from "../charts/plane";
import { unitsOf, unshown } from "../charts/points";
import { onTheme, theme } from "../charts/theme";
import { digits, eachFrame, field, h, select } from "../dom";
import { call, formula, frac, mi, mn, mo, row, sub, sup, xt } from "../math";
import { schedule } from "../model/schedule";
import { Player } from "../player";
import { Readout } from "../readout";
import { lesson, type Panel, withoutPoints } from "./panel";
import { scoreEnds } from "./reverse";

const ARROWS = 17;
const HEAT = 56;
const LEVELS = 28;
/** The comparison leaves out places where log p_t is lower than its peak by more than this, in nats. */
const RARE = 7;
/** The difference of the noise predictions that has the full colour. */
const FULL = 0.5;

const TEXT = `For a finite set of points, and for a mixture of Gaussians, the best possible denoiser is known exactly. It
is the mean of the clean points, and each point's weight is the probability that the noisy point came from it. The first
picture shows what the run learned, the second one the exact answer at the same noise level, and the third one where
the two differ. The curve shows how much they differ at every noise level, on noisy data.`;

const mean = sub(mi("m"), mi("k"));
const density = call(mi("N"), xt, mo(";"), mi("α"), mean, mo(","), sup(mi("σ"), mn(2)));
const summed = (...parts: string[]) => row(sub(mo("∑"), mi("k")), sub(mi("w"), mi("k")), density, ...parts);

const FORMULA = formula(row(call(sup(mi("D"), mo("*")), xt), mo("="), frac(summed(mean), summed())));

export const exact: Panel = {
  id: "exact",
  title: "Exact against learned",
  misfit: (run) =>
    withoutPoints(run) ??
    (run.few_steps ? "needs a denoiser that answers with a mean, and a model of few steps has none" : null) ??
    (run.law
      ? run.network
        ? null
        : `needs the model in the page: ${run.why_not}`
      : "needs data whose exact denoiser is known"),
  mount(stage) {
    const { run, engine } = stage;
    const units = unitsOf(run);
    const path = schedule(run.schedule);
    const levelsUsed = levelRange(path.lowestLevel, path.level(1));
    let label: number | null = run.labels.length ? 0 : null;
    const view = stage.view!;
    const learned = new Plane("The field that the run learned", view, "learned");
    const best = new Plane("The exact field", view, "exact");
    const heat = new Plane("Where the two differ", view, `difference in ε̂, full colour at ${FULL}`);
    const planes = [learned, best, heat];
    const readout = new Readout();
    const curves = new Curves("error of the noise prediction over the noise level");
    let fields: { from: number[]; learned: number[]; exact: number[]; errors: Float32Array } | null = null;
    let errors: number[] | null = null;

    const level = () => levelsUsed[Math.round((player.value / 100) * (levelsUsed.length - 1))];
    const paint = [
      () => fields && learned.arrows(fields.from, fields.learned, theme().ink),
      () => fields && best.arrows(fields.from, fields.exact, theme().ink),
      () => fields && heat.heat(fields.errors.map((e) => e / FULL), HEAT, theme().warm),
    ]; // prettier-ignore
    planes.forEach((plane, k) => plane.draw(() => void paint[k]()));

    let asking = false;
    let asked = -1;
    const ask = async () => {
      if (asking || stage.signal.aborted || asked === level()) return;
      asking = true;
      const v = level();
      const t = path.timeOfLevel(v);
      const { alpha, sigma } = path.scales(t);
      const size = Math.hypot(alpha, sigma);
      const from = places(view, ARROWS);
      const grid = places(view, HEAT);
      const both = Float32Array.from([...from, ...grid]);
      const x = unshown(both, size, units);
      const given = { run: stage.key, x, t, path: run.schedule, label, guidance: null };
      const learnedX0 = await engine.ask("field", { ...given, exact: false });
      const exactX0 = await engine.ask("field", { ...given, exact: true });
      const there = x.slice(from.length);
      const logs = await engine.ask("density", { run: stage.key, x: there, alpha, sigma, label });
      const densest = Math.max(...logs);
      const far = new Float32Array(HEAT * HEAT);
      for (let i = 0; i < far.length; i++) {
        const j = from.length + 2 * i;
        if (logs[i] < densest - RARE) continue; // there are hardly any noisy data here, so the network could not learn
        far[i] = (alpha * Math.hypot(learnedX0[j] - exactX0[j], learnedX0[j + 1] - exactX0[j + 1])) / sigma;
      }
      const ends = (answer: Float32Array) =>
        scoreEnds(from, x.subarray(0, from.length), answer.subarray(0, from.length), alpha, sigma, stage);
      fields = {
        from: Array.from(from),
        learned: ends(learnedX0),
        exact: ends(exactX0),
        errors: far,
      };
      readout.set("noise level σ/α", digits(v));
      readout.set("largest difference in ε̂", digits(Math.max(...far)));
      asked = v;
      asking = false;
      planes.forEach((plane) => plane.redraw());
      curves.mark(v);
      if (errors) readout.set("typical difference in ε̂", digits(nearest(levelsUsed, errors, v)));
      if (level() !== v) void ask();
    };
    const player = new Player({
      label: "noise level",
      max: 100,
      value: 45,
      seconds: 8,
      text: (value) => `σ/α = ${digits(levelsUsed[Math.round((value / 100) * (levelsUsed.length - 1))])}`,
      onchange: eachFrame(() => void ask()),
    });
    const draw = () => {
      if (!errors) return;
      const lowest = Math.max(Math.min(...errors), 1e-4);
      const domain: [number, number] = [10 ** Math.floor(Math.log10(lowest)), 1];
      curves.draw(
        [{ name: "learned", colour: theme().warm, x: levelsUsed, y: errors }],
        { label: "noise level σ/α", domain: [levelsUsed[0], levelsUsed[levelsUsed.length - 1]], log: true },
        { label: "rms error of ε̂", domain, log: true },
      );
      curves.mark(level());
    };
    const measure = async () => {
      errors = await engine.ask("errors", { run: stage.key, levels: levelsUsed, label });
      if (stage.signal.aborted) return;
      draw();
      asked = -1;
      await ask();
    };
    onTheme(draw);
    void measure();
    stage.signal.addEventListener("abort", () => player.pause());
    const options: [string, string][] = [
      ...run.labels.map((name, k): [string, string] => [String(k), name]),
      ["", "any"],
    ];
    const choice = run.labels.length
      ? field("Label", select(options, "0", (value) => {
          label = value === "" ? null : Number(value);
          void measure();
        }))
      : null; // prettier-ignore
    return [
      h(
        "div",
        { className: "picture full" },
        h("div", { className: "triple" }, ...planes.map((plane) => plane.element)),
        player.element,
      ),
      h("div", { className: "side" }, lesson(stage, TEXT, FORMULA, ["exact"]), choice, readout.element),
      h("div", { className: "side" }, curves.element),
    ];
  },
};

/** Noise levels from low to high, at equal distances in the logarithm. */
function levelRange(least: number, most: number): number[] {
  const low = Math.max(least * 1.01, 0.01);
  const high = Math.min(most * 0.99, 20);
  return Array.from({ length: LEVELS }, (_, i) => low * (high / low) ** (i / (LEVELS - 1)));
}

function nearest(levels: number[], values: number[], level: number): number {
  return values[levels.reduce((kept, v, i) => (Math.abs(v - level) < Math.abs(levels[kept] - level) ? i : kept), 0)];
}
