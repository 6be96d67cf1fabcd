/**
 * Space: the one place of the pages that knows how voxels and millimetres relate, as lungscreen/geometry.py does.
 *
 * Places are LPS millimetres [x, y, z]; indices are [k, j, i], the centre of a voxel at whole numbers.
 * The golden values of tests/test_room_geometry.py are made by Python.
 */

/** @typedef {[number, number, number]} Triple */
/** @typedef {number[][]} Affine four rows of four */

/** @param {Affine} affine @param {ArrayLike<number>} index [k, j, i] @returns {Triple} LPS mm */
export function toMm(affine, index) {
  return /** @type {Triple} */ ([0, 1, 2].map((row) => {
    const a = affine[row];
    return a[0] * index[0] + a[1] * index[1] + a[2] * index[2] + a[3];
  }));
}

/** @param {Affine} affine @returns {Affine} LPS mm → index */
export function inverse(affine) {
  const [[a, b, c, x], [d, e, f, y], [g, h, i, z]] = affine;
  const det = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g);
  const m = [
    [(e * i - f * h) / det, (c * h - b * i) / det, (b * f - c * e) / det],
    [(f * g - d * i) / det, (a * i - c * g) / det, (c * d - a * f) / det],
    [(d * h - e * g) / det, (b * g - a * h) / det, (a * e - b * d) / det],
  ];
  return [...m.map((r) => [...r, -(r[0] * x + r[1] * y + r[2] * z)]), [0, 0, 0, 1]];
}

/** @param {Affine} affine @param {ArrayLike<number>} mm LPS @returns {Triple} [k, j, i] with fractions */
export const toIndex = (affine, mm) => toMm(inverse(affine), mm);

/** @param {Affine} affine @param {ArrayLike<number>} start [k, j, i] @returns {Affine} the grid that begins at that voxel */
export function shifted(affine, start) {
  const origin = toMm(affine, start);
  return [0, 1, 2].map((row) => [...affine[row].slice(0, 3), origin[row]]).concat([[0, 0, 0, 1]]);
}

/** @param {ArrayLike<number>} a @param {ArrayLike<number>} b @returns {number} mm between two places */
export const distance = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1], a[2] - b[2]);

/**
 * The same place in the earlier exam: linear between the nodes of the grid that the product's registration gave.
 * @param {{origin_mm: number[], step_mm: number, shape: number[], to_earlier_mm: number[][]}} alignment
 * @param {ArrayLike<number>} mm LPS of this exam
 * @returns {Triple} LPS of the earlier exam
 */
export function toEarlier(alignment, mm) {
  const { origin_mm: origin, step_mm: step, shape, to_earlier_mm: nodes } = alignment;
  const sizes = [shape[2], shape[1], shape[0]]; // x, y, z
  const low = [0, 0, 0], part = [0, 0, 0];
  for (let n = 0; n < 3; n++) {
    const at = Math.min(Math.max((mm[n] - origin[n]) / step, 0), sizes[n] - 1);
    low[n] = Math.min(Math.floor(at), Math.max(sizes[n] - 2, 0));
    part[n] = at - low[n];
  }
  /** @type {Triple} */
  const found = [0, 0, 0];
  for (let corner = 0; corner < 8; corner++) {
    const on = [corner & 1, (corner >> 1) & 1, (corner >> 2) & 1];
    const weight = on.reduce((w, bit, n) => w * (bit ? part[n] : 1 - part[n]), 1);
    if (!weight) continue;
    const [x, y, z] = on.map((bit, n) => Math.min(low[n] + bit, sizes[n] - 1));
    const node = nodes[(z * sizes[1] + y) * sizes[0] + x];
    for (let n = 0; n < 3; n++) found[n] += weight * node[n];
  }
  return found;
}
