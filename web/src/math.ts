/** Formulas as MathML, put together from small parts. */
const tag =
  (name: string) =>
  (...parts: (string | number)[]) =>
    `<${name}>${parts.join("")}</${name}>`;

export const mi = tag("mi");
export const mn = tag("mn");
export const mo = tag("mo");
export const row = tag("mrow");
export const sub = tag("msub");
export const sup = tag("msup");
export const subsup = tag("msubsup");
export const root = tag("msqrt");
export const frac = tag("mfrac");
const over = tag("mover");

export const bar = (part: string) => over(part, mo("¯"));
export const hat = (part: string) => over(part, mo("^"));
export const display = (...parts: string[]) => `<math display="block">${row(...parts)}</math>`;
export const inline = (...parts: string[]) => `<math>${row(...parts)}</math>`;

export const x0 = sub(mi("x"), mn(0));
export const xt = sub(mi("x"), mi("t"));
export const eps = mi("ε");
export const barAlpha = sub(bar(mi("α")), mi("t"));
