/** Functions that put formulas together from small parts, as MathML. */
const tag =
  (name: string, attributes = "") =>
  (...parts: (string | number)[]) =>
    `<${name}${attributes}>${parts.join("")}</${name}>`;

export const mi = tag("mi");
export const mn = tag("mn");
export const mo = tag("mo");
export const row = tag("mrow");
export const sub = tag("msub");
export const sup = tag("msup");
export const frac = tag("mfrac");
const over = tag("mover", ' accent="true"');
/** A sign that keeps its own size, however tall or wide the formula beside it is. */
const fixed = tag("mo", ' stretchy="false"');

/** A root. The size of what stands under it is stated, so that rounding cannot make one root taller than the next. */
const strut = tag("mpadded", ' height="0.68em" depth="0.18em"');
export const root = (part: string) => tag("msqrt")(strut(part));

export const bar = (part: string) => over(part, fixed("¯"));
export const hat = (part: string) => over(part, fixed("ˆ"));
/** f(a, b; c): the arguments with the signs between them. */
export const call = (f: string, ...parts: string[]) => row(f, fixed("("), ...parts, fixed(")"));
export const norm = (...parts: string[]) => row(fixed("‖"), ...parts, fixed("‖"));

/**
 * A formula of one or several pieces. On a narrow screen the pieces stand below each other, so each must be narrow
 * enough for a phone by itself.
 */
export const formula = (...pieces: string[]) =>
  pieces.map((piece) => `<math display="block">${row(piece)}</math>`).join("");

export const x0 = sub(mi("x"), mn(0));
export const xt = sub(mi("x"), mi("t"));
export const eps = mi("ε");
export const barAlpha = sub(bar(mi("α")), mi("t"));
