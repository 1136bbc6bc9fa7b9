/** The part above the panels that a page from the studio has: the list of runs, and the trainings. */
import { h } from "../dom";
import type { Engine } from "../engine/engine";
import type { Payload, RunPayload } from "../payload";
import { type FormPayload, TrainingForm } from "./form";
import { ask, BEGUN, type Listed, train } from "./server";
import { Watch } from "./watch";

export class Live {
  readonly chooser = h("select", { "aria-label": "Run", className: "runs" });
  readonly element: HTMLElement;
  private readonly status = h("p", { className: "status", role: "status" });
  private readonly watched = h("div");
  private readonly forms = h("div");
  private readonly trainings = new Map<string, Watch>();
  private shown: string;

  constructor(
    private readonly payload: Payload,
    private readonly engine: Engine,
    private readonly show: (run: RunPayload) => Promise<void>,
  ) {
    this.chooser.addEventListener("change", () => void this.open(this.chooser.value));
    const details = h(
      "details",
      { ontoggle: () => void (details.open && this.form()) },
      h("summary", {}, "Train a new run"),
      this.forms,
    );
    this.element = h(
      "section",
      { className: "live", "aria-label": "Trainings on this computer" },
      details,
      this.status,
      this.watched,
    );
    this.shown = payload.runs[0]?.id ?? "";
    document.addEventListener(BEGUN, () => void this.list()); // the new training is in the list of runs
    void this.list();
    setInterval(() => void (document.visibilityState === "visible" && this.list()), 5000);
  }

  private get api(): string {
    return this.payload.live!.api;
  }

  /** Update the list of runs, and watch those that are training. */
  private async list(): Promise<void> {
    try {
      const { runs } = await ask<{ runs: Listed[] }>(this.api, "/runs");
      const text = ({ name, state, step, steps }: Listed) =>
        state === "done"
          ? name
          : state === "training"
            ? `${name} (training, ${Math.floor((100 * step) / steps)}%)`
            : `${name} (${state})`;
      if (document.activeElement !== this.chooser) {
        this.chooser.replaceChildren(
          ...runs.map((run) => h("option", { value: run.id, selected: run.id === this.shown }, text(run))),
        );
      }
      const mine = runs.find((run) => run.id === this.shown);
      if (mine?.state === "gone") {
        this.status.textContent = `${mine.name} is gone from the disk; the page still shows what it had loaded`;
      }
      for (const run of runs) if (run.state === "training" || run.state === "queued") this.watch(run.id, run.name);
    } catch (error) {
      this.status.textContent = (error as Error).message;
    }
  }

  private async form(): Promise<void> {
    if (this.forms.childElementCount) return;
    try {
      const form = await ask<FormPayload>(this.api, "/form");
      const made = new TrainingForm(form, (asked) => {
        this.status.textContent = "sending the settings…";
        train(this.api, asked).then(
          (text) => (this.status.textContent = text),
          (error: Error) => (this.status.textContent = error.message),
        );
      });
      this.forms.replaceChildren(made.element);
    } catch (error) {
      this.status.textContent = (error as Error).message;
    }
  }

  private watch(id: string, name: string): void {
    if (this.trainings.has(id)) return;
    const watch = new Watch(
      this.api,
      id,
      name,
      this.engine,
      () => void this.list(),
      (run) => void this.open(run),
    );
    this.trainings.set(id, watch);
    this.watched.prepend(watch.element);
    void this.list();
  }

  private async open(id: string): Promise<void> {
    try {
      this.status.textContent = "reading the run…";
      const run = await ask<RunPayload>(this.api, `/runs/${id}`);
      this.shown = id;
      await this.show({ ...run, id });
      this.status.textContent = "";
      await this.list();
    } catch (error) {
      this.status.textContent = (error as Error).message;
    }
  }
}
