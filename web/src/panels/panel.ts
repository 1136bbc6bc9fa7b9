/** The interface of a panel: which runs it can show, and how it shows one. */
import { h, markup } from "../dom";
import type { View } from "../charts/plane";
import type { Engine } from "../engine/engine";
import type { Exchange } from "../exchange";
import type { Walker } from "../live/walker";
import type { CodeLine, Payload, RunPayload } from "../payload";

export interface Stage {
  payload: Payload;
  run: RunPayload;
  /** The name of the run among the engine's models. */
  key: string;
  engine: Engine;
  /** Messages to and from the notebook that holds the page, if there is one. */
  exchange: Exchange;
  /** The part of the plane that the run's points take up, in the data's units; null where they are not in a plane. */
  view: View | null;
  /** Draws samples: in the page, or on the server if the page cannot run the model. */
  walker: Walker | null;
  /** Aborted when another run is shown. */
  signal: AbortSignal;
}

export interface Panel {
  id: string;
  title: string;
  /** Why the panel cannot show the run, as the end of a sentence; null where it can. */
  misfit(run: RunPayload): string | null;
  mount(stage: Stage): HTMLElement[];
}

/** The requirement of most panels: points in the plane. */
export function notInThePlane(run: RunPayload): string | null {
  if (run.shape.length === 1 && run.shape[0] === 2) return null;
  return `needs points in the plane, and this run's samples have shape [${run.shape.join(", ")}]`;
}

/** The requirement of panels that show the data themselves. */
export function withoutPoints(run: RunPayload): string | null {
  return notInThePlane(run) ?? (run.points ? null : "needs the training data, and this page was made without them");
}

/** The text of a panel: an explanation, the formula, and the library's code for it. */
export function lesson(stage: Stage, text: string, formula: string, code: string[]): HTMLElement {
  return h(
    "div",
    { className: "lesson" },
    markup(text, "p"),
    markup(formula, "div", "formula"),
    ...code
      .map((name) => stage.payload.code[name])
      .filter(Boolean)
      .map(source),
  );
}

function source(code: CodeLine): HTMLElement {
  const numbered = code.text.split("\n").map((line, i) => `${String(code.line + i).padStart(4)}  ${line}`);
  return h(
    "details",
    { className: "source" },
    h("summary", {}, "Code: ", h("code", {}, `${code.file}:${code.line}`)),
    h("pre", { tabIndex: 0 }, numbered.join("\n")),
  );
}
