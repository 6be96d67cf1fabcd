/** One pane: a plane or slab of an exam on a canvas, what lies over it on a second one, and its words around it. */
import { toIndex, toMm, distance } from "./geometry.js";
import { AXIAL, PLANES, colour, fromPlane, planeSize, planeSpacing, project, slab, toPlane } from "./planes.js";
import { el } from "./dom.js";
import { inMm } from "./sizes.js";

const LETTERS = [["R", "L", "A", "P"], ["R", "L", "S", "I"], ["A", "P", "S", "I"]]; // left, right, top, bottom by axis
const MOST_PIXELS = 4096; // of a canvas side: what every browser has
const LONGEST = 64; // times enlarged

/** @typedef {import("./scene.js").Scene} Scene */
/** @typedef {{centre: number, width: number, inverted: boolean, overlay: boolean, table: Uint32Array, tableVersion: number}} Look */

export class Pane {
  /** @param {Scene} scene @param {number} axis @param {Look} look @param {{name: string, thickness?: number}} options thickness: of the slab, mm */
  constructor(scene, axis, look, { name, thickness = 0 }) {
    this.scene = scene;
    this.axis = axis;
    this.look = look;
    this.name = name;
    this.thickness = thickness;
    this.lastThickness = thickness || 10;
    this.measures = /** @type {import("./measure.js").Measure[]} */ ([]);
    this.image = el("canvas", { class: "image", "aria-hidden": "true" });
    this.over = el("canvas", { class: "over", tabindex: "0", role: "img", "aria-label": name });
    this.title = el("div", { class: "pane-title" });
    this.foot = el("div", { class: "pane-foot" });
    const letters = LETTERS[axis].map((letter, n) => el("span", { class: `letter letter-${n}`, "aria-hidden": "true" }, letter));
    this.root = el("section", { class: "pane", "aria-label": name }, this.image, this.over, this.title, this.foot, ...letters);
    const context = this.image.getContext("2d", { alpha: false, willReadFrequently: true }); // on the processor: no GPU, the same pixels everywhere
    this.context = context;
    this.pen = this.over.getContext("2d");
    const [width, height] = planeSize(scene.store.shape, axis);
    this.values = new Int16Array(width * height);
    this.picture = new OffscreenCanvas(width, height);
    this.brush = /** @type {any} */ (this.picture.getContext("2d", { willReadFrequently: true }));
    this.pixels = new ImageData(width, height);
    this.words = new Uint32Array(this.pixels.data.buffer);
    this.fitted = true;
    this.mmPerPixel = 1;
    this.origin = [0, 0]; // of the plane's corner, in pixels of the canvas
    this.drawn = "";
    this.imaged = "";
  }

  get count() { return this.scene.store.shape[this.axis]; }
  get index() { return Math.min(Math.max(Math.round(this.scene.cursor[this.axis]), 0), this.count - 1); }
  get range() { return slab(this.index, this.count, this.scene.store.spacing[this.axis], this.thickness); }
  get scale() { return planeSpacing(this.scene.store.spacing, this.axis).map((mm) => mm / this.mmPerPixel); }

  /** Take the size that the page gives. */
  resize() {
    const ratio = window.devicePixelRatio || 1, box = this.root.getBoundingClientRect();
    const width = Math.min(Math.max(Math.round(box.width * ratio), 1), MOST_PIXELS);
    const height = Math.min(Math.max(Math.round(box.height * ratio), 1), MOST_PIXELS);
    if (this.image.width !== width || this.image.height !== height) {
      for (const canvas of [this.image, this.over]) Object.assign(canvas, { width, height });
      this.imaged = "";
      if (this.fitted) this.fit();
    }
  }

  fit() {
    const [width, height] = planeSize(this.scene.store.shape, this.axis);
    const [column, row] = planeSpacing(this.scene.store.spacing, this.axis);
    this.mmPerPixel = Math.max(width * column / this.image.width, height * row / this.image.height);
    this.#centre();
    this.fitted = true;
  }

  /** One voxel column is one pixel. */
  oneToOne() {
    this.mmPerPixel = planeSpacing(this.scene.store.spacing, this.axis)[0];
    this.#centre();
    this.fitted = false;
  }

