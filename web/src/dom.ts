/** Functions that make elements. */

type Child = Node | string | null | undefined | false;
type Props = Record<string, unknown>;

/** Make an HTML element: properties, `on...` handlers, attributes with a dash or unknown to the element, children. */
export function h<Tag extends keyof HTMLElementTagNameMap>(
  tag: Tag,
  props: Props = {},
  ...children: Child[]
): HTMLElementTagNameMap[Tag] {
  const element = document.createElement(tag);
  set(element, props);
  element.append(...children.filter((child): child is Node | string => Boolean(child)));
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

export function svg(tag: string, props: Props = {}, ...children: Child[]): SVGElement {
  const element = document.createElementNS(SVG, tag) as SVGElement;
  for (const [key, value] of Object.entries(props))
    if (value !== undefined && value !== false) element.setAttribute(key, String(value));
  element.append(...children.filter((child): child is Node | string => Boolean(child)));
  return element;
}

function set(element: HTMLElement, props: Props): void {
  for (const [key, value] of Object.entries(props)) {
    if (value === undefined || value === false || value === null) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value as EventListener);
    else if (!key.includes("-") && key in element) (element as unknown as Props)[key] = value;
    else element.setAttribute(key, value === true ? "" : String(value));
  }
}

/** Make an element from markup of the page's own, which is trusted: formulas and sentences. */
export function markup(html: string, tag: "div" | "p" | "span" = "div", className = ""): HTMLElement {
  const element = h(tag, { className });
  element.innerHTML = html;
  return element;
}

let labels = 0;

/** Make a control with its label above it. */
export function field(label: string, control: HTMLElement, hint?: string): HTMLElement {
  control.id ||= `field-${labels++}`;
  return h("div", { className: "field", title: hint }, h("label", { htmlFor: control.id }, label), control);
}

export function select(
  options: [value: string, text: string][],
  value: string,
  onchange: (value: string) => void,
): HTMLSelectElement {
  const element = h("select", { onchange: () => onchange(element.value) });
  for (const [key, text] of options) element.append(h("option", { value: key, selected: key === value }, text));
  return element;
}

export function checkbox(label: string, checked: boolean, onchange: (checked: boolean) => void): HTMLElement {
  const box = h("input", { type: "checkbox", checked, onchange: () => onchange(box.checked) });
  return h("label", { className: "check" }, box, label);
}

export const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

/** Return a function that draws at most once per frame, however often it is called. */
export function eachFrame(draw: () => void): () => void {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      draw();
    });
  };
}

/** Return a number as text with a few digits. */
export function digits(x: number, count = 3): string {
  if (!Number.isFinite(x)) return x > 0 ? "∞" : x < 0 ? "−∞" : "–";
  const text =
    Math.abs(x) >= 1e5 || (x !== 0 && Math.abs(x) < 1e-4) ? x.toExponential(count - 1) : x.toPrecision(count);
  return text.replace(/^-/, "−");
}
