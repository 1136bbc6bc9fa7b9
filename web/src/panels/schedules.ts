/** Panel 3: two schedules with the same points, the same noise and the same t. */
import { Curves } from "../charts/curves";
import { Plane } from "../charts/plane";
import { onTheme, theme } from "../charts/theme";
import { digits, eachFrame, field, h, select } from "../dom";
import { barAlpha, call, formula, frac, mi, mn, mo, row } from "../math";
import { SCHEDULES, schedule } from "../model/schedule";
import { Player } from "../player";
import { Cloud, timeText } from "./forward";
import { lesson, withoutPoints, type Panel } from "./panel";

const TEXT = `A schedule decides how fast the signal disappears. With the linear schedule the points are nearly pure
noise long before the end, so many of the last steps change little. The cosine schedule removes the signal more evenly. Both
pictures have the same points and the same noise, so every difference comes from the schedule.`;

const FORMULA = formula(row(call(mi("SNR"), mi("t")), mo("="), frac(barAlpha, row(mn(1), mo("−"), barAlpha))));

export const schedules: Panel = {
  id: "schedules",
  title: "Schedules: when does it happen?",
  misfit: () => null,
  mount(stage) {
    const cloud = withoutPoints(stage.run) === null ? new Cloud(stage) : null;
    const names = ["linear", "cosine"];
    const chosen = () => names.map((name) => schedule(name));
    const cell = () => h("td");
    const cells = ["ᾱ", "SNR", "log SNR"].map((name) => ({ name, left: cell(), right: cell() }));
    const heads = names.map((name) => h("th", { scope: "col" }, name));
    const curves = new Curves("log SNR over time, of both schedules");
    const planes = names.map((name) => (cloud ? new Plane(`The points on the ${name} schedule`, stage.view!) : null));

    const redraw = eachFrame(() => {
      const t = player.value / 1000;
      planes.forEach((plane) => plane?.redraw());
      curves.mark(t);
      chosen().forEach((path, k) => {
        const { alpha, sigma } = path.scales(t);
        const side = k ? "right" : "left";
        cells[0][side].textContent = digits((alpha / Math.hypot(alpha, sigma)) ** 2, 4);
        cells[1][side].textContent = digits((alpha / sigma) ** 2, 4);
        cells[2][side].textContent = digits(2 * Math.log(alpha / sigma), 4);
        heads[k].textContent = `${path.name}${path.T ? `, step ${Math.round(t * path.T)}` : ""}`;
      });
    });
    const player = new Player({
      label: "time of both schedules",
      max: 1000,
      value: 250,
      seconds: 6,
      text: (value) => timeText(schedule("linear"), value / 1000),
      onchange: redraw,
    });
    const lines = () => {
      const t = Array.from({ length: 201 }, (_, i) => i / 200);
      const colours = [theme().accent, theme().warm];
      const drawn = chosen().map((path, k) => ({
        name: path.name,
        colour: colours[k],
        x: t,
        y: t.map((u) => path.logSnr(u)),
        dashed: k === 1,
      }));
      curves.draw(drawn, { label: "t", domain: [0, 1] }, { label: "log SNR", domain: [-14, 14] });
      curves.mark(player.value / 1000);
    };
    planes.forEach((plane, k) =>
      plane?.draw(() =>
        plane.points(cloud!.at(chosen()[k].scales(player.value / 1000)), cloud!.palette, cloud!.colours),
      ),
    );
    onTheme(lines);
    const choose = (k: number) => (name: string) => {
      names[k] = name;
      lines();
      redraw();
    };
    lines();
    redraw();
    stage.signal.addEventListener("abort", () => player.pause());
    const options = SCHEDULES.map((name): [string, string] => [name, name]);
    const side = (k: number, what: string) =>
      h("div", {}, field(what, select(options, names[k], choose(k))), planes[k]?.element ?? null);
    const table = h(
      "table",
      {},
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, ""), ...heads)),
      h(
        "tbody",
        {},
        ...cells.map(({ name, left, right }) => h("tr", {}, h("th", { scope: "row" }, name), left, right)),
      ),
    );
    return [
      h(
        "div",
        { className: "picture wide" },
        h("div", { className: "pair" }, side(0, "Left"), side(1, "Right")),
        player.element,
      ),
      h("div", { className: "side" }, lesson(stage, TEXT, FORMULA, ["linear", "cosine"]), curves.element, table),
    ];
  },
};
