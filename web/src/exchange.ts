/**
 * Messages between the page and the notebook's widget that holds it: the widget sets the choices, and receives samples
 * and points. Only a page that is embedded, as its payload states, sends messages. It accepts those of its parent only.
 */
export type Messages = {
  /** In both directions: sampler, steps, seed, label, guidance. */
  choices: Record<string, unknown>;
  /** In both directions: the slider of the forward panel, 0 to 1. */
  time: number;
  /** To the page: press Generate. */
  generate: null;
  /** From the page: samples in the data's units, `[n * dim]`. */
  samples: { x: number[]; dim: number };
  /** From the page: the points drawn by hand, `[n * 2]`. */
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
