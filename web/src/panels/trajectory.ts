/** A trajectory that was drawn in Python, without a run, for a notebook. */
import { byDirection, Plane, viewOf } from "../charts/plane";
import { theme } from "../charts/theme";
import { checkbox, h } from "../dom";
import { type TrajectoryPayload, unpack } from "../payload";
import { Player } from "../player";

export function trajectory(given: TrajectoryPayload): HTMLElement {
  const [frames, n] = given.x.shape;
  const x = unpack(given.x);
  const at = (k: number) => x.subarray(2 * n * k, 2 * n * (k + 1));
  const plane = new Plane(given.title, viewOf(at(frames - 1)));
  const colours = byDirection(at(frames - 1), plane.view);
  let paths = false;
  const player = new Player({
    label: "the path from noise to data",
    max: frames - 1,
    value: frames - 1,
    seconds: 3,
    text: (k) => `t = ${given.times[k].toFixed(3)}`,
    onchange: () => plane.redraw(),
  });
  const line = (i: number) =>
    Array.from({ length: player.value + 1 }, (_, k) => [...at(k).subarray(2 * i, 2 * i + 2)]).flat();
  plane.draw(() => {
    const shown = Array.from({ length: Math.min(n, 60) }, (_, j) => line(Math.floor((j * n) / Math.min(n, 60))));
    if (paths) plane.paths(shown, theme().quiet, 1, 0.35);
    plane.points(at(player.value), theme().wheel, colours);
  });
  const box = checkbox("paths", paths, (on) => {
    paths = on;
    plane.redraw();
  });
  const picture = h(
    "div",
    { className: "picture" },
    plane.element,
    player.element,
    h("div", { className: "checks" }, box),
  );
  return h(
    "section",
    { className: "panel", "aria-labelledby": "trajectory-title" },
    h("h1", { id: "trajectory-title" }, given.title),
    h("div", { className: "body" }, picture),
  );
}
