import { h } from "./dom";

/** A list of names and values; the values change. */
export class Readout {
  readonly element = h("dl", { className: "readout" });
  private readonly values = new Map<string, HTMLElement>();

  set(name: string, value: string): void {
    let cell = this.values.get(name);
    if (!cell) {
      cell = h("dd", {}, "");
      this.values.set(name, cell);
      this.element.append(h("div", {}, h("dt", {}, name), cell));
    }
    if (cell.textContent !== value) cell.textContent = value;
  }
}