  #centre() {
    const [width, height] = planeSize(this.scene.store.shape, this.axis), [su, sv] = this.scale;
    this.origin = [(this.image.width - width * su) / 2, (this.image.height - height * sv) / 2].map(Math.round);
  }

  /** @param {number} factor @param {number} x @param {number} y canvas pixels that stay where they are */
  zoom(factor, x = this.image.width / 2, y = this.image.height / 2) {
    const before = this.scale[0], column = planeSpacing(this.scene.store.spacing, this.axis)[0];
    const after = Math.min(Math.max(before * factor, 0.05), LONGEST);
    this.mmPerPixel = column / after;
    this.origin = [x, y].map((at, n) => Math.round(at - (at - this.origin[n]) * after / before));
    this.fitted = false;
  }

  /** @param {number} dx @param {number} dy canvas pixels */
  pan(dx, dy) {
    this.origin = [this.origin[0] + dx, this.origin[1] + dy];
    this.fitted = false;
  }

  /** @param {number} x @param {number} y canvas pixels @returns {[number, number, number]} [k, j, i] of the store with fractions */
  indexAt(x, y) {
    const [su, sv] = this.scale;
    return fromPlane(this.scene.store.shape, this.axis, (x - this.origin[0]) / su - 0.5, (y - this.origin[1]) / sv - 0.5, this.index);
  }

  /** @param {ArrayLike<number>} index @returns {[number, number]} canvas pixels */
  pixelOf(index) {
    const [u, v] = toPlane(this.scene.store.shape, this.axis, index), [su, sv] = this.scale;
    return [this.origin[0] + (u + 0.5) * su, this.origin[1] + (v + 0.5) * sv];
  }

  /** @param {MouseEvent} event @returns {[number, number]} canvas pixels */
  pixelAt(event) {
    const box = this.over.getBoundingClientRect();
    return [(event.clientX - box.left) * this.over.width / box.width, (event.clientY - box.top) * this.over.height / box.height];
  }

  draw() {
    this.#drawImage();
    this.#drawOver();
    this.#write();
  }

  #drawImage() {
    const { store } = this.scene, [first, end] = this.range;
    const content = [first, end, store.version, this.look.tableVersion].join();
    if (content !== this.drawn) {
      project(store, this.axis, [first, end], this.values);
      colour(this.values, this.look.table, this.words);
      this.brush.putImageData(this.pixels, 0, 0);
      this.drawn = content;
      this.imaged = "";
    }
    const place = [...this.origin, ...this.scale].join();
    if (place === this.imaged) return;
    this.imaged = place;
    const { context, image, picture } = this, [su, sv] = this.scale;
    context.fillStyle = "#000";
    context.fillRect(0, 0, image.width, image.height);
    context.imageSmoothingEnabled = !(Number.isInteger(su) && Number.isInteger(sv)); // whole steps show the voxels as they are
    context.imageSmoothingQuality = su < 1 ? "medium" : "low";
    context.drawImage(picture, this.origin[0], this.origin[1], picture.width * su, picture.height * sv);
  }

  #drawOver() {
    const { pen, over } = this;
    pen.clearRect(0, 0, over.width, over.height);
    if (this.look.overlay) {
      this.#crosshair();
      for (const shape of this.scene.shapes) this.#shape(shape);
    }
    for (const measure of this.measures) this.#measure(measure);
  }

  #crosshair() {
    const [x, y] = this.pixelOf(this.scene.cursor).map((at) => Math.round(at) + 0.5), { pen, over } = this, gap = 14;
    pen.strokeStyle = "rgba(120, 200, 255, .55)";
    pen.lineWidth = 1;
    pen.setLineDash([]);
    pen.beginPath();
    for (const [a, b, c, d] of [[0, y, x - gap, y], [x + gap, y, over.width, y], [x, 0, x, y - gap], [x, y + gap, x, over.height]]) {
      pen.moveTo(a, b);
      pen.lineTo(c, d);
    }
    pen.stroke();
  }

  /** @param {import("./scene.js").Shape} shape */
  #shape(shape) {
    const { pen } = this, lines = this.#linesOf(shape);
    if (!lines.length) return;
    const points = lines.flat();
    const path = new Path2D();
    for (const line of lines) {
      line.forEach(([x, y], n) => n ? path.lineTo(x, y) : path.moveTo(x, y));
      path.closePath();
    }
    pen.setLineDash(shape.dashed ? [5, 4] : []);
    pen.lineJoin = "round";
    pen.strokeStyle = "rgba(0, 0, 0, .6)";
    pen.lineWidth = shape.selected ? 4.5 : 3.5;
    pen.stroke(path);
    pen.strokeStyle = shape.colour;
    pen.lineWidth = shape.selected ? 2.4 : 1.5;
    pen.stroke(path);
    const right = points.reduce((a, b) => b[0] > a[0] ? b : a), top = points.reduce((a, b) => b[1] < a[1] ? b : a);
    this.#label(shape.label, right[0] + 5, top[1], shape.colour);
  }

  /** Outline of a shape in this pane's slices, in canvas pixels; a circle where it has none. @param {import("./scene.js").Shape} shape @returns {[number, number][][]} */
  #linesOf(shape) {
    const { store } = this.scene, [first, end] = this.range;
    if (shape.outline) {
      const slices = Object.keys(shape.outline[PLANES[this.axis]] ?? {}).map((n) => Number(n) - store.start[this.axis]).filter((n) => n >= first && n < end);
      if (!slices.length) return [];
      const n = slices.reduce((a, b) => Math.abs(b - this.index) < Math.abs(a - this.index) ? b : a); // in a slab one line, the nearest
      return shape.outline[PLANES[this.axis]][String(n + store.start[this.axis])].map((polygon) => polygon.map((mm) => this.pixelOf(toIndex(store.affine, mm))));
    }
    const centre = toIndex(store.affine, shape.position_mm), radius = Math.max(shape.diameter_mm || 6, 3) / 2;
    const spacing = store.spacing[this.axis];
    const apart = Math.max(first - centre[this.axis], centre[this.axis] - (end - 1), 0) * spacing;
    if (apart > Math.max(radius, spacing / 2)) return [];
    const [x, y] = this.pixelOf(centre), size = Math.max(radius / this.mmPerPixel + 4, 7);
    return [Array.from({ length: 32 }, (_, n) => [x + size * Math.cos(n * Math.PI / 16), y + size * Math.sin(n * Math.PI / 16)])];
  }

  /** @param {import("./measure.js").Measure} measure */
  #measure(measure) {
    if (measure.axis !== this.axis || measure.slice !== this.index) return;
    const { pen } = this;
    pen.setLineDash([]);
    for (const [from, to] of measure.lines) {
      const [a, b] = [from, to].map((index) => this.pixelOf(index));
      for (const [style, width] of /** @type {[string, number][]} */ ([["rgba(0,0,0,.7)", 4], ["#7fe3a2", 1.6]])) {
        pen.strokeStyle = style;
        pen.lineWidth = width;
        pen.beginPath();
        pen.moveTo(...a);
        pen.lineTo(...b);
        pen.stroke();
      }
    }
    const [x, y] = this.pixelOf(measure.lines[0][1]);
    this.#label(measure.text, x + 8, y - 6, "#7fe3a2");
  }

  /** @param {string} text @param {number} x @param {number} y @param {string} style */
  #label(text, x, y, style) {
    const { pen } = this;
    pen.font = `600 ${13 * (window.devicePixelRatio || 1)}px system-ui, sans-serif`;
    pen.lineWidth = 4;
    pen.lineJoin = "round";
    pen.setLineDash([]);
    pen.strokeStyle = "rgba(0, 0, 0, .8)";
    pen.strokeText(text, x, y);
    pen.fillStyle = style;
    pen.fillText(text, x, y);
  }

  /** Slice number as the product counts it (1 is the uppermost), and the image's own number. @returns {string} */
  get where() {
    const { store } = this.scene, n = this.index + store.start[this.axis], total = store.facts.shape[this.axis];
    if (this.axis !== AXIAL) return `${n + 1} of ${total}`;
    const image = store.facts.instance_numbers[n];
    return `slice ${total - n} of ${total}${image === null || image === undefined ? "" : ` · image ${image}`}`;
  }

  #write() {
    const [first, end] = this.range, spacing = this.scene.store.spacing[this.axis];
    const slabWords = this.thickness ? ` · MIP ${this.thickness} mm (${end - first} slices, ${inMm((end - first) * spacing)})` : "";
    const { centre, width, inverted } = this.look;
    const text = `${this.name} · ${this.where}${slabWords}`;
    if (this.title.textContent !== text) this.title.textContent = text;
    const label = `${text}, window ${width} at ${centre}${inverted ? ", inverted" : ""}`;
    if (this.over.getAttribute("aria-label") !== label) this.over.setAttribute("aria-label", label);
  }

  /** What lies under the pointer, from the int16 values and never from pixels. @param {[number, number]|null} pixel */
  probe(pixel) {
    if (!pixel) {
      this.foot.textContent = "";
      return;
    }
    const index = this.indexAt(...pixel), { store } = this.scene, hu = store.hu(index);
    const mm = toMm(store.affine, index.map(Math.round)).map((c) => c.toFixed(1)).join(", ");
    const value = hu === null ? "" : hu <= -1024 ? "−1024 HU or below" : `${String(hu).replace("-", "−")} HU`;
    this.foot.textContent = value && `${value} at ${mm} mm (LPS)`;
  }
}

/** @param {import("./scene.js").Scene} scene @param {number[][]} line two indices @returns {number} mm */
export function lineLength(scene, [from, to]) {
  const { affine } = scene.store;
  return distance(toMm(affine, from), toMm(affine, to));
}
