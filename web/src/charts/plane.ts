/** A square part of the plane on a canvas, with points, paths, arrows, a heat map and contours. */
import { contours } from "d3-contour";
import { h } from "../dom";
import type { Units } from "./points";
import { onTheme, theme } from "./theme";

export interface View {
  x: [number, number];
  y: [number, number];
}

/** The square that holds nearly all points `[n, 2]`, with a margin around them. */
export function viewOf(points: Float32Array, room = 1.45): View {
  const axis = (d: number) => {
    const values = Array.from({ length: points.length / 2 }, (_, i) => points[2 * i + d]).sort((a, b) => a - b);
    return [values[Math.floor(0.005 * values.length)], values[Math.ceil(0.995 * values.length) - 1]];
  };
  const [x, y] = [axis(0), axis(1)];
  const half = (Math.max(x[1] - x[0], y[1] - y[0], 1e-6) / 2) * room;
  const around = ([low, high]: number[]): [number, number] => [(low + high) / 2 - half, (low + high) / 2 + half];
  return { x: around(x), y: around(y) };
}

/** The part of the plane that data of this mean and standard deviation take up. */
export function viewAround({ mean, std }: Units, room = 2.8): View {
  const half = room * Math.max(std[0], std[1]);
  const around = (middle: number): [number, number] => [middle - half, middle + half];
  return { x: around(mean[0]), y: around(mean[1]) };
}

/** The index of each point's colour on the wheel, by the point's direction from the middle; points are `[n, 2]`. */
export function byDirection(points: Float32Array, view: View, count = 24): Uint8Array {
  const [cx, cy] = [(view.x[0] + view.x[1]) / 2, (view.y[0] + view.y[1]) / 2];
  return Uint8Array.from({ length: points.length / 2 }, (_, i) => {
    const turn = Math.atan2(points[2 * i + 1] - cy, points[2 * i] - cx) / (2 * Math.PI) + 0.5;
    return Math.floor(turn * count) % count;
  });
}

export class Plane {
  readonly element: HTMLElement;
  readonly canvas: HTMLCanvasElement;
  private readonly context: CanvasRenderingContext2D;
  private side = 0;
  private paint: () => void = () => {};

  constructor(
    readonly label: string,
    public view: View,
    caption?: HTMLElement | string,
  ) {
    this.canvas = h("canvas", { role: "img", "aria-label": label });
    this.context = this.canvas.getContext("2d")!;
    this.element = h("figure", { className: "plane" }, this.canvas, caption ? h("figcaption", {}, caption) : null);
    new ResizeObserver(() => this.redraw()).observe(this.canvas);
    onTheme(() => this.redraw());
  }

  /** Set the function that draws. It is called now, and whenever the size or the colours change. */
  draw(paint: () => void): void {
    this.paint = paint;
    this.redraw();
  }

  redraw(): void {
    const width = this.canvas.clientWidth;
    if (!width) return;
    const ratio = Math.min(devicePixelRatio || 1, 2);
    this.side = width;
    if (this.canvas.width !== Math.round(width * ratio))
      this.canvas.width = this.canvas.height = Math.round(width * ratio);
    this.context.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.context.clearRect(0, 0, width, width);
    this.axes();
    this.paint();
  }

  x(value: number): number {
    return ((value - this.view.x[0]) / (this.view.x[1] - this.view.x[0])) * this.side;
  }

  y(value: number): number {
    return this.side - ((value - this.view.y[0]) / (this.view.y[1] - this.view.y[0])) * this.side;
  }

  /** The place of a click or a touch in the plane. */
  at(event: { clientX: number; clientY: number }): [number, number] {
    const box = this.canvas.getBoundingClientRect();
    const { view } = this;
    const u = (event.clientX - box.left) / box.width;
    const v = 1 - (event.clientY - box.top) / box.height;
    return [view.x[0] + u * (view.x[1] - view.x[0]), view.y[0] + v * (view.y[1] - view.y[0])];
  }

  private axes(): void {
    const { context } = this;
    context.strokeStyle = theme().line;
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(this.x(0), 0);
    context.lineTo(this.x(0), this.side);
    context.moveTo(0, this.y(0));
    context.lineTo(this.side, this.y(0));
    context.stroke();
  }

  /** Points `[n, 2]`; `colours` gives each an index into `palette`. */
  points(xy: Float32Array, palette: string[], colours: ArrayLike<number> | null, radius = 2.2, opacity = 0.9): void {
    const { context } = this;
    context.globalAlpha = opacity;
    palette.forEach((colour, k) => {
      if (!colours && k > 0) return;
      context.fillStyle = colour;
      context.beginPath();
      for (let i = 0; 2 * i < xy.length; i++) {
        if (colours && colours[i] !== k) continue;
        const [px, py] = [this.x(xy[2 * i]), this.y(xy[2 * i + 1])];
        context.moveTo(px + radius, py);
        context.arc(px, py, radius, 0, 2 * Math.PI);
      }
      context.fill();
    });
    context.globalAlpha = 1;
  }

