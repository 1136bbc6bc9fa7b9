/** Who draws a run's samples: the page, or the server step by step. */
import type { Engine } from "../engine/engine";
import type { SampleQuestion, Walk } from "../engine/tasks";

export interface Walker {
  /** Where it runs, for the page to say. */
  readonly where: string;
  /** Draw samples; `tell` gets steps done, where they come one by one. */
  walk(question: SampleQuestion, tell?: (done: number) => void): Promise<Walk>;
}

export class InPage implements Walker {
  readonly where = "in this page";

  constructor(private readonly engine: Engine) {}

  walk(question: SampleQuestion): Promise<Walk> {
    return this.engine.ask("sample", question);
  }
}
