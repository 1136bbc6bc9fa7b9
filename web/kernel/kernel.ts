// The page's arithmetic in WebAssembly, four numbers at a time. AssemblyScript compiles it twice: with fused
// multiply-add (relaxed SIMD), for browsers that have it, and without. Addresses are in bytes; all numbers are float32.
// `src/model/kernel.ts` describes each function, and has the same ones in plain JavaScript.

// @ts-nocheck: AssemblyScript's types, not TypeScript's

@inline
function fma(a: v128, b: v128, c: v128): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) return f32x4.relaxed_madd(a, b, c);
  return f32x4.add(f32x4.mul(a, b), c);
}

@inline
function all(x: f32): v128 {
  return f32x4.splat(x);
}

// out[r, :] = x[r, :n] W + b. W lies in panels of 8 columns, [m/8][n][8]; x and out have rows of n and m numbers.
// Four rows and eight columns at a time: 8 sums stay in registers, 2 loads of W serve 8 products.
export function affine(x: usize, w: usize, b: usize, out: usize, rows: i32, n: i32, m: i32): void {
  const row = <usize>n << 2;
  const outRow = <usize>m << 2;
  const panel = <usize>n << 5;
  for (let r = 0; r < rows; r += 4) {
    const x0 = x + <usize>r * row;
    const x1 = r + 1 < rows ? x0 + row : x0;
    const x2 = r + 2 < rows ? x0 + 2 * row : x0;
    const x3 = r + 3 < rows ? x0 + 3 * row : x0;
    const o = out + <usize>r * outRow;
    for (let j: usize = 0; j < <usize>m; j += 8) {
      let p = w + (j >> 3) * panel;
      let a0 = v128.load(b + (j << 2)), c0 = v128.load(b + (j << 2), 16);
      let a1 = a0, a2 = a0, a3 = a0, c1 = c0, c2 = c0, c3 = c0;
      for (let k: usize = 0; k < row; k += 4) {
        const wa = v128.load(p), wc = v128.load(p, 16);
        p += 32;
        const y0 = v128.load32_splat(x0 + k);
        a0 = fma(y0, wa, a0);
        c0 = fma(y0, wc, c0);
        const y1 = v128.load32_splat(x1 + k);
        a1 = fma(y1, wa, a1);
        c1 = fma(y1, wc, c1);
        const y2 = v128.load32_splat(x2 + k);
        a2 = fma(y2, wa, a2);
        c2 = fma(y2, wc, c2);
        const y3 = v128.load32_splat(x3 + k);
        a3 = fma(y3, wa, a3);
        c3 = fma(y3, wc, c3);
      }
      const at = o + (j << 2);
      v128.store(at, a0);
      v128.store(at, c0, 16);
      if (r + 1 < rows) {
        v128.store(at + outRow, a1);
        v128.store(at + outRow, c1, 16);
      }
      if (r + 2 < rows) {
        v128.store(at + 2 * outRow, a2);
        v128.store(at + 2 * outRow, c2, 16);
      }
      if (r + 3 < rows) {
        v128.store(at + 3 * outRow, a3);
        v128.store(at + 3 * outRow, c3, 16);
      }
    }
  }
}

// exp of four numbers: 2^k times a polynomial on [-ln 2/2, ln 2/2], relative error below 2e-7 (Cephes' expf).
@inline
function exp4(x: v128): v128 {
  x = f32x4.max(f32x4.min(x, all(88)), all(-87));
  const k = f32x4.nearest(f32x4.mul(x, all(1.44269504)));
  let r = fma(k, all(-0.693359375), x);
  r = fma(k, all(2.12194440e-4), r);
  let p = all(1.9875691500e-4);
  p = fma(p, r, all(1.3981999507e-3));
  p = fma(p, r, all(8.3334519073e-3));
  p = fma(p, r, all(4.1665795894e-2));
  p = fma(p, r, all(1.6666665459e-1));
  p = fma(p, r, all(5.0000001201e-1));
  p = fma(f32x4.mul(p, r), r, f32x4.add(r, all(1)));
  const two = i32x4.shl(i32x4.add(i32x4.trunc_sat_f32x4_s(k), i32x4.splat(127)), 23);
  return f32x4.mul(p, two);
}

