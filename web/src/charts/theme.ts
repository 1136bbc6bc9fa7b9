/** The colours of the style sheet, light or dark, for drawing on canvases. */

export interface Theme {
  ink: string;
  quiet: string;
  line: string;
  card: string;
  accent: string;
  warm: string;
  labels: string[];
  /** The colours of a wheel, for points coloured by their direction. */
  wheel: string[];
}

const WHEEL = 24;
let current: Theme | null = null;
const listeners = new Set<() => void>();

export function theme(): Theme {
  if (!current) {
    const style = getComputedStyle(document.documentElement);
    const read = (name: string) => style.getPropertyValue(`--${name}`).trim();
    const dark = style.colorScheme.includes("dark") && read("dark") === "1";
    current = {
      ink: read("ink"),
      quiet: read("quiet"),
      line: read("line"),
      card: read("card"),
      accent: read("accent"),
      warm: read("warm"),
      labels: [1, 2, 3, 4, 5, 6].map((k) => read(`label-${k}`)),
      wheel: Array.from({ length: WHEEL }, (_, k) => `oklch(${dark ? "0.76" : "0.58"} 0.15 ${(360 * k) / WHEEL})`),
    };
  }
  return current;
}

/** Call a function whenever the colours change. */
export function onTheme(listener: () => void): void {
  listeners.add(listener);
}

export function themeChanged(): void {
  current = null;
  for (const listener of listeners) listener();
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", themeChanged);
