/**
 * Voxels → the grey values of a plane. Pure functions on int16 arrays; no canvas, no page.
 *
 * Axis 0 axial: columns to the patient's left, rows to the back. Axis 1 coronal: columns to the left, rows downwards.
 * Axis 2 sagittal: columns to the back, rows downwards. Arrays are (slices, rows, columns), slices upwards.
 */

export const AXIAL = 0, CORONAL = 1, SAGITTAL = 2;
export const PLANES = ["axial", "coronal", "sagittal"];
export const NO_SLICE = -32768; // no HU is so low: a slice that has not arrived

/** @typedef {{shape: number[], data: Int16Array, loaded: Uint8Array}} Voxels */

/** @param {number[]} shape @param {number} axis @returns {[number, number]} width and height in voxels */
export function planeSize(shape, axis) {
  return axis === AXIAL ? [shape[2], shape[1]] : axis === CORONAL ? [shape[2], shape[0]] : [shape[1], shape[0]];
}

/** @param {number[]} spacing (z, y, x) @param {number} axis @returns {[number, number]} mm a column and a row */
export function planeSpacing(spacing, axis) {
  return axis === AXIAL ? [spacing[2], spacing[1]] : axis === CORONAL ? [spacing[2], spacing[0]] : [spacing[1], spacing[0]];
}

/** @param {number[]} shape @param {number} axis @param {ArrayLike<number>} index [k, j, i] @returns {[number, number]} column, row of the plane */
export function toPlane(shape, axis, index) {
  if (axis === AXIAL) return [index[2], index[1]];
  return [axis === CORONAL ? index[2] : index[1], shape[0] - 1 - index[0]];
}

/** @param {number[]} shape @param {number} axis @param {number} u @param {number} v @param {number} n the slice @returns {[number, number, number]} [k, j, i] */
export function fromPlane(shape, axis, u, v, n) {
  if (axis === AXIAL) return [n, v, u];
  return axis === CORONAL ? [shape[0] - 1 - v, n, u] : [shape[0] - 1 - v, u, n];
}

/**
 * The slices that a slab of some thickness takes around slice n: ⌈thickness / spacing⌉, fewer at the ends.
 * @param {number} n @param {number} count of all slices @param {number} spacing mm @param {number} thickness mm; 0: one slice
 * @returns {[number, number]} first, and one past the last
 */
export function slab(n, count, spacing, thickness) {
  const wanted = thickness > 0 ? Math.max(1, Math.ceil(thickness / spacing - 1e-6)) : 1;
  const first = n - Math.floor((wanted - 1) / 2);
  return [Math.max(first, 0), Math.min(first + wanted, count)];
}

/**
 * The highest value along the slab, voxel by voxel of the plane. Slices that have not arrived are NO_SLICE.
 * @param {Voxels} volume @param {number} axis @param {[number, number]} range @param {Int16Array} out
 */
export function project(volume, axis, [first, end], out) {
  if (axis === AXIAL) projectAxial(volume, first, end, out);
  else projectUpright(volume, axis, first, end, out);
}

/** @param {Voxels} volume @param {number} first @param {number} end @param {Int16Array} out */
function projectAxial({ shape, data, loaded }, first, end, out) {
  const size = shape[1] * shape[2];
  let begun = false;
  for (let k = first; k < end; k++) {
    if (!loaded[k]) continue;
    const slice = data.subarray(k * size, (k + 1) * size);
    if (!begun) out.set(slice);
    else for (let n = 0; n < size; n++) if (slice[n] > out[n]) out[n] = slice[n];
    begun = true;
  }
  if (!begun) out.fill(NO_SLICE);
}

/** @param {Voxels} volume @param {number} axis @param {number} first @param {number} end @param {Int16Array} out */
function projectUpright({ shape, data, loaded }, axis, first, end, out) {
  const [slices, rows, columns] = shape;
  const width = axis === CORONAL ? columns : rows;
  const step = axis === CORONAL ? 1 : columns; // from one column of the plane to the next
  const across = axis === CORONAL ? columns : 1; // from one plane to the next
  for (let k = 0; k < slices; k++) {
    const to = (slices - 1 - k) * width;
    if (!loaded[k]) {
      out.fill(NO_SLICE, to, to + width);
      continue;
    }
    for (let n = first; n < end; n++) {
      let from = k * rows * columns + n * across;
      if (n === first) for (let u = 0; u < width; u++, from += step) out[to + u] = data[from];
      else for (let u = 0; u < width; u++, from += step) if (data[from] > out[to + u]) out[to + u] = data[from];
    }
  }
}

/**
 * int16 → RGBA, as the product's own pictures: floor((HU − low) / width × 255 + 0.5) within 0 to 255.
 * @param {number} centre HU @param {number} width HU @param {boolean} inverted
 * @returns {Uint32Array} by value + 32768
 */
export function greyTable(centre, width, inverted) {
  const table = new Uint32Array(65536), low = centre - width / 2;
  for (let n = 0; n < 65536; n++) {
    const grey = Math.floor(Math.min(Math.max((n - 32768 - low) / width * 255 + 0.5, 0), 255));
    const shown = inverted ? 255 - grey : grey;
    table[n] = (255 << 24 | shown << 16 | shown << 8 | shown) >>> 0;
  }
  table[0] = 0xff40302a; // NO_SLICE: a dark blue that no grey value is
  return table;
}

/** @param {Int16Array} values @param {Uint32Array} table @param {Uint32Array} pixels */
export function colour(values, table, pixels) {
  for (let n = 0; n < pixels.length; n++) pixels[n] = table[values[n] + 32768];
}
