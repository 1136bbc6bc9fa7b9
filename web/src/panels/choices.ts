/** The form for drawing samples: sampler, steps, label, guidance, seed. */
import { field, h, select } from "../dom";
import type { SamplerSettings } from "../model/rule";
import { pathFor } from "../model/samplers";
import { schedule } from "../model/schedule";
import type { RunPayload } from "../payload";

export interface Choices {
  sampler: SamplerSettings;
  steps: number;
  seed: number;
  label: number | null;
  guidance: number | null;
}

const USUAL_STEPS = { ddpm: 1000, ddim: 50, multistep: 10, consistency: 2 };
const MOST_STEPS = 1000;
const TITLES = { ddim: "DDIM", consistency: "Consistency" };

type Options = [value: string, text: string][];

export class ChoicesForm {
  readonly element = h("div", { className: "controls" });
  readonly choices: Choices;

  constructor(private readonly run: RunPayload) {
    const labelled = run.labels.length > 0;
    this.choices = {
      sampler: { name: run.few_steps?.sampler ?? "multistep" },
      steps: run.few_steps?.steps ?? USUAL_STEPS.multistep,
      seed: 0,
      label: labelled ? 0 : null,
      guidance: labelled ? Math.min(Math.max(1, this.scales[0]), this.scales[1]) : null,
    };
    this.draw();
  }

  /** Take over choices that were made outside the form. */
  take(given: Partial<Choices>): void {
    Object.assign(this.choices, given);
    this.draw();
  }

  /** The largest number of steps. DDIM and DDPM can take at most one step for each entry of a table. */
  private get most(): number {
    const { sampler } = this.choices;
    const few = this.run.few_steps;
    if (few) return few.most ?? few.steps;
    if (sampler.name === "multistep") return MOST_STEPS;
    const own = schedule(this.run.schedule);
    return Math.min(schedule(pathFor(sampler, own)).T ?? MOST_STEPS, MOST_STEPS);
  }

  /** Make the fields again, since each sampler has its own. */
  private draw(): void {
    const { choices, run } = this;
    const { sampler } = choices;
    const few = run.few_steps;
    const samplers: Options = few ? [[few.sampler, TITLES[few.sampler]]] : [["multistep", "Multistep"], ["ddim", "DDIM"], ["ddpm", "DDPM"]]; // prettier-ignore
    const change = (name: string) => {
      choices.sampler = { name: name as SamplerSettings["name"] };
      choices.steps = Math.min(USUAL_STEPS[choices.sampler.name], this.most);
      this.draw();
    };
    const steps = number(
      choices.steps,
      few && few.most === null ? few.steps : 1,
      this.most,
      1,
      (value) => (choices.steps = value),
    );
    const seed = number(choices.seed, 0, 999999, 1, (value) => (choices.seed = value));
    this.element.replaceChildren(
      field("Sampler", select(samplers, sampler.name, change)),
      field("Steps", steps),
      ...this.ofSampler(),
      ...(run.labels.length ? this.ofLabels() : []),
      field("Seed", seed),
    );
  }

  /** The fields that only one sampler has. The server accepts only eta of them. */
  private ofSampler(): HTMLElement[] {
    const { sampler } = this.choices;
    const here = this.run.network;
    if (this.run.few_steps) return [];
    if (sampler.name === "ddim") {
      const eta = number(sampler.eta ?? 0, 0, 1, 0.1, (value) => (sampler.eta = value));
      return [field("Noise η", eta)];
    }
    if (!here) return [];
    if (sampler.name === "multistep") {
      const orders = [1, 2, 3, 4].map((k): [string, string] => [String(k), String(k)]);
      const order = select(orders, String(sampler.order ?? 4), (value) => (sampler.order = Number(value)));
      return [field("Order", order)];
    }
    const kinds: Options = [["small", "small, β̃"], ["large", "large, β"]]; // prettier-ignore
    if (here.settings.learned_variance) kinds.push(["learned", "learned"]);
    const variance = select(kinds, sampler.variance ?? "small", (value) => (sampler.variance = value as "small"));
    return [field("Variance", variance)];
  }

  /** The lowest and the highest guidance scale: of a model of few steps those that it was taught. */
  private get scales(): [number, number] {
    return this.run.network?.settings.guidance ?? (this.run.few_steps ? [1, 1] : [0, 20]);
  }

  private ofLabels(): HTMLElement[] {
    const { choices } = this;
    const labels: Options = [...this.run.labels.map((name, k): [string, string] => [String(k), name]), ["", "any"]];
    const shown = choices.label === null ? "" : String(choices.label);
    const label = select(labels, shown, (value) => (choices.label = value === "" ? null : Number(value)));
    const scale = number(choices.guidance ?? 1, ...this.scales, 0.5, (value) => (choices.guidance = value));
    return [
      field("Label", label),
      field("Guidance", scale, "1 is the conditional model without guidance; larger values keep closer to the label"),
    ];
  }
}

/** A field for a number. A number outside the range becomes the nearest one inside. */
function number(
  value: number,
  min: number,
  max: number,
  step: number,
  onchange: (value: number) => void,
): HTMLInputElement {
  const input = h("input", {
    type: "number",
    min: String(min),
    max: String(max),
    step: String(step),
    value: String(value),
    onchange: () => {
      const given = Number(input.value);
      const kept = Number.isFinite(given) ? Math.min(Math.max(given, min), max) : value;
      input.value = String(step === 1 ? Math.round(kept) : kept);
      onchange(Number(input.value));
    },
  });
  return input;
}
