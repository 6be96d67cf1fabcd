/** The length tool: a long axis, then a short one in the same slice, and their mean by the product's rule. */
import { lineLength } from "./pane.js";
import { inMm, meanDiameter, toTenth } from "./sizes.js";

export class Measure {
  /** @param {import("./pane.js").Pane} pane @param {number[]} from [k, j, i] with fractions */
  constructor(pane, from) {
    this.scene = pane.scene;
    this.axis = pane.axis;
    this.slice = pane.index;
    this.lines = [[from, from]];
  }

  /** @param {import("./pane.js").Pane} pane whether a second line may be drawn there */
  accepts(pane) {
    return this.lines.length === 1 && this.scene === pane.scene && this.axis === pane.axis && this.slice === pane.index;
  }

  /** @param {number[]} from */
  begin(from) { this.lines.push([from, from]); }

  /** @param {number[]} to */
  extend(to) { this.lines[this.lines.length - 1][1] = to; }

  get lengths() { return this.lines.map((line) => lineLength(this.scene, line)).sort((a, b) => b - a); }

  /** Both axes to 0.1 mm, the long one first; null before the second line. @returns {[number, number]|null} */
  get axes() {
    const [long, short] = this.lengths;
    return short === undefined ? null : [toTenth(long), toTenth(short)];
  }

  get text() {
    const [long, short] = this.lengths;
    if (short === undefined) return `${inMm(long)} manual`;
    return `${toTenth(long).toFixed(1)} × ${inMm(short)}, mean ${inMm(meanDiameter(long, short))} manual`;
  }
}
