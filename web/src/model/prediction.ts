/** What a network's output means: x0 = skip x_t + scale out, as `fromnoise.process` has it. */
import type { Scales } from "./schedule";

export interface Coefficients {
  skip: number;
  scale: number;
}

export function coefficients(predict: string, { alpha, sigma }: Scales, sigmaData: number): Coefficients {
  const square = alpha * alpha + sigma * sigma;
  switch (predict) {
    case "eps":
      return { skip: 1 / alpha, scale: -sigma / alpha };
    case "x0":
      return { skip: 0, scale: 1 };
    case "v":
      return { skip: alpha / square, scale: -sigma / square };
    case "flow":
      return { skip: 1 / (alpha + sigma), scale: -sigma / (alpha + sigma) };
    case "score":
      return { skip: 1 / alpha, scale: (sigma * sigma) / alpha };
    case "edm": {
      const size = Math.hypot(sigma, alpha * sigmaData);
      return { skip: (alpha * sigmaData ** 2) / size ** 2, scale: (sigma * sigmaData) / size };
    }
    default:
      throw new Error(`the page does not know the prediction ${predict}`);
  }
}

/** What x_t is multiplied by on its way into the network. */
export function inputScale(predict: string, { alpha, sigma }: Scales, sigmaData: number): number {
  if (predict === "edm") return 1 / Math.hypot(sigma, alpha * sigmaData);
  const square = alpha * alpha + sigma * sigma;
  return square < 1 + 1e-9 ? 1 : 1 / Math.sqrt(square);
}
