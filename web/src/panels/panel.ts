/** What a panel is: a small module that says which runs it fits, and draws itself for one. */
import { h, markup } from "../dom";
import type { View } from "../charts/plane";
import type { Engine } from "../engine/engine";
import type { Exchange } from "../exchange";
import type { Walker } from "../live/walker";
import type { CodeLine, Payload, RunPayload } from "../payload";

export interface Stage {
  payload: Payload;
  run: RunPayload;
  /** The run's name among the engine's models. */
  key: string;
  engine: Engine;
  /** With the notebook that holds the page, if one does. */
  exchange: Exchange;
  /** The piece of the plane that the run's points take, in the data's units; null where they are not in a plane. */
  view: View | null;
  /** What draws samples: the page itself, or the server for what the page cannot run. */
  walker: Walker | null;
  /** Ends when another run is shown. */
  signal: AbortSignal;
}

export interface Panel {
  id: string;
  title: string;
  /** Why the run does not fit, in a sentence; null where it does. */
  misfit(run: RunPayload): string | null;
  mount(stage: Stage): HTMLElement[];
}

/** What most panels ask of a run. */
export function notInThePlane(run: RunPayload): string | null {
  if (run.shape.length === 1 && run.shape[0] === 2) return null;
  return `needs points in the plane, and this run's samples have shape [${run.shape.join(", ")}]`;
}

/** Two or three sentences that teach, the formula, and the lines of the library that do it. */
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
    h("summary", {}, "The code that does it: ", h("code", {}, `${code.file}:${code.line}`)),
    h("pre", { tabIndex: 0 }, numbered.join("\n")),
  );
}
