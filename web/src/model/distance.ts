/** The 2-Wasserstein distance of two equally large sets: the root mean square distance of the best matched pairs. */

export function wasserstein2(a: Float32Array, b: Float32Array, dim: number): number {
  const n = a.length / dim;
  const cost = new Float64Array(n * n);
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < n; j++) {
      let sum = 0;
      for (let d = 0; d < dim; d++) sum += (a[i * dim + d] - b[j * dim + d]) ** 2;
      cost[i * n + j] = sum;
    }
  }
  return Math.sqrt(assignment(cost, n) / n);
}

/**
 * The lowest total cost of matching n rows to n columns: shortest augmenting paths with potentials, n^3 steps
 * (Jonker & Volgenant 1987).
 */
function assignment(cost: Float64Array, n: number): number {
  const rowPotential = new Float64Array(n + 1);
  const columnPotential = new Float64Array(n + 1);
  const matched = new Int32Array(n + 1); // row of each column, 1-based, 0 for none
  const previous = new Int32Array(n + 1);
  for (let row = 1; row <= n; row++) {
    matched[0] = row;
    let column = 0;
    const least = new Float64Array(n + 1).fill(Infinity);
    const done = new Uint8Array(n + 1);
    do {
      done[column] = 1;
      const from = matched[column];
      let delta = Infinity;
      let next = 0;
      for (let j = 1; j <= n; j++) {
        if (done[j]) continue;
        const reduced = cost[(from - 1) * n + j - 1] - rowPotential[from] - columnPotential[j];
        if (reduced < least[j]) {
          least[j] = reduced;
          previous[j] = column;
        }
        if (least[j] < delta) {
          delta = least[j];
          next = j;
        }
      }
      for (let j = 0; j <= n; j++) {
        if (done[j]) {
          rowPotential[matched[j]] += delta;
          columnPotential[j] -= delta;
        } else least[j] -= delta;
      }
      column = next;
    } while (matched[column] !== 0);
    for (; column; column = previous[column]) matched[column] = matched[previous[column]];
  }
  let total = 0;
  for (let j = 1; j <= n; j++) total += cost[(matched[j] - 1) * n + j - 1];
  return total;
}
