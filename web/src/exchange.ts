/**
 * Two-way state with what the page stands in: a notebook's widget sets the choices and hears of samples and points.
 * Only a page whose payload says that it is embedded speaks at all, and it listens to its own frame's parent only.
 */
export type Messages = {
  /** Both ways: sampler, steps, seed, label, guidance. */
  choices: Record<string, unknown>;
  /** Both ways: the forward slider, 0 to 1. */
  time: number;
  /** In: press Generate. */
  generate: null;
  /** Out: samples in the data's units, `[n * dim]`. */
  samples: { x: number[]; dim: number };
  /** Out: the points drawn, `[n * 2]`. */
  points: number[];
};

export class Exchange {
  private readonly listeners = new Map<keyof Messages, Set<(value: never) => void>>();

  constructor(private readonly embedded: boolean) {
    if (!embedded) return;
    addEventListener("message", (event) => {
      if (event.source !== window.parent) return;
      const { fromnoise: name, value } = (event.data ?? {}) as { fromnoise?: keyof Messages; value?: never };
      if (name) this.listeners.get(name)?.forEach((listener) => listener(value!));
    });
  }

  tell<Name extends keyof Messages>(name: Name, value: Messages[Name]): void {
    if (this.embedded) window.parent.postMessage({ fromnoise: name, value }, "*");
  }

  hear<Name extends keyof Messages>(name: Name, listener: (value: Messages[Name]) => void, signal: AbortSignal): void {
    const all = this.listeners.get(name) ?? new Set();
    this.listeners.set(name, all.add(listener as (value: never) => void));
    signal.addEventListener("abort", () => all.delete(listener as (value: never) => void));
  }
}
