/** The form for a new training. The configuration's schema gives its names, types, ranges and descriptions. */
import { field, h, select } from "../dom";
import type { Asked } from "./server";

interface Schema {
  type?: string;
  enum?: string[];
  default?: unknown;
  minimum?: number;
  maximum?: number;
  description?: string;
  properties?: Record<string, Schema>;
}

export interface FormPayload {
  data: string[];
  recipes: Record<string, Record<string, unknown>>;
  schema: {
    data: Record<string, Schema>;
    train: Schema;
    components: Record<string, Record<string, Schema>>;
  };
}

/** The settings that most people change; all others stand under "All settings". */
const EVERYDAY = ["schedule.name", "predict.name", "train.steps", "train.seed"];

const GROUPS = ["data", "schedule", "network", "train"];

/** The group of a setting: data, schedule, network or train. The codec belongs to the data, the prediction to the network. */
function groupOf(key: string): string {
  const group = key.split(".")[0];
  return { codec: "data", predict: "network" }[group] ?? group;
}

export class TrainingForm {
  readonly element = h("form", { className: "training-form" });
  private data = "spiral";
  private recipe = "points";
  private values: Record<string, unknown> = {};
  private open = false;

  constructor(
    private readonly form: FormPayload,
    private readonly submit: (asked: Asked) => void,
  ) {
    this.element.addEventListener("submit", (event) => {
      event.preventDefault();
      this.submit({ data: this.data, recipe: this.recipe, changes: this.changes() });
    });
    this.take("points");
  }

  /** Start from a recipe. */
  private take(recipe: string): void {
    this.recipe = recipe;
    this.values = { ...this.form.recipes[recipe] };
    this.draw();
  }

  /** The settings that differ from the recipe. A component of another name has its own defaults. */
  private changes(): Record<string, unknown> {
    const base = this.form.recipes[this.recipe];
    const changed = Object.entries(this.values).filter(([key, value]) => {
      const group = this.componentOf(key);
      const other = group !== null && this.values[`${group}.name`] !== base[`${group}.name`];
      const usual = other && !key.endsWith(".name") ? this.schemaOf(key)?.default : base[key];
      return JSON.stringify(value) !== JSON.stringify(usual);
    });
    return Object.fromEntries(changed);
  }

  private componentOf(key: string): string | null {
    return Object.keys(this.form.schema.components).find((group) => key.startsWith(`${group}.`)) ?? null;
  }

  private schemaOf(key: string): Schema | undefined {
    const { schema } = this.form;
    const group = this.componentOf(key);
    if (group) {
      const component = schema.components[group][String(this.values[`${group}.name`])];
      return component?.properties?.[key.slice(group.length + 1)];
    }
    if (key.startsWith("data.")) return schema.data[key.slice(5)];
    if (key.startsWith("train.")) return schema.train.properties?.[key.slice(6)];
    return undefined;
  }

  /** Change a setting. A new name of a component replaces all settings of that component. */
  private set(key: string, value: unknown): void {
    const group = this.componentOf(key);
    if (group && key === `${group}.name`) {
      for (const old of Object.keys(this.values)) if (old.startsWith(`${group}.`)) delete this.values[old];
      this.values[key] = value;
      const properties = this.form.schema.components[group][String(value)]?.properties ?? {};
      for (const [name, { default: usual }] of Object.entries(properties))
        if (usual !== undefined) this.values[`${group}.${name}`] = usual;
      this.draw();
    } else this.values[key] = value;
  }

  private control(key: string): HTMLElement | null {
    const value = this.values[key];
    const group = this.componentOf(key);
    const title = key
      .replace(/\.name$/, "")
      .replace(EVERYDAY.includes(key) ? /^train\./ : /^(train|data|schedule|network|predict|codec)\.(?=.)/, "")
      .replaceAll("_", " ");
    if (group && key === `${group}.name`) {
      const components = this.form.schema.components[group];
      const options = Object.keys(components).map((name): [string, string] => [name, name]);
      return field(
        title,
        select(options, String(value), (name) => this.set(key, name)),
        components[String(value)]?.description,
      );
    }
    const schema = this.schemaOf(key);
    if (Array.isArray(value) || !schema) return null; // the form has no field for pairs of numbers
    const options = schema.enum;
    if (options) {
      return field(
        title,
        select(
          options.map((name): [string, string] => [name, name]),
          String(value),
          (name) => this.set(key, name),
        ),
        schema.description,
      );
    }
    if (typeof value === "boolean") {
      const box = h("input", { type: "checkbox", checked: value, onchange: () => this.set(key, box.checked) });
      return h("label", { className: "check", title: schema.description }, box, title);
    }
    const whole = schema.type === "integer";
    const input = h("input", {
      type: "number",
      step: whole ? "1" : "any",
      min: schema.minimum === undefined ? undefined : String(schema.minimum),
      max: schema.maximum === undefined ? undefined : String(schema.maximum),
      required: value !== null,
      value: value === null ? "" : String(value),
      placeholder: value === null ? "from the data" : "",
      onchange: () => this.set(key, input.value === "" ? null : Number(input.value)),
    });
    return field(title, input, schema.description);
  }

  /** The settings of a group, without the everyday ones. A component's name stands before its settings. */
  private group(name: string): HTMLElement {
    const keys = Object.keys(this.values).filter((key) => groupOf(key) === name && !EVERYDAY.includes(key));
    const first = (key: string) => key.replace(/\.name$/, ". ");
    keys.sort((a, b) => (first(a) < first(b) ? -1 : 1));
    return h(
      "fieldset",
      {},
      h("legend", {}, name),
      h("div", { className: "controls" }, ...keys.map((key) => this.control(key))),
    );
  }

  private draw(): void {
    const names = (all: string[]) => all.map((name): [string, string] => [name, name]);
    const all = h(
      "details",
      { open: this.open, ontoggle: () => (this.open = all.open) },
      h("summary", {}, "All settings"),
      ...GROUPS.map((group) => this.group(group)),
    );
    this.element.replaceChildren(
      h(
        "div",
        { className: "controls" },
        field(
          "Data",
          select(names(this.form.data), this.data, (name) => (this.data = name)),
        ),
        field(
          "Recipe",
          select(names(Object.keys(this.form.recipes)), this.recipe, (name) => this.take(name)),
        ),
        ...EVERYDAY.map((key) => this.control(key)),
      ),
      all,
      h("div", { className: "row" }, h("button", { className: "primary", type: "submit" }, "Start training")),
    );
  }
}