  /** Polylines, each `[k, 2]`. */
  paths(lines: ArrayLike<number>[], colour: string, width = 1, opacity = 0.5): void {
    const { context } = this;
    context.globalAlpha = opacity;
    context.strokeStyle = colour;
    context.lineWidth = width;
    context.lineJoin = "round";
    context.beginPath();
    for (const line of lines) {
      for (let i = 0; i < line.length; i += 2) {
        if (i === 0) context.moveTo(this.x(line[0]), this.y(line[1]));
        else context.lineTo(this.x(line[i]), this.y(line[i + 1]));
      }
    }
    context.stroke();
    context.globalAlpha = 1;
  }

  /** Arrows from `[n, 2]` to `[n, 2]`. */
  arrows(from: ArrayLike<number>, to: ArrayLike<number>, colour: string, opacity = 0.75): void {
    const { context } = this;
    context.globalAlpha = opacity;
    context.strokeStyle = colour;
    context.lineWidth = 1.1;
    context.beginPath();
    for (let i = 0; i < from.length; i += 2) {
      const [x0, y0, x1, y1] = [this.x(from[i]), this.y(from[i + 1]), this.x(to[i]), this.y(to[i + 1])];
      const length = Math.hypot(x1 - x0, y1 - y0);
      if (length < 1) continue;
      const head = Math.min(5, 0.4 * length);
      const angle = Math.atan2(y1 - y0, x1 - x0);
      context.moveTo(x0, y0);
      context.lineTo(x1, y1);
      context.moveTo(x1 - head * Math.cos(angle - 0.5), y1 - head * Math.sin(angle - 0.5));
      context.lineTo(x1, y1);
      context.lineTo(x1 - head * Math.cos(angle + 0.5), y1 - head * Math.sin(angle + 0.5));
    }
    context.stroke();
    context.globalAlpha = 1;
  }

  /** Lines of equal value of a `[side, side]` grid over the view, row 0 at the bottom. */
  contours(values: ArrayLike<number>, side: number, thresholds: number[], colour: string): void {
    const { context } = this;
    context.strokeStyle = colour;
    context.lineWidth = 1;
    const scale = this.side / side;
    contours()
      .size([side, side])
      .thresholds(thresholds)(Array.from(values))
      .forEach(({ coordinates }, k) => {
        context.globalAlpha = 0.25 + (0.6 * (k + 1)) / thresholds.length;
        context.beginPath();
        for (const ring of coordinates.flat()) {
          ring.forEach(([u, v], i) =>
            i ? context.lineTo(u * scale, this.side - v * scale) : context.moveTo(u * scale, this.side - v * scale),
          );
        }
        context.stroke();
      });
    context.globalAlpha = 1;
  }

  /** A `[side, side]` grid of values in [0, 1] as opacity of one colour, row 0 at the bottom. */
  heat(values: ArrayLike<number>, side: number, colour: string): void {
    const cell = this.side / side;
    const { context } = this;
    context.fillStyle = colour;
    for (let i = 0; i < side * side; i++) {
      const value = Math.min(values[i], 1);
      if (value < 0.01) continue;
      context.globalAlpha = value;
      context.fillRect((i % side) * cell, this.side - (Math.floor(i / side) + 1) * cell, cell + 0.5, cell + 0.5);
    }
    context.globalAlpha = 1;
  }

  /** Two one-dimensional densities along the upper and the right edge, over bins of equal width. */
  margins(x: ArrayLike<number>, y: ArrayLike<number>, colour: string): void {
    const { context, side } = this;
    const height = 0.11 * side;
    const most = (values: ArrayLike<number>) => Math.max(...Array.from(values), 1e-9);
    const [topX, topY] = [most(x), most(y)];
    context.fillStyle = colour;
    context.globalAlpha = 0.35;
    context.beginPath();
    context.moveTo(0, 0);
    for (let i = 0; i < x.length; i++) context.lineTo(((i + 0.5) / x.length) * side, (x[i] / topX) * height);
    context.lineTo(side, 0);
    context.fill();
    context.beginPath();
    context.moveTo(side, side);
    for (let i = 0; i < y.length; i++)
      context.lineTo(side - (y[i] / topY) * height, side - ((i + 0.5) / y.length) * side);
    context.lineTo(side, 0);
    context.fill();
    context.globalAlpha = 1;
  }
}

/** The centres of a `[side, side]` grid of cells over a view, row 0 at the bottom: `[side * side, 2]`. */
export function places(view: View, side: number): Float32Array {
  const out = new Float32Array(2 * side * side);
  for (let i = 0; i < side * side; i++) {
    out[2 * i] = view.x[0] + (((i % side) + 0.5) / side) * (view.x[1] - view.x[0]);
    out[2 * i + 1] = view.y[0] + ((Math.floor(i / side) + 0.5) / side) * (view.y[1] - view.y[0]);
  }
  return out;
}
