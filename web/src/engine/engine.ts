/** Questions to a worker and its answers. Where the browser allows no worker, the page's own thread answers. */
import type { Tasks } from "./tasks";
import { tasks } from "./tasks";
import { startTraining, stopTraining, type TrainedNews, type TrainingQuestion } from "./training";
import MakeWorker from "./worker?worker&inline";
import type { ModelPayload } from "../payload";

interface Waiting {
  resolve: (answer: never) => void;
  reject: (error: Error) => void;
  tell?: (news: never) => void;
}

export class Engine {
  private worker: Worker | null = null;
  private readonly waiting = new Map<number, Waiting>();
  private next = 0;

  constructor() {
    try {
      this.worker = new MakeWorker();
      this.worker.onmessage = ({ data }) => this.receive(data);
      this.worker.onerror = (event) => {
        event.preventDefault();
        this.fail(new Error("the page's worker has stopped"));
      };
    } catch {
      this.worker = null;
    }
  }

  ask<Name extends keyof Tasks>(task: Name, question: Parameters<Tasks[Name]>[0]): Promise<ReturnType<Tasks[Name]>> {
    return this.send(task, question);
  }

  train(question: TrainingQuestion, tell: (news: TrainedNews) => void): Promise<ModelPayload> {
    return this.send("train", question, tell);
  }

  stop(): Promise<void> {
    return this.send("stop", null);
  }

  private send<Answer>(task: string, question: unknown, tell?: (news: never) => void): Promise<Answer> {
    if (!this.worker) return here(task, question, tell) as Promise<Answer>;
    const id = this.next++;
    return new Promise<Answer>((resolve, reject) => {
      this.waiting.set(id, { resolve, reject, tell });
      this.worker!.postMessage({ id, task, question });
    });
  }

  private receive(data: { id: number; answer?: never; news?: never; error?: string }): void {
    const waiting = this.waiting.get(data.id);
    if (!waiting) return;
    if ("news" in data) {
      waiting.tell?.(data.news!);
      return;
    }
    this.waiting.delete(data.id);
    if (data.error !== undefined) waiting.reject(new Error(data.error));
    else waiting.resolve(data.answer!);
  }

  private fail(error: Error): void {
    for (const waiting of this.waiting.values()) waiting.reject(error);
    this.waiting.clear();
    this.worker = null; // from now on the page's own thread answers
  }
}

/** Answer a question on the page's own thread. */
async function here(task: string, question: unknown, tell?: (news: never) => void): Promise<unknown> {
  if (task === "train") return startTraining(question as never, tell as (news: unknown) => void);
  if (task === "stop") return stopTraining();
  return (tasks as Record<string, (question: never) => unknown>)[task](question as never);
}
