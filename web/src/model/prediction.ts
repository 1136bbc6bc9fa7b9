/** The meaning of a network's output, as in `fromnoise.process`: x0_hat = cSkip x_t + cOut F(cIn x_t, c_noise). */
import type { Scales } from "./schedule";

export interface Preconditioning {
  cSkip: number;
  cOut: number;
  cIn: number;
}

export function precondition(predict: string, { alpha, sigma }: Scales, sigmaData: number): Preconditioning {
  const square = alpha * alpha + sigma * sigma;
  const cIn = square < 1 + 1e-9 ? 1 : 1 / Math.sqrt(square);
  switch (predict) {
    case "eps":
      return { cSkip: 1 / alpha, cOut: -sigma / alpha, cIn };
    case "x0":
      return { cSkip: 0, cOut: 1, cIn };
    case "v":
      return { cSkip: alpha / square, cOut: -sigma / square, cIn };
    case "flow":
      return { cSkip: 1 / (alpha + sigma), cOut: -sigma / (alpha + sigma), cIn };
    case "score":
      return { cSkip: 1 / alpha, cOut: (sigma * sigma) / alpha, cIn };
    case "edm": {
      const size = Math.hypot(sigma, alpha * sigmaData);
      return { cSkip: (alpha * sigmaData ** 2) / size ** 2, cOut: (sigma * sigmaData) / size, cIn: 1 / size };
    }
    default:
      throw new Error(`the page does not know the prediction ${predict}`);
  }
}

/** Whether x0 cannot be computed from the output where alpha = 0. */
export const needsSignal = (predict: string): boolean => predict === "eps" || predict === "score";
