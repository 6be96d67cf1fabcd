/**
 * The panes of a study and, beside it, of an earlier exam: pointer, wheel, windows, linked scrolling.
 *
 * Emits `moved` (crosshair), `measured` (a length), `placed` (a place for a mark). Knows nothing of reads or findings.
 */
import { toEarlier, toIndex } from "./geometry.js";
import { Measure } from "./measure.js";
import { Pane } from "./pane.js";
import { AXIAL, CORONAL, SAGITTAL, greyTable } from "./planes.js";
import { Scene } from "./scene.js";
import { el, say } from "./dom.js";

export const WINDOWS = /** @type {Record<string, [number, number]>} */ ({ soft: [40, 400], lung: [-600, 1500], bone: [480, 2500] });
const SLABS = [5, 10, 15];
const WHEEL_PIXELS = 60; // of a touchpad's swipe that make one slice

export class Viewer extends EventTarget {
  /** @param {HTMLElement} root @param {import("./store.js").VolumeStore} store */
  constructor(root, store) {
    super();
    this.root = root;
    this.look = { centre: -600, width: 1500, inverted: false, overlay: true, table: greyTable(-600, 1500, false), tableVersion: 0 };
    this.scene = new Scene(store, "This exam");
    /** @type {Scene|null} */
    this.earlier = null;
    /** @type {any} */
    this.alignment = null;
    this.linked = true;
    this.offset = 0; // slices between both exams where no registration is at hand
    this.measuring = false;
    /** @type {Measure[]} */
    this.measures = [];
    /** @type {Pane[]} */
    this.panes = [
      new Pane(this.scene, AXIAL, this.look, { name: "Axial" }), new Pane(this.scene, AXIAL, this.look, { name: "Axial MIP", thickness: 10 }),
      new Pane(this.scene, CORONAL, this.look, { name: "Coronal" }), new Pane(this.scene, SAGITTAL, this.look, { name: "Sagittal" }),
    ];
    this.active = this.panes[0];
    this.pointer = /** @type {{pane: Pane, pixel: [number, number]}|null} */ (null);
    this.pending = false;
    this.#watch(store);
    this.#lay(this.panes, "alone");
    new ResizeObserver(() => this.draw()).observe(root);
  }

