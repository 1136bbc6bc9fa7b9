/** Who draws a run's samples: the page, or the server step by step. */
import type { Engine } from "../engine/engine";
import type { SampleQuestion, Walk } from "../engine/tasks";

export interface Walker {
  /** Where it runs, for the page to say. */
  readonly where: string;
  /** Draw samples; where they come step by step, `tell` gets the steps done and the walk so far. */
  walk(question: SampleQuestion, tell?: (done: number, soFar: Walk) => void): Promise<Walk>;
}

export class InPage implements Walker {
  readonly where = "in this page";

  constructor(private readonly engine: Engine) {}

  walk(question: SampleQuestion): Promise<Walk> {
    return this.engine.ask("sample", question);
  }
}
