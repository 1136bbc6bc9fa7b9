/** A slider with a play button. A reader can drag it, play it, and move it with the keyboard. */
import { calm, h } from "./dom";

export class Player {
  readonly element: HTMLElement;
  readonly slider: HTMLInputElement;
  private readonly button: HTMLButtonElement;
  private running: number | null = null;

  constructor(
    private readonly given: {
      label: string;
      max: number;
      value: number;
      seconds: number;
      /** The text of a value, for the label beside the slider and for screen readers. */
      text: (value: number) => string;
      onchange: (value: number) => void;
    },
  ) {
    const output = h("output", {}, given.text(given.value));
    this.slider = h("input", {
      type: "range",
      min: "0",
      max: String(given.max),
      step: "1",
      value: String(given.value),
      "aria-label": given.label,
      "aria-valuetext": given.text(given.value),
      oninput: () => {
        this.pause();
        this.tell();
      },
    });
    this.button = h("button", {
      className: "play",
      type: "button",
      onclick: () => (this.running === null ? this.play() : this.pause()),
    });
    this.element = h("div", { className: "player" }, this.button, this.slider, output);
    this.output = output;
    this.face(false);
  }

  private readonly output: HTMLOutputElement;

  get value(): number {
    return Number(this.slider.value);
  }

  set(value: number, max?: number): void {
    if (max !== undefined) this.slider.max = String(max);
    this.slider.value = String(Math.round(value));
    this.tell();
  }

  /** Play from the slider's place, or from the beginning if it stands at the end. */
  play(): void {
    const max = Number(this.slider.max);
    const first = this.value >= max ? 0 : this.value;
    const began = performance.now();
    const stride = calm() ? max / 10 : 0; // a few large steps for readers who want little motion
    this.face(true);
    const frame = () => {
      const exact = first + ((performance.now() - began) / (1000 * this.given.seconds)) * max;
      const value = stride ? Math.floor(exact / stride) * stride : exact;
      this.set(Math.min(value, max));
      if (exact >= max) this.pause();
      else this.running = requestAnimationFrame(frame);
    };
    this.running = requestAnimationFrame(frame);
  }

  pause(): void {
    if (this.running !== null) cancelAnimationFrame(this.running);
    this.running = null;
    this.face(false);
  }

  private face(playing: boolean): void {
    this.button.textContent = playing ? "❚❚" : "▶";
    this.button.setAttribute("aria-label", playing ? `Pause ${this.given.label}` : `Play ${this.given.label}`);
  }

  private tell(): void {
    const text = this.given.text(this.value);
    this.output.textContent = text;
    this.slider.setAttribute("aria-valuetext", text);
    this.given.onchange(this.value);
  }
}