  /** @param {import("./store.js").VolumeStore} store */
  #watch(store) {
    for (const name of ["loaded", "complete"]) store.addEventListener(name, () => this.draw());
  }

  /** @param {Pane[]} panes @param {string} hanging */
  #lay(panes, hanging) {
    this.panes = panes;
    this.root.dataset.hanging = hanging;
    this.root.replaceChildren(...panes.map((pane) => pane.root));
    for (const pane of panes) if (!pane.over.dataset.bound) this.#bind(pane);
    this.activate(panes[0], false);
    for (const pane of panes) pane.measures = this.measures.filter((m) => m.scene === pane.scene);
    this.draw();
  }

  /** Hang an earlier exam beside this one. @param {import("./store.js").VolumeStore} store @param {string} name @param {any} alignment null: none known */
  showEarlier(store, name, alignment) {
    this.earlier = new Scene(store, name);
    this.alignment = alignment;
    this.#watch(store);
    const then = this.earlier;
    const current = this.panes.filter((pane) => pane.scene === this.scene);
    this.#lay([
      current[0], new Pane(then, AXIAL, this.look, { name: `Axial ${name}` }),
      current[1], new Pane(then, AXIAL, this.look, { name: `Axial MIP ${name}`, thickness: 10 }),
    ], "earlier");
    this.rest = current.slice(2);
    this.#follow();
  }

  hideEarlier() {
    if (!this.earlier) return;
    this.earlier.store.close();
    this.earlier = null;
    const current = this.panes.filter((pane) => pane.scene === this.scene);
    this.#lay([...current, ...(this.rest ?? [])], "alone");
  }

  // -- looking ----------------------------------------------------------------------------------------------------
  draw() {
    if (this.pending) return;
    this.pending = true;
    requestAnimationFrame(() => {
      this.pending = false;
      const begun = performance.now();
      for (const pane of this.panes) {
        pane.resize();
        pane.draw();
      }
      this.root.dataset.frameMs = (performance.now() - begun).toFixed(1);
      if (!this.root.dataset.first && this.scene.store.loaded[Math.round(this.scene.cursor[0])]) {
        this.root.dataset.first = String(Math.round(performance.now()));
        this.root.dataset.firstChunks = String(this.scene.store.arrived);
      }
      if (this.scene.store.complete && !this.root.dataset.complete) this.root.dataset.complete = String(Math.round(performance.now()));
    });
  }

  /** @param {number} centre HU @param {number} width HU */
  setWindow(centre, width) {
    this.look.centre = Math.round(Math.min(Math.max(centre, -2000), 4000));
    this.look.width = Math.round(Math.min(Math.max(width, 1), 8000));
    this.#retable();
    say(`Window ${this.look.width} at ${this.look.centre} HU`);
  }

  invert() {
    this.look.inverted = !this.look.inverted;
    this.#retable();
  }

  #retable() {
    this.look.table = greyTable(this.look.centre, this.look.width, this.look.inverted);
    this.look.tableVersion += 1;
    this.dispatchEvent(new Event("window"));
    this.draw();
  }

  toggleOverlay() {
    this.look.overlay = !this.look.overlay;
    say(this.look.overlay ? "Outlines shown" : "Outlines hidden");
    this.draw();
  }

  toggleSlab() {
    const pane = this.active;
    pane.thickness = pane.thickness ? 0 : pane.lastThickness;
    say(pane.thickness ? `MIP ${pane.thickness} mm` : "MIP off");
    this.draw();
  }

  nextSlab() {
    const slabbed = this.active.thickness ? [this.active] : this.panes.filter((pane) => pane.thickness);
    const next = SLABS[(SLABS.indexOf(slabbed[0]?.thickness ?? 15) + 1) % SLABS.length];
    for (const pane of slabbed.length ? slabbed : [this.active]) pane.thickness = pane.lastThickness = next;
    say(`MIP ${next} mm`);
    this.draw();
  }

  /** @param {Pane} pane @param {boolean} [focus] */
  activate(pane, focus = true) {
    this.active = pane;
    for (const each of this.panes) each.root.classList.toggle("active", each === pane);
    if (focus) pane.over.focus({ preventScroll: true });
  }

  /** @param {number} step */
  nextPane(step) {
    const n = this.panes.indexOf(this.active);
    this.activate(this.panes[(n + step + this.panes.length) % this.panes.length]);
    say(this.active.name);
  }

  // -- moving -----------------------------------------------------------------------------------------------------
  /** Axial goes towards the feet, coronal to the back, sagittal to the patient's left. @param {number} steps @param {Pane} [pane] */
  scroll(steps, pane = this.active) {
    this.toSlice(pane.index + (pane.axis === AXIAL ? -steps : steps), pane);
  }

  /** @param {number} n @param {Pane} [pane] */
  toSlice(n, pane = this.active) {
    const scene = pane.scene, cursor = /** @type {[number, number, number]} */ ([...scene.cursor]);
    const before = pane.index;
    cursor[pane.axis] = n;
    if (scene === this.earlier && this.linked) {
      const mm = (Math.min(Math.max(n, 0), pane.count - 1) - before) * scene.store.spacing[pane.axis];
      const here = [...this.scene.cursor];
      here[pane.axis] += mm / this.scene.store.spacing[pane.axis];
      this.moveTo(here);
    } else if (scene === this.earlier) {
      scene.moveTo(cursor);
      this.draw();
    } else {
      this.moveTo(cursor);
    }
    say(`${pane.name}, ${pane.where}`);
  }

  first() { this.toSlice(this.active.axis === AXIAL ? this.active.count - 1 : 0); }
  last() { this.toSlice(this.active.axis === AXIAL ? 0 : this.active.count - 1); }

  /** @param {ArrayLike<number>} index [k, j, i] */
  moveTo(index) {
    this.scene.moveTo(index);
    this.#follow();
    this.dispatchEvent(new Event("moved"));
    this.draw();
  }

  /** @param {ArrayLike<number>} mm */
  moveToMm(mm) { this.moveTo(toIndex(this.scene.store.affine, mm).map(Math.round)); }

  #follow() {
    if (!this.earlier || !this.linked) return;
    if (this.alignment) this.earlier.moveToMm(toEarlier(this.alignment, this.scene.cursorMm));
    this.draw();
  }

  toggleLink() {
    this.linked = !this.linked;
    say(this.linked ? "The earlier exam follows" : "The earlier exam stays");
    this.dispatchEvent(new Event("link"));
    this.#follow();
  }

  /** The place that a new mark is for: under the pointer, else the crosshair. @returns {number[]|null} [k, j, i] of this exam */
  placeAtPointer() {
    const at = this.pointer;
    if (at && at.pane.scene === this.scene) return this.#snapped(at.pane, at.pixel);
    return at ? null : [...this.scene.cursor];
  }

  /** In a slab the voxel that is seen is the brightest along it. @param {Pane} pane @param {[number, number]} pixel */
  #snapped(pane, pixel) {
    const index = pane.indexAt(...pixel), [first, end] = pane.range;
    let best = -Infinity, found = index[pane.axis];
    for (let n = first; n < end; n++) {
      const there = [...index];
      there[pane.axis] = n;
      const hu = pane.scene.store.hu(there);
      if (hu !== null && hu > best) [best, found] = [hu, n];
    }
    const place = [...index];
    place[pane.axis] = found;
    return place;
  }

  // -- measuring --------------------------------------------------------------------------------------------------
  /** @param {boolean} [on] */
  setMeasuring(on = !this.measuring) {
    this.measuring = on;
    this.root.classList.toggle("measuring", on);
    say(on ? "Length: draw the long axis, then the short one" : "Length off");
    this.dispatchEvent(new Event("tool"));
  }

  get lastMeasure() { return this.measures[this.measures.length - 1] ?? null; }

  removeMeasure() {
    const gone = this.measures.pop();
    for (const pane of this.panes) pane.measures = this.measures.filter((m) => m.scene === pane.scene);
    this.dispatchEvent(new Event("measured"));
    this.draw();
    return gone;
  }

  /** @param {Pane} pane @param {[number, number]} pixel */
  #beginLine(pane, pixel) {
    const from = pane.indexAt(...pixel), last = this.lastMeasure;
    if (last?.accepts(pane)) last.begin(from);
    else this.measures.push(new Measure(pane, from));
    for (const each of this.panes) each.measures = this.measures.filter((m) => m.scene === each.scene);
  }

  /** A line without length is a click that went astray. */
  #endLine() {
    const last = this.lastMeasure;
    if (last && last.lengths[last.lengths.length - 1] < 0.5) {
      if (last.lines.length === 2) last.lines.pop();
      else return void this.removeMeasure();
    }
    this.dispatchEvent(new Event("measured"));
    this.draw();
  }

  // -- pointer ----------------------------------------------------------------------------------------------------
  /** @param {Pane} pane */
  #bind(pane) {
    const canvas = /** @type {HTMLCanvasElement} */ (pane.over);
    canvas.dataset.bound = "yes";
    let swipe = 0;
    canvas.addEventListener("focus", () => this.activate(pane, false));
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("pointerleave", () => {
      this.pointer = null;
      pane.probe(null);
    });
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.activate(pane);
      if (event.ctrlKey) {
        pane.zoom(event.deltaY < 0 ? 1.15 : 1 / 1.15, ...pane.pixelAt(event));
        return this.draw();
      }
      const along = event.deltaY || event.deltaX; // Shift turns the wheel sideways on some systems
      swipe = Math.sign(swipe) === Math.sign(along) ? swipe + along : along;
      const steps = Math.abs(along) >= WHEEL_PIXELS || event.deltaMode ? Math.sign(along) : Math.trunc(swipe / WHEEL_PIXELS);
      if (steps) {
        swipe = 0;
        this.scroll(steps * (event.shiftKey ? 10 : 1), pane);
      }
    }, { passive: false });
    canvas.addEventListener("pointerdown", (event) => this.#press(pane, event));
    canvas.addEventListener("pointermove", (event) => {
      this.pointer = { pane, pixel: pane.pixelAt(event) };
      pane.probe(this.pointer.pixel);
    });
  }

  /** @param {Pane} pane @param {PointerEvent} event */
  #press(pane, event) {
    event.preventDefault();
    this.activate(pane);
    const drag = this.#dragFor(pane, event);
    let last = [event.clientX, event.clientY];
    const move = (/** @type {PointerEvent} */ next) => {
      drag(pane.pixelAt(next), next.clientX - last[0], next.clientY - last[1]);
      last = [next.clientX, next.clientY];
      this.draw();
    };
    const stop = () => {
      for (const name of ["pointermove"]) pane.over.removeEventListener(name, move);
      if (this.measuring && event.button === 0) this.#endLine();
    };
    pane.over.setPointerCapture(event.pointerId);
    pane.over.addEventListener("pointermove", move);
    pane.over.addEventListener("pointerup", stop, { once: true });
    pane.over.addEventListener("pointercancel", stop, { once: true });
    this.draw();
  }

  /** What a drag with this button does. @param {Pane} pane @param {PointerEvent} event @returns {(pixel: [number, number], dx: number, dy: number) => void} */
  #dragFor(pane, event) {
    const ratio = window.devicePixelRatio || 1;
    if (event.button === 2) return (_, dx, dy) => this.setWindow(this.look.centre + dy * 4, this.look.width + dx * 6);
    if (event.button === 1) return (_, dx, dy) => pane.pan(Math.round(dx * ratio), Math.round(dy * ratio));
    if (this.measuring) {
      this.#beginLine(pane, pane.pixelAt(event));
      return (pixel) => this.lastMeasure?.extend(pane.indexAt(...pixel));
    }
    const put = (/** @type {[number, number]} */ pixel) => {
      const index = pane.indexAt(...pixel).map(Math.round);
      if (pane.scene === this.scene) this.moveTo(index);
      else pane.scene.moveTo(index);
    };
    put(pane.pixelAt(event));
    return put;
  }
}

