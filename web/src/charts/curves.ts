/** A chart of lines with a marker that moves: log SNR over time, loss over steps, error over the noise level. */
import { scaleLinear, scaleLog } from "d3-scale";
import { h, svg } from "../dom";

export interface Curve {
  name: string;
  colour: string;
  x: ArrayLike<number>;
  y: ArrayLike<number>;
  dashed?: boolean;
}

export interface Axis {
  label: string;
  domain: [number, number];
  log?: boolean;
}

const HEIGHT = 240;
const EDGE = { left: 52, right: 14, top: 12, bottom: 40 };

export class Curves {
  readonly element: HTMLElement;
  private readonly picture: SVGElement;
  private width = 460;
  private drawn: [Curve[], Axis, Axis] | null = null;
  private marked: number | null = null;
  private readonly marker: SVGElement;
  private readonly body: SVGElement;
  private scaleX = scaleLinear();

  constructor(readonly label: string) {
    this.marker = svg("line", { class: "marker", y1: EDGE.top, y2: HEIGHT - EDGE.bottom, visibility: "hidden" });
    this.body = svg("g");
    this.picture = svg("svg", { class: "curves", role: "img", "aria-label": label }, this.body, this.marker);
    this.element = h("div", { className: "chart" }, this.picture);
    // the picture is as wide as the element, so its text has the page's size on a phone too
    new ResizeObserver(([{ contentRect }]) => {
      const width = Math.round(Math.min(contentRect.width, 560));
      if (!width || width === this.width) return;
      this.width = width;
      if (this.drawn) this.draw(...this.drawn);
    }).observe(this.element);
  }

  draw(curves: Curve[], x: Axis, y: Axis): void {
    this.drawn = [curves, x, y];
    const { width } = this;
    this.picture.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    this.picture.setAttribute("width", String(width));
    this.picture.setAttribute("height", String(HEIGHT));
    const scale = ({ domain, log }: Axis, range: number[]) =>
      (log ? scaleLog() : scaleLinear()).domain(domain).range(range).clamp(true);
    const across = scale(x, [EDGE.left, width - EDGE.right]);
    const up = scale(y, [HEIGHT - EDGE.bottom, EDGE.top]);
    this.scaleX = across as typeof this.scaleX;
    const parts: SVGElement[] = [];
    for (const tick of ticks(across, x, 6)) {
      parts.push(
        svg("line", { class: "grid", x1: across(tick), x2: across(tick), y1: EDGE.top, y2: HEIGHT - EDGE.bottom }),
      );
      parts.push(
        svg("text", { x: across(tick), y: HEIGHT - EDGE.bottom + 16, "text-anchor": "middle" }, readable(tick)),
      );
    }
    for (const tick of ticks(up, y, 5)) {
      parts.push(svg("line", { class: "grid", x1: EDGE.left, x2: width - EDGE.right, y1: up(tick), y2: up(tick) }));
      parts.push(svg("text", { x: EDGE.left - 7, y: up(tick) + 4, "text-anchor": "end" }, readable(tick)));
    }
    parts.push(
      svg(
        "text",
        { x: (EDGE.left + width - EDGE.right) / 2, y: HEIGHT - 6, "text-anchor": "middle", class: "name" },
        x.label,
      ),
    );
    parts.push(
      svg(
        "text",
        { transform: `translate(13 ${HEIGHT / 2 - 10}) rotate(-90)`, "text-anchor": "middle", class: "name" },
        y.label,
      ),
    );
    curves.forEach((curve, k) => {
      const at: string[] = [];
      for (let i = 0; i < curve.x.length; i++) {
        if (Number.isFinite(curve.y[i]) && Number.isFinite(curve.x[i]))
          at.push(`${across(curve.x[i]).toFixed(1)},${up(curve.y[i]).toFixed(1)}`);
      }
      const dash = curve.dashed ? "5 4" : undefined;
      parts.push(
        svg("polyline", {
          points: at.join(" "),
          fill: "none",
          stroke: curve.colour,
          "stroke-width": 2,
          "stroke-dasharray": dash,
        }),
      );
      if (curves.length > 1) {
        const row = EDGE.top + 14 + 17 * k;
        parts.push(
          svg("line", {
            x1: width - 120,
            x2: width - 100,
            y1: row - 4,
            y2: row - 4,
            stroke: curve.colour,
            "stroke-width": 2,
            "stroke-dasharray": dash,
          }),
        );
        parts.push(svg("text", { x: width - 94, y: row }, curve.name));
      }
    });
    this.body.replaceChildren(...parts);
    this.mark(this.marked);
  }

  mark(x: number | null): void {
    this.marked = x;
    this.marker.setAttribute("visibility", x === null ? "hidden" : "visible");
    if (x === null) return;
    this.marker.setAttribute("x1", this.scaleX(x).toFixed(1));
    this.marker.setAttribute("x2", this.scaleX(x).toFixed(1));
  }
}

function ticks(scale: { ticks: (count: number) => number[] }, axis: Axis, count: number): number[] {
  const all = scale.ticks(count);
  return axis.log ? all.filter((tick) => Math.abs(Math.log10(tick) - Math.round(Math.log10(tick))) < 1e-9) : all;
}

function readable(x: number): string {
  const size = Math.abs(x);
  if (size >= 10000) return `${x / 1000}k`;
  return String(Number(x.toPrecision(4))).replace(/^-/, "−");
}
