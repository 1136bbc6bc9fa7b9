/** The two ways to draw a run's samples: in the page, or on the server step by step. */
import type { Engine } from "../engine/engine";
import type { SampleQuestion, Walk } from "../engine/tasks";

export interface Walker {
  /** Where the samples are drawn, in words for the reader. */
  readonly where: string;
  /** Draw samples. Where they come step by step, `tell` receives the number of steps done and the steps so far. */
  walk(question: SampleQuestion, tell?: (done: number, soFar: Walk) => void): Promise<Walk>;
}

export class InPage implements Walker {
  readonly where = "in this page";

  constructor(private readonly engine: Engine) {}

  walk(question: SampleQuestion): Promise<Walk> {
    return this.engine.ask("sample", question);
  }
}
