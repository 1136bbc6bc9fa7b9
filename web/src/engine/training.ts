/** Training in a worker. It does some steps at a time, so that a request to stop can arrive in between. */
import { Trainer, type TrainSettings } from "../model/train";
import type { ModelPayload } from "../payload";

export interface TrainingQuestion {
  points: Float32Array;
  settings: TrainSettings;
}

export interface TrainedNews {
  step: number;
  steps: number;
  loss: number;
  /** The lowest expected loss that any network can reach on these points. */
  floor: number;
  /** The present model; only some news have it. */
  model?: ModelPayload;
}

let stopped = false;

export function stopTraining(): void {
  stopped = true;
}

const pause = () => new Promise<void>((resolve) => setTimeout(resolve, 0));

export async function startTraining(
  { points, settings }: TrainingQuestion,
  tell: (news: TrainedNews) => void,
): Promise<ModelPayload> {
  stopped = false;
  const trainer = new Trainer(points, settings);
  const floor = trainer.floor();
  let shown = performance.now();
  let [sum, count] = [0, 0];
  while (trainer.step < settings.steps && !stopped) {
    const began = performance.now();
    while (trainer.step < settings.steps && performance.now() - began < 60) {
      const loss = trainer.advance();
      if (!Number.isFinite(loss)) throw new Error("the loss became infinite: draw the points less far apart");
      sum += loss;
      count += 1;
    }
    const show = performance.now() - shown > 900;
    tell({
      step: trainer.step,
      steps: settings.steps,
      loss: sum / count,
      floor,
      ...(show ? { model: trainer.model() } : {}),
    });
    [sum, count] = [0, 0];
    if (show) shown = performance.now();
    await pause();
  }
  return trainer.model();
}