// The error function, to 2e-7 (Abramowitz & Stegun 7.1.26).
@inline
function erf4(x: v128): v128 {
  const size = f32x4.abs(x);
  const t = f32x4.div(all(1), fma(size, all(0.3275911), all(1)));
  let p = all(1.061405429);
  p = fma(p, t, all(-1.453152027));
  p = fma(p, t, all(1.421413741));
  p = fma(p, t, all(-0.284496736));
  p = fma(p, t, all(0.254829592));
  const tail = f32x4.mul(f32x4.mul(p, t), exp4(f32x4.neg(f32x4.mul(size, size))));
  return v128.bitselect(x, f32x4.sub(all(1), tail), i32x4.splat(<i32>0x80000000));
}

// h = act(h) in place, count a multiple of 4. kind: 0 silu, 1 relu, 2 leaky relu with slope 0.01, 3 tanh, 4 gelu.
export function activate(h: usize, count: i32, kind: i32): void {
  const end = h + (<usize>count << 2);
  const one = all(1), zero = all(0);
  if (kind == 0) {
    for (let p = h; p < end; p += 16) {
      const x = v128.load(p);
      v128.store(p, f32x4.div(x, f32x4.add(one, exp4(f32x4.neg(x)))));
    }
  } else if (kind == 1) {
    for (let p = h; p < end; p += 16) v128.store(p, f32x4.max(v128.load(p), zero));
  } else if (kind == 2) {
    for (let p = h; p < end; p += 16) {
      const x = v128.load(p);
      v128.store(p, f32x4.max(x, f32x4.mul(x, all(0.01))));
    }
  } else if (kind == 4) {
    for (let p = h; p < end; p += 16) {
      const x = v128.load(p);
      v128.store(p, f32x4.mul(f32x4.mul(x, all(0.5)), f32x4.add(one, erf4(f32x4.mul(x, all(0.70710678))))));
    }
  } else {
    for (let p = h; p < end; p += 16) {
      const x = v128.load(p);
      const e = exp4(f32x4.mul(f32x4.min(f32x4.max(x, all(-15)), all(15)), all(2)));
      v128.store(p, f32x4.div(f32x4.sub(e, one), f32x4.add(e, one)));
    }
  }
}

// out[r, :] = [x, sin(x W), cos(x W)], W being [dim][count]; out has rows of n numbers. count is a multiple of 4.
export function fourier(x: usize, w: usize, out: usize, rows: i32, dim: i32, count: i32, n: i32): void {
  for (let r = 0; r < rows; r++) {
    const at = x + (<usize>(r * dim) << 2);
    let o = out + (<usize>(r * n) << 2);
    for (let d = 0; d < dim; d++) {
      f32.store(o, f32.load(at + (<usize>d << 2)));
      o += 4;
    }
    for (let j = 0; j < count; j += 4) {
      let angle = all(0);
      for (let d = 0; d < dim; d++) {
        angle = fma(v128.load32_splat(at + (<usize>d << 2)), v128.load(w + (<usize>(d * count + j) << 2)), angle);
      }
      sincos4(angle, o + (<usize>j << 2), o + (<usize>(count + j) << 2));
    }
  }
}

