/** The page: a head that describes the run, and the panels for it. */
import { viewAround, viewOf } from "./charts/plane";
import { unitsOf } from "./charts/points";
import { themeChanged } from "./charts/theme";
import { digits, h, select } from "./dom";
import { Engine } from "./engine/engine";
import { Exchange } from "./exchange";
import { Live } from "./live/live";
import { OnServer } from "./live/server";
import { InPage } from "./live/walker";
import { draw } from "./panels/draw";
import { exact } from "./panels/exact";
import { forward } from "./panels/forward";
import type { Panel, Stage } from "./panels/panel";
import { reverse } from "./panels/reverse";
import { schedules } from "./panels/schedules";
import { trajectory } from "./panels/trajectory";
import { type Payload, type RunPayload, unpack } from "./payload";

export const FORMAT = 1;

/** The panels in the order of the page. */
const PANELS: Panel[] = [forward, reverse, schedules, draw, exact];

export interface Mounted {
  engine: Engine;
  payload: Payload;
  /** Show another run. */
  show(run: RunPayload): Promise<void>;
  current(): { run: RunPayload; key: string } | null;
}

/** Put the page into an element. The result is null where the page shows only a trajectory. */
export async function mount(element: HTMLElement, payload: Payload): Promise<Mounted | null> {
  if (payload.format !== FORMAT) {
    element.append(
      h(
        "p",
        { className: "absent" },
        `This page can read data of format ${FORMAT}, and these data have format ${payload.format}. Please export the run again.`,
      ),
    );
    throw new Error("the payload's format is not the page's");
  }
  if (payload.trajectory) {
    element.append(h("main", { id: "main" }, trajectory(payload.trajectory)));
    document.title = payload.trajectory.title;
    return null;
  }
  const engine = new Engine();
  const exchange = new Exchange(payload.embedded ?? false);
  const loaded = new Map<RunPayload, string>();
  let showing: AbortController | null = null;
  let current: { run: RunPayload; key: string } | null = null;
  const head = h("header");
  const main = h("main");
  const footer = h("footer", {}, foot(payload, false));
  const nav = h(
    "nav",
    { "aria-label": "Panels" },
    ...PANELS.map((panel) => h("a", { href: `#${panel.id}` }, panel.title.split(":")[0])),
  );

  const show = async (run: RunPayload) => {
    showing?.abort();
    const control = (showing = new AbortController());
    document.title = `${run.name}: a diffusion model, live`;
    nav.hidden = Boolean(run.pictures);
    footer.textContent = foot(payload, nav.hidden);
    if (run.pictures) {
      current = null;
      main.replaceChildren(summary(run), ...sheets(run.pictures));
      return;
    }
    if (!loaded.has(run)) {
      const key = `run-${loaded.size}`;
      loaded.set(run, key);
      await engine.ask("load", { run: key, payload: run });
    }
    if (control.signal.aborted) return;
    const key = loaded.get(run)!;
    current = { run, key };
    const flat = run.shape.length === 1 && run.shape[0] === 2;
    const walker = run.network
      ? new InPage(engine)
      : payload.live && run.id
        ? new OnServer(payload.live.api, run)
        : null;
    const view = flat ? (run.points ? viewOf(unpack(run.points.x)) : viewAround(unitsOf(run))) : null;
    const stage: Stage = { payload, run, key, engine, view, walker, exchange, signal: control.signal };
    main.replaceChildren(summary(run), ...PANELS.map((panel) => section(panel, stage)));
  };

  const choose = () => {
    if (payload.runs.length < 2) return null;
    const options = payload.runs.map((run, k): [string, string] => [String(k), run.name]);
    const box = select(options, "0", (k) => void show(payload.runs[Number(k)]));
    box.setAttribute("aria-label", "Run");
    return box;
  };
  const live = payload.live ? new Live(payload, engine, show) : null;
  head.append(
    h("a", { className: "skip", href: "#main" }, "Skip to the panels"),
    h("strong", { className: "brand" }, "fromnoise"),
    live ? live.chooser : (choose() ?? h("span")),
    nav,
    h("button", { type: "button", className: "quiet", onclick: turnTheme, "aria-label": "Light or dark" }, "◐"),
  );
  main.id = "main";
  element.append(head, ...(live ? [live.element] : []), main, footer);
  if (payload.runs.length) await show(payload.runs[0]);
  else
    main.append(
      h(
        "p",
        { className: "absent" },
        "There is no run yet. Train one with the form above, or with the command: fromnoise train spiral",
      ),
    );
  return { engine, payload, show, current: () => current };
}

/** What is shown of a run of pictures, drawn where the page was made: such networks do not run in it. */
function sheets({ sheet, strip }: { sheet: string; strip: string }): HTMLElement[] {
  const shown: [string, string, string][] = [
    ["samples", "Samples, by label", sheet],
    ["way", "From noise to pictures", strip],
  ];
  return shown.map(([id, title, src]) =>
    h(
      "section",
      { id, className: "panel sheet", "aria-labelledby": `${id}-title` },
      h("h2", { id: `${id}-title` }, title),
      h("img", { src, alt: title }),
    ),
  );
}

function section(panel: Panel, stage: Stage): HTMLElement {
  const misfit = panel.misfit(stage.run);
  const title = h("h2", { id: `${panel.id}-title` }, panel.title);
  if (misfit !== null) {
    return h(
      "section",
      { id: panel.id, className: "panel", "aria-labelledby": title.id },
      title,
      h("p", { className: "absent" }, `This panel ${misfit}.`),
    );
  }
  return h(
    "section",
    { id: panel.id, className: "panel", "aria-labelledby": title.id },
    title,
    h("div", { className: "body" }, ...panel.mount(stage)),
  );
}

/** A description of the run, with its loss beside the floor. */
function summary(run: RunPayload): HTMLElement {
  const { training } = run;
  const facts: [string, string][] = [
    [
      "data",
      `${run.samples.toLocaleString("en")} samples of ${run.data_name}${run.points ? "" : ", not in this page"}`,
    ],
    ["network", `${run.parameters.toLocaleString("en")} parameters, predicts ${run.predict}`],
    ["schedule", run.schedule.name],
    ["trained", `${run.step.toLocaleString("en")} steps of ${run.batch_size}`],
  ];
  if (training.loss !== null) facts.push(["loss", digits(training.loss, 4)]);
  if (training.floor && training.loss !== null) {
    const { value, zero_output_loss } = training.floor;
    const progress = Math.min((zero_output_loss - training.loss) / (zero_output_loss - value), 1);
    facts.push(["floor", digits(value, 4)], ["progress", `${(100 * progress).toFixed(1)}%`]);
  }
  return h(
    "section",
    { className: "summary", "aria-label": "The run" },
    h("h1", {}, run.name),
    h(
      "dl",
      { className: "readout" },
      ...facts.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))),
    ),
  );
}

function foot(payload: Payload, pictures: boolean): string {
  const what = pictures
    ? "These pictures were drawn where the page was made, and nothing is sent anywhere."
    : "The model runs in this page, and nothing is sent anywhere. A seed gives the same samples here and in fromnoise sample.";
  return `fromnoise ${payload.fromnoise}. ${what}`;
}

function turnTheme(): void {
  const root = document.documentElement;
  const dark = getComputedStyle(root).getPropertyValue("--dark").trim() === "1";
  root.dataset.theme = dark ? "light" : "dark";
  themeChanged();
}
