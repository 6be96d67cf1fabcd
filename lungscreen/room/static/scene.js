/** One exam as it is looked at: its voxels, where the crosshair stands, and what is drawn over it. */
import { toIndex, toMm } from "./geometry.js";

/**
 * @typedef {{id: string, label: string, position_mm: number[], diameter_mm: number|null, outline: Record<string, Record<string, number[][][]>>|null,
 *   colour: string, dashed: boolean, selected: boolean}} Shape
 */

export class Scene {
  /** @param {import("./store.js").VolumeStore} store @param {string} name */
  constructor(store, name) {
    this.store = store;
    this.name = name;
    /** @type {[number, number, number]} */
    this.cursor = /** @type {any} */ (store.shape.map((n) => n >> 1));
    /** @type {Shape[]} */
    this.shapes = [];
  }

  get cursorMm() { return toMm(this.store.affine, this.cursor); }

  /** @param {ArrayLike<number>} index */
  moveTo(index) {
    const { shape } = this.store;
    this.cursor = /** @type {any} */ (shape.map((n, axis) => Math.min(Math.max(index[axis], 0), n - 1)));
    this.store.want(Math.round(this.cursor[0]));
  }

  /** @param {ArrayLike<number>} mm */
  moveToMm(mm) { this.moveTo(toIndex(this.store.affine, mm)); }
}
