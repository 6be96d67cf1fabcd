/** Worker: fetches a chunk of slices and joins its two byte planes, away from the page. */

/**
 * All high bytes, then all low bytes → int16, cut to a box of rows and columns.
 * @param {Uint8Array} bytes @param {number} slices @param {number[]} size rows, columns of a slice
 * @param {number[][]} box [first, end] of rows and of columns
 * @returns {Int16Array}
 */
export function joinPlanes(bytes, slices, [rows, columns], [[top, bottom], [left, right]]) {
  const half = slices * rows * columns;
  if (bytes.length !== 2 * half) throw new Error(`expected ${2 * half} bytes, got ${bytes.length}`);
  const out = new Int16Array(slices * (bottom - top) * (right - left));
  let to = 0;
  for (let k = 0; k < slices; k++) {
    for (let j = top; j < bottom; j++) {
      const from = (k * rows + j) * columns;
      for (let n = from + left; n < from + right; n++) out[to++] = bytes[n] << 8 | bytes[half + n];
    }
  }
  return out;
}

self.addEventListener("message", async (event) => {
  const { url, start, slices, size, box } = event.data;
  try {
    const answer = await fetch(url, { credentials: "same-origin", headers: { "Accept": "application/octet-stream" } });
    if (!answer.ok) throw Object.assign(new Error(answer.statusText), { status: answer.status });
    const values = joinPlanes(new Uint8Array(await answer.arrayBuffer()), slices, size, box);
    self.postMessage({ start, values }, { transfer: [values.buffer] });
  } catch (error) {
    const { message, status = 0 } = /** @type {any} */ (error);
    self.postMessage({ start, failed: String(message), status });
  }
});
