/** The worker. It answers the page's questions one after another. */
import { tasks } from "./tasks";
import { startTraining, stopTraining } from "./training";

self.onmessage = async ({ data }: MessageEvent<{ id: number; task: string; question: unknown }>) => {
  const { id, task, question } = data;
  const tell = (news: unknown) => self.postMessage({ id, news });
  try {
    let answer: unknown;
    if (task === "train") answer = await startTraining(question as never, tell);
    else if (task === "stop") answer = stopTraining();
    else answer = (tasks as Record<string, (question: never) => unknown>)[task](question as never);
    self.postMessage({ id, answer });
  } catch (error) {
    self.postMessage({ id, error: error instanceof Error ? error.message : String(error) });
  }
};