// sin and cos of four numbers, each folded to [-pi/4, pi/4] by a quarter turn (Cephes' sinf and cosf).
@inline
function sincos4(x: v128, sinAt: usize, cosAt: usize): void {
  const q = f32x4.nearest(f32x4.mul(x, all(0.636619772)));
  let r = fma(q, all(-1.5703125), x);
  r = fma(q, all(-4.837512969970703e-4), r);
  r = fma(q, all(-7.549789948768648e-8), r);
  const z = f32x4.mul(r, r);
  let s = all(-1.9515295891e-4);
  s = fma(s, z, all(8.3321608736e-3));
  s = fma(s, z, all(-1.6666654611e-1));
  s = fma(f32x4.mul(s, z), r, r);
  let c = all(2.443315711809948e-5);
  c = fma(c, z, all(-1.388731625493765e-3));
  c = fma(c, z, all(4.166664568298827e-2));
  c = fma(f32x4.mul(c, z), z, fma(z, all(-0.5), all(1)));
  const turn = i32x4.trunc_sat_f32x4_s(q);
  const odd = i32x4.ne(v128.and(turn, i32x4.splat(1)), i32x4.splat(0));
  const sign = i32x4.shl(v128.and(turn, i32x4.splat(2)), 30);
  const cosSign = i32x4.shl(v128.and(i32x4.add(turn, i32x4.splat(1)), i32x4.splat(2)), 30);
  v128.store(sinAt, v128.xor(v128.bitselect(c, s, odd), sign));
  v128.store(cosAt, v128.xor(v128.bitselect(s, c, odd), cosSign));
}

// Each row's posterior mean under a mixture of `count` round Gaussians in the plane:
// logits offset_k - |x - a m_k|^2 scale_k; out = sum r_k (m_k shrink_k + gain_k x). params are [count][6] transposed
// to [6][count]: m_x, m_y, offset, scale, shrink, gain; count is a multiple of 4, padded with offset -1e30.
// The row's log-sum-exp goes to logs.
export function mixture(x: usize, params: usize, out: usize, logs: usize, rows: i32, count: i32, a: f32): void {
  const part = <usize>count << 2;
  const px = params, py = px + part, po = py + part, ps = po + part, ph = ps + part, pg = ph + part;
  const alpha = all(a);
  for (let r = 0; r < rows; r++) {
    const x0 = f32.load(x + (<usize>r << 3)), x1 = f32.load(x + (<usize>r << 3), 4);
    const u = all(x0), v = all(x1);
    let top = all(-1e30);
    for (let k: usize = 0; k < part; k += 16) {
      const dx = f32x4.sub(u, f32x4.mul(alpha, v128.load(px + k)));
      const dy = f32x4.sub(v, f32x4.mul(alpha, v128.load(py + k)));
      const d = fma(dx, dx, f32x4.mul(dy, dy));
      top = f32x4.max(top, f32x4.sub(v128.load(po + k), f32x4.mul(d, v128.load(ps + k))));
    }
    let m = f32x4.extract_lane(top, 0);
    m = max(m, f32x4.extract_lane(top, 1));
    m = max(m, f32x4.extract_lane(top, 2));
    m = max(m, f32x4.extract_lane(top, 3));
    const most = all(m);
    let sum = all(0), sx = all(0), sy = all(0), sg = all(0);
    for (let k: usize = 0; k < part; k += 16) {
      const mx = v128.load(px + k), my = v128.load(py + k);
      const dx = f32x4.sub(u, f32x4.mul(alpha, mx));
      const dy = f32x4.sub(v, f32x4.mul(alpha, my));
      const d = fma(dx, dx, f32x4.mul(dy, dy));
      const e = exp4(f32x4.sub(f32x4.sub(v128.load(po + k), f32x4.mul(d, v128.load(ps + k))), most));
      const h = f32x4.mul(e, v128.load(ph + k));
      sum = f32x4.add(sum, e);
      sx = fma(h, mx, sx);
      sy = fma(h, my, sy);
      sg = fma(e, v128.load(pg + k), sg);
    }
    const total = lanes(sum), gain = lanes(sg);
    f32.store(out + (<usize>r << 3), (lanes(sx) + gain * x0) / total);
    f32.store(out + (<usize>r << 3), (lanes(sy) + gain * x1) / total, 4);
    f32.store(logs + (<usize>r << 2), m + <f32>Math.log(total));
  }
}

@inline
function lanes(v: v128): f32 {
  return (
    f32x4.extract_lane(v, 0) + f32x4.extract_lane(v, 1) + (f32x4.extract_lane(v, 2) + f32x4.extract_lane(v, 3))
  );
}
