/** What the page shows on top when a server answers: the runs it has, and trainings. */
import { h } from "../dom";
import type { Payload, RunPayload } from "../payload";
import { ask, type Listed } from "./server";

export class Live {
  readonly chooser = h("select", { "aria-label": "Run" });
  readonly element = h("section", { className: "live", "aria-label": "Runs on this computer" });
  private readonly status = h("p", { className: "status", role: "status" });
  private shown = "";

  constructor(
    private readonly payload: Payload,
    private readonly show: (run: RunPayload) => Promise<void>,
  ) {
    this.chooser.addEventListener("change", () => void this.open(this.chooser.value));
    this.element.append(this.status);
    this.shown = payload.runs[0]?.id ?? "";
    void this.list();
  }

  private get api(): string {
    return this.payload.live!.api;
  }

  private async list(): Promise<void> {
    try {
      const { runs } = await ask<{ runs: Listed[] }>(this.api, "/runs");
      this.chooser.replaceChildren(
        ...runs.map((run) =>
          h(
            "option",
            { value: run.id, selected: run.id === this.shown },
            `${run.name}${run.state === "done" ? "" : ` (${run.state})`}`,
          ),
        ),
      );
    } catch (error) {
      this.status.textContent = (error as Error).message;
    }
  }

  private async open(id: string): Promise<void> {
    try {
      const run = await ask<RunPayload>(this.api, `/runs/${id}`);
      this.shown = id;
      await this.show({ ...run, id });
      this.status.textContent = "";
    } catch (error) {
      this.status.textContent = (error as Error).message;
    }
  }
}
