/**
 * The voxels of one exam in the page: fetched chunk by chunk, the nearest to what is looked at first.
 *
 * The first chunk is asked for alone, so that the first image waits for nothing else; then three travel at a time.
 */
import { shifted } from "./geometry.js";

const IN_FLIGHT = 3, TRIES = 4;
const MOST_SLICES = 700; // beyond, only the box around the lungs is loaded unless asked for: memory of the tab
const MARGIN_MM = 10;

/** @typedef {{shape: number[], affine: number[][], spacing_mm: number[], chunk: number, instance_numbers: (number|null)[], lung_box: number[][]|null, lowest_hu: number, highest_hu: number}} VolumeFacts */

/**
 * The part of a volume that is loaded: all, or the lungs with a margin where that is too much.
 * @param {VolumeFacts} facts @param {boolean} whole the reader wants all of it
 * @returns {{box: number[][], cropped: boolean}}
 */
export function chooseBox(facts, whole) {
  const all = facts.shape.map((n) => [0, n]);
  if (whole || facts.shape[0] <= MOST_SLICES || !facts.lung_box) return { box: all, cropped: false };
  const box = facts.lung_box.map(([first, end], axis) => {
    const margin = Math.ceil(MARGIN_MM / facts.spacing_mm[axis]);
    return [Math.max(first - margin, 0), Math.min(end + margin, facts.shape[axis])];
  });
  return { box, cropped: true };
}

/** Emits `loaded` as slices arrive, `complete` at the end, `failed` when some could not be had. */
export class VolumeStore extends EventTarget {
  /** @param {string} url of the slices, without A and B @param {VolumeFacts} facts @param {{whole?: boolean, first?: number}} [options] first: the slice to have first */
  constructor(url, facts, { whole = false, first } = {}) {
    super();
    this.url = url;
    this.facts = facts;
    const { box, cropped } = chooseBox(facts, whole);
    this.box = box;
    this.cropped = cropped;
    this.shape = box.map(([a, b]) => b - a);
    this.start = box.map(([a]) => a);
    this.affine = shifted(facts.affine, this.start);
    this.spacing = facts.spacing_mm;
    /** @type {Int16Array} */
    this.data = allocate(this.shape);
    this.loaded = new Uint8Array(this.shape[0]);
    this.version = 0;
    this.wanted = first ?? this.shape[0] >> 1;
    /** @type {Map<number, number>} chunk's first slice → failures so far */
    this.open = new Map();
    for (let a = Math.floor(box[0][0] / facts.chunk) * facts.chunk; a < box[0][1]; a += facts.chunk) this.open.set(a, 0);
    this.chunks = this.open.size;
    this.arrived = 0;
    /** @type {Set<number>} */
    this.travelling = new Set();
    this.worker = new Worker(new URL("./unpack.js", import.meta.url), { type: "module" });
    this.worker.addEventListener("message", (event) => this.#receive(event.data));
    this.#ask();
  }

  get complete() { return this.arrived === this.chunks; }

  /** Look at this slice now: its chunk comes next. @param {number} k */
  want(k) { this.wanted = k; }

  close() {
    this.worker.terminate();
    this.open.clear();
    this.data = new Int16Array(0);
  }

  #ask() {
    const most = this.arrived ? IN_FLIGHT : 1;
    while (this.travelling.size < most) {
      const waiting = [...this.open.keys()].filter((a) => !this.travelling.has(a));
      if (!waiting.length) return;
      const middle = this.wanted + this.start[0] - this.facts.chunk / 2;
      const a = waiting.reduce((best, each) => Math.abs(each - middle) < Math.abs(best - middle) ? each : best);
      const b = Math.min(a + this.facts.chunk, this.facts.shape[0]);
      this.travelling.add(a);
      this.worker.postMessage({
        url: new URL(`${this.url}/${a}/${b}`, location.href).href, start: a, slices: b - a, size: this.facts.shape.slice(1), box: this.box.slice(1),
      });
    }
  }

  /** @param {{start: number, values?: Int16Array, failed?: string, status?: number}} part */
  #receive({ start, values, failed, status }) {
    this.travelling.delete(start);
    if (values) {
      this.#keep(start, values);
      this.open.delete(start);
      this.arrived += 1;
      this.dispatchEvent(new Event("loaded"));
      if (this.complete) {
        this.worker.terminate();
        this.dispatchEvent(new Event("complete"));
      }
    } else {
      const tries = (this.open.get(start) ?? 0) + 1;
      this.open.set(start, tries);
      if (tries >= TRIES || (status && status < 500 && status !== 429)) {
        this.open.delete(start); // not asked for again: said once
        this.dispatchEvent(new CustomEvent("failed", { detail: { failed, status } }));
        this.#ask();
        return;
      }
      setTimeout(() => this.#ask(), 300 * 2 ** tries);
      return;
    }
    this.#ask();
  }

  /** @param {number} start @param {Int16Array} values */
  #keep(start, values) {
    const size = this.shape[1] * this.shape[2];
    for (let n = 0; n * size < values.length; n++) {
      const k = start + n - this.start[0];
      if (k < 0 || k >= this.shape[0]) continue;
      this.data.set(values.subarray(n * size, (n + 1) * size), k * size);
      this.loaded[k] = 1;
    }
    this.version += 1;
  }

  /** HU of a voxel; null where its slice has not arrived or lies outside. @param {number[]} index @returns {number|null} */
  hu(index) {
    const [k, j, i] = index.map(Math.round);
    const inside = k >= 0 && j >= 0 && i >= 0 && k < this.shape[0] && j < this.shape[1] && i < this.shape[2];
    return inside && this.loaded[k] ? this.data[(k * this.shape[1] + j) * this.shape[2] + i] : null;
  }
}

/** @param {number[]} shape @returns {Int16Array} */
function allocate(shape) {
  const count = shape[0] * shape[1] * shape[2];
  try {
    return new Int16Array(count);
  } catch {
    const error = new Error(`This exam needs ${Math.round(count * 2 / 2 ** 20)} MB, more than the browser gives.`);
    throw Object.assign(error, { code: "too-large" });
  }
}