/** The buttons above the panes. @param {Viewer} viewer @param {() => void} afterwards @returns {HTMLElement} */
export function toolbar(viewer, afterwards) {
  const button = (/** @type {string} */ label, /** @type {() => void} */ act, /** @type {string} */ key) =>
    el("button", { type: "button", title: `${label} (${key})`, onclick: () => { act(); afterwards(); } }, label);
  const length = button("Length", () => viewer.setMeasuring(), "d");
  const link = button("Link", () => viewer.toggleLink(), "k");
  const reflect = () => {
    length.setAttribute("aria-pressed", String(viewer.measuring));
    link.setAttribute("aria-pressed", String(viewer.linked));
  };
  for (const name of ["tool", "link"]) viewer.addEventListener(name, reflect);
  reflect();
  return el("div", { class: "tools", role: "toolbar", "aria-label": "Viewer" },
    button("Soft", () => viewer.setWindow(...WINDOWS.soft), "1"), button("Lung", () => viewer.setWindow(...WINDOWS.lung), "2"),
    button("Bone", () => viewer.setWindow(...WINDOWS.bone), "4"), button("Invert", () => viewer.invert(), "i"),
    button("MIP", () => viewer.toggleSlab(), "m"), button("Thickness", () => viewer.nextSlab(), "Shift+M"),
    button("Fit", () => { viewer.active.fit(); viewer.draw(); }, "="), button("1:1", () => { viewer.active.oneToOne(); viewer.draw(); }, "0"),
    button("Outlines", () => viewer.toggleOverlay(), "o"), length, link);
}
