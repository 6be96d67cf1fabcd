/** The reading panel: nodules with what was measured and what the reader says, the exam's words, the computed result. */
import { NO_WORDS } from "./reading.js";
import { el, fill } from "./dom.js";
import { inMm } from "./sizes.js";

const YES_NO = [["", "as measured"], ["true", "yes"], ["false", "no"]];
const VERDICTS = /** @type {[string, string, string][]} */ ([["accept", "Accept", "a"], ["reject", "Reject", "x"], ["unsure", "Unsure", "u"]]);
export const VERDICT_SIGNS = /** @type {Record<string, string>} */ ({ accept: "✓", reject: "✕", unsure: "?" });

/** @typedef {{id: string, label: string, position_mm: number[], source: "reader"|"cad", number: number|null, fixed: boolean}} Item */

export class Panel extends EventTarget {
  /** @param {HTMLElement} root @param {import("./reading.js").Reading} reading @param {any} programme @param {any} study */
  constructor(root, reading, programme, study) {
    super();
    this.root = root;
    this.reading = reading;
    this.programme = programme;
    this.study = study;
    /** @type {any} */
    this.cad = null;
    /** @type {string|null} */
    this.selected = null;
    this.signedMarks = new Set(reading.read.state === "signed-first" ? reading.content.marks.map((/** @type {any} */ m) => m.id) : []);
    this.list = el("ol", { class: "nodules", "aria-label": "Nodules" });
    this.editor = el("div", { class: "editor" });
    this.exam = el("div", { class: "exam-words" });
    this.result = el("section", { class: "result", "aria-label": "Result" });
    this.saved = el("span", { class: "saved", role: "status" });
    fill(root,
      el("h2", {}, "Nodules"), this.list, this.editor,
      el("h2", {}, "Exam"), this.exam,
      el("h2", {}, "Result"), this.result,
      el("div", { class: "row sign-row" }, el("button", { type: "button", class: "primary", id: "sign", onclick: () => this.dispatchEvent(new Event("sign")) }, "Sign…"), this.saved));
    reading.addEventListener("changed", () => this.draw());
    reading.addEventListener("saved", () => this.#drawResult());
    reading.addEventListener("state", () => { this.saved.textContent = reading.state; this.saved.classList.toggle("trouble", Boolean(reading.trouble)); });
    this.draw();
    this.saved.textContent = reading.state;
  }

  // -- which nodules ----------------------------------------------------------------------------------------------
  /** @returns {Item[]} the reader's own, then CAD's in its order */
  get items() {
    const own = this.reading.content.marks.map((/** @type {any} */ mark) => ({
      id: mark.id, label: mark.id.toUpperCase(), position_mm: mark.position_mm, source: "reader", number: null, fixed: this.signedMarks.has(mark.id),
    }));
    const cad = (this.cad?.findings ?? []).map((/** @type {any} */ finding) => ({
      id: `cad${finding.number}`, label: String(finding.number), position_mm: finding.position_mm, source: "cad", number: finding.number, fixed: false,
    }));
    return [...own, ...cad];
  }

  /** @param {Item} item */
  decision(item) { return this.reading.content.decisions.find((/** @type {any} */ d) => d.finding === item.number) ?? null; }

  /** @param {Item} item @returns {any} the mark or CAD's finding behind it */
  fact(item) {
    if (item.source === "cad") return this.cad.findings.find((/** @type {any} */ f) => f.number === item.number);
    return this.reading.content.marks.find((/** @type {any} */ m) => m.id === item.id);
  }

  /** @param {Item} item */
  words(item) { return (item.source === "cad" ? this.decision(item)?.words : this.fact(item)?.words) ?? NO_WORDS; }

  /** @returns {Item|null} */
  get current() { return this.items.find((item) => item.id === this.selected) ?? null; }

  /** @param {string|null} id */
  select(id) {
    this.selected = id;
    this.draw();
    this.dispatchEvent(new Event("select"));
  }

  /** @param {number} step */
  next(step) {
    const { items } = this;
    if (!items.length) return;
    const n = items.findIndex((item) => item.id === this.selected);
    this.select(items[n < 0 ? (step > 0 ? 0 : items.length - 1) : (n + step + items.length) % items.length].id);
  }

  nextUndecided() {
    const { items } = this, n = items.findIndex((item) => item.id === this.selected);
    const later = [...items.slice(n + 1), ...items.slice(0, n + 1)].find((item) => item.source === "cad" && !this.decision(item));
    if (later) this.select(later.id);
  }

  // -- saying something -------------------------------------------------------------------------------------------
  /** @param {string} verdict @param {string|null} [reason] */
  decide(verdict, reason = null) {
    const item = this.current;
    if (!item || item.source !== "cad" || !this.reading.open) return false;
    if (verdict === "reject" && !reason) {
      this.dispatchEvent(new CustomEvent("reason", { detail: item }));
      return true;
    }
    this.reading.change((content) => {
      const before = content.decisions.find((/** @type {any} */ d) => d.finding === item.number);
      content.decisions = content.decisions.filter((/** @type {any} */ d) => d.finding !== item.number);
      content.decisions.push({ finding: item.number, verdict, reason, words: before?.words ?? { ...NO_WORDS } });
    });
    this.dispatchEvent(new CustomEvent("decided", { detail: { item, verdict } }));
    this.nextUndecided();
    return true;
  }

  /** @param {Record<string, any>} words @param {Item|null} [item] */
  say(words, item = this.current) {
    if (!item || item.fixed) return;
    this.reading.change((content) => {
      if (item.source === "reader") {
        const mark = content.marks.find((/** @type {any} */ m) => m.id === item.id);
        if (mark) mark.words = { ...mark.words, ...words };
      } else {
        let decision = content.decisions.find((/** @type {any} */ d) => d.finding === item.number);
        if (!decision) content.decisions.push(decision = { finding: item.number, verdict: "accept", reason: null, words: { ...NO_WORDS } });
        decision.words = { ...decision.words, ...words };
      }
    });
  }

  removeMark() {
    const item = this.current;
    if (!item || item.source !== "reader" || item.fixed || !this.reading.open) return false;
    this.selected = null;
    this.reading.change((content) => { content.marks = content.marks.filter((/** @type {any} */ m) => m.id !== item.id); });
    this.dispatchEvent(new Event("select"));
    return true;
  }

  // -- drawing ----------------------------------------------------------------------------------------------------
  draw() {
    if (this.root.contains(document.activeElement) && isTyping(document.activeElement)) return this.#drawList();
    this.#drawList();
    this.#drawEditor();
    this.#drawExam();
    this.#drawResult();
  }

  #drawList() {
    const { items } = this;
    const rows = items.map((item) => {
      const decision = this.decision(item), row = this.computed(item);
      const verdict = item.source === "reader" ? "yours" : decision ? `${VERDICT_SIGNS[decision.verdict]} ${decision.verdict}` : "open";
      const fact = this.fact(item), size = row?.mean_diameter_mm ?? sizeOf(fact);
      return el("li", {}, el("button", {
        type: "button", class: `nodule ${item.source}`, "aria-pressed": String(item.id === this.selected), data: { id: item.id }, onclick: () => this.select(item.id),
      }, el("b", {}, item.label), el("span", {}, row?.type ?? typeOf(fact) ?? ""), el("span", {}, size ? inMm(size) : isWaiting(fact) ? "being measured…" : "not measured"),
      el("span", { class: "soft" }, verdict), el("span", {}, row?.category ?? "")));
    });
    fill(this.list, ...rows);
    if (!rows.length) fill(this.list, el("li", { class: "soft" }, "None yet. Point at a nodule and press Space."));
  }

  /** @param {Item} item */
  computed(item) {
    const ref = item.source === "cad" ? String(item.number) : item.id;
    return this.reading.read.computed?.findings?.find((/** @type {any} */ f) => String(f.ref) === ref && f.source === item.source) ?? null;
  }

  #drawEditor() {
    const item = this.current;
    if (!item) return fill(this.editor);
    const fact = this.fact(item), words = this.words(item), off = item.fixed || !this.reading.open;
    const row = this.computed(item);
    const measured = item.source === "reader" ? fact.measured : flat(fact);
    fill(this.editor,
      el("h3", {}, item.source === "cad" ? `CAD mark ${item.label}` : `Your nodule ${item.label}`),
      item.source === "cad" && this.reading.open && el("div", { class: "row", role: "group", "aria-label": "Decision" }, ...VERDICTS.map(([verdict, label, key]) =>
        el("button", { type: "button", title: `${label} (${key})`, "aria-pressed": String(this.decision(item)?.verdict === verdict), onclick: () => this.decide(verdict) },
          `${VERDICT_SIGNS[verdict]} ${label}`))),
      this.decision(item)?.reason && el("p", { class: "soft" }, `Rejected: ${this.programme.reject_reasons.find((/** @type {any} */ r) => r.code === this.decision(item).reason)?.text ?? ""}`),
      howMeasured(measured),
      item.source === "cad" && cadFacts(fact),
      el("div", { class: "fields" },
        choice("Type", "type", [["", "as measured"], ...this.programme.types.map((/** @type {string} */ t) => [t, t])], words.type ?? "", off, (v) => this.say({ type: v || null }, item)),
        this.#axes(words, off, item),
        number("Solid part, mean", words.solid_mean_diameter_mm, off, 0, 400, (v) => this.say({ solid_mean_diameter_mm: v }, item)),
        choice("Perifissural", "perifissural", YES_NO, String(words.perifissural ?? ""), off, (v) => this.say({ perifissural: v === "" ? null : v === "true" }, item)),
        choice("Spiculated", "spiculated", YES_NO, String(words.spiculated ?? ""), off, (v) => this.say({ spiculated: v === "" ? null : v === "true" }, item)),
        number("Confidence, 0 to 100", words.confidence, off, 0, 100, (v) => this.say({ confidence: v === null ? null : Math.round(v) }, item), 1),
        check("Suspicious (category 4X)", words.suspicious, off, (v) => this.say({ suspicious: v }, item)),
        text("Note", words.note, off, (v) => this.say({ note: v }, item))),
      row && el("p", { class: "soft" }, [row.reason, row.clause && `(${row.clause})`, row.growth].filter(Boolean).join(" ")),
      row?.model && said(row),
      item.source === "reader" && !off && el("button", { type: "button", onclick: () => this.removeMark() }, "Delete this nodule"),
      item.fixed && el("p", { class: "soft" }, "Signed with the first read: it stays as it is."));
  }

  /** Both axes are sent together: half a size is none. @param {any} words @param {boolean} off @param {Item} item */
  #axes(words, off, item) {
    const send = () => {
      const [long, short] = inputs.map((input) => input.value === "" ? null : Number(input.value));
      const right = (long === null && short === null) || (long !== null && short !== null && short > 0 && long >= short && long <= 400);
      note.textContent = right ? "" : long !== null && short !== null ? "The short axis is not longer than the long one." : "Give both axes.";
      if (right) this.say({ long_axis_mm: long, short_axis_mm: short }, item);
    };
    const inputs = /** @type {HTMLInputElement[]} */ ([]);
    const field = (/** @type {string} */ label, /** @type {number|null} */ value) => {
      const input = el("input", { type: "number", min: "0.1", max: "400", step: "0.1", value: value ?? "", disabled: off, oninput: send });
      inputs.push(input);
      return el("label", {}, `${label}, mm`, input);
    };
    const note = el("span", { class: "trouble", role: "status" });
    return el("div", { class: "axes" }, field("Long axis", words.long_axis_mm), field("Short axis", words.short_axis_mm), note);
  }

  #drawExam() {
    const { exam } = this.reading.content, off = !this.reading.open;
    const set = (/** @type {any} */ words) => this.reading.change((content) => Object.assign(content.exam, words));
    fill(this.exam, el("div", { class: "fields" },
      choice("Images", "quality", [["", "not said"], ...this.programme.qualities.map((/** @type {string} */ q) => [q, q])], exam.quality ?? "", off, (v) => set({ quality: v || null })),
      choice("Modifier S", "s_modifier", [["", "not said"], ["true", "yes"], ["false", "no"]], String(exam.s_modifier ?? ""), off, (v) => set({ s_modifier: v === "" ? null : v === "true" })),
      choice("Signs of infection", "inflammation", [["", "not said"], ["true", "yes"], ["false", "no"]], String(exam.inflammation ?? ""), off, (v) => set({ inflammation: v === "" ? null : v === "true" })),
      text("S stands for", exam.s_text, off, (v) => set({ s_text: v })),
      text("Remarks", exam.text, off, (v) => set({ text: v }))));
  }

  #drawResult() {
    const { computed, state, id } = this.reading.read;
    this.#drawList();
    fill(this.result,
      computed && el("p", { class: "verdict" }, el("span", { class: `chip c${String(computed.category).replace(/[^0-9A-Za-z]/g, "")}` }, computed.category), " ", computed.label === computed.category ? "" : computed.label),
      computed && el("p", {}, computed.reason ?? ""), computed && el("p", {}, computed.management ?? ""),
      computed?.not_assessed?.length && el("p", { class: "soft" }, `Not assessed: ${computed.not_assessed.join("; ")}.`),
      ...(computed?.notices ?? []).map((/** @type {any} */ notice) => el("p", { class: "soft" }, notice.text)),
      state === "final" && el("p", {}, "Signed. The report: ", ...[["HTML", ".html"], ["PDF", ".pdf"], ["JSON", ".json"], ["DICOM SR", "-sr.dcm"], ["DICOM SEG", "-seg.dcm"]].flatMap(([name, end]) => [el("a", { href: `/api/v1/reads/${id}/final${end}` }, name), " "])),
      el("p", { class: "soft" }, "For research use; not a diagnosis."));
    const button = /** @type {HTMLButtonElement|null} */ (this.root.querySelector("#sign"));
    if (button) {
      button.hidden = state === "final";
      button.textContent = state === "reading" && this.reading.read.mode === "second-reader" && !this.cad ? "Sign the first read…" : "Sign…";
    }
  }
}

// -- small pieces ---------------------------------------------------------------------------------------------------
/** @param {Element|null} at */
const isTyping = (at) => Boolean(at && (at.tagName === "TEXTAREA" || (at.tagName === "INPUT" && /** @type {any} */ (at).type !== "checkbox")));
/** @param {any} fact */
const sizeOf = (fact) => (fact?.measured ?? fact?.measurement)?.mean_diameter_mm ?? null;
/** @param {any} fact */
const typeOf = (fact) => fact?.measured?.type ?? fact?.type ?? null;
/** @param {any} finding of CAD @returns {any} as a mark's measurement */
const flat = (finding) => ({ ...(finding.measurement ?? {}), ...(finding.location ?? {}), type: finding.type });

/** @param {any} fact */
const isWaiting = (fact) => fact?.measured?.state === "waiting";

/** @param {any} m */
function howMeasured(m) {
  if (m?.state === "waiting") return el("p", { class: "soft" }, "Saved. It is being measured: sizes and category follow.");
  if (!m?.mean_diameter_mm) return el("p", { class: "soft" }, "Nothing could be measured here: give the axes.");
  return facts(m);
}

/** @param {any} m */
function facts(m) {
  const rows = /** @type {[string, string|null][]} */ ([
    ["type", m.type], ["axes", m.long_axis_mm ? `${m.long_axis_mm.toFixed(1)} × ${inMm(m.short_axis_mm)}` : null],
    ["mean", m.mean_diameter_mm ? inMm(m.mean_diameter_mm) : null],
    ["solid part", m.solid_mean_diameter_mm ? inMm(m.solid_mean_diameter_mm) : null],
    ["volume", m.volume_mm3 ? `${Math.round(m.volume_mm3)}${m.volume_sd_mm3 ? ` ± ${Math.round(m.volume_sd_mm3)}` : ""} mm³` : null],
    ["place", [m.side, m.lobe, m.zone].filter(Boolean).join(", ") || null],
    ["slice", m.slice_from_top ? `${m.slice_from_top} from the top` : null],
  ]);
  return el("dl", { class: "facts", "aria-label": "As measured" }, ...rows.filter(([, v]) => v).flatMap(([name, v]) => [el("dt", {}, name), el("dd", {}, v)]));
}

/** @param {any} finding */
function cadFacts(finding) {
  const malignancy = finding.malignancy?.probability;
  const rows = /** @type {[string, string|null][]} */ ([
    ["CAD's category", finding.category && finding.doubtful ? `${finding.category}, doubtful: does not decide the exam's` : finding.category], ["malignancy, model", typeof malignancy === "number" ? `${(malignancy * 100).toFixed(0)} %` : null],
    ["since the last exam", finding.growth ?? null],
  ]);
  return el("div", {},
    el("dl", { class: "facts", "aria-label": "As CAD says" }, ...rows.filter(([, v]) => v).flatMap(([name, v]) => [el("dt", {}, name), el("dd", {}, v)])),
    ...(finding.notices ?? []).map((/** @type {any} */ notice) => el("p", { class: "soft" }, notice.text)));
}

/** Who said what. @param {any} row of computed */
function said(row) {
  const { model } = row, other = [];
  if (model.type && model.type !== row.type) other.push(`type ${model.type}`);
  if (model.mean_diameter_mm && model.mean_diameter_mm !== row.mean_diameter_mm) other.push(`mean ${inMm(model.mean_diameter_mm)}`);
  if (model.category && model.category !== row.category) other.push(`category ${model.category}`);
  return other.length ? el("p", { class: "soft" }, `You say otherwise than the product, which has ${other.join(", ")}.`) : null;
}

/** @param {string} label @param {string} name @param {string[][]} options @param {string} value @param {boolean} off @param {(value: string) => void} change */
function choice(label, name, options, value, off, change) {
  const select = el("select", { name, disabled: off, onchange: () => change(select.value) }, ...options.map(([v, words]) => el("option", { value: v }, words)));
  select.value = value;
  return el("label", {}, label, select);
}

/** @param {string} label @param {number|null} value @param {boolean} off @param {number} least @param {number} most @param {(value: number|null) => void} change @param {number} [step] */
function number(label, value, off, least, most, change, step = 0.1) {
  const input = el("input", {
    type: "number", min: least, max: most, step, value: value ?? "", disabled: off,
    oninput: () => {
      const typed = input.value === "" ? null : Number(input.value);
      const wrong = typed !== null && !(typed >= least && typed <= most);
      input.setAttribute("aria-invalid", String(wrong));
      if (!wrong && !input.validity.badInput) change(typed);
    },
  });
  return el("label", {}, label, input);
}

/** @param {string} label @param {boolean} value @param {boolean} off @param {(value: boolean) => void} change */
function check(label, value, off, change) {
  const input = el("input", { type: "checkbox", checked: value, disabled: off, onchange: () => change(input.checked) });
  return el("label", { class: "check" }, input, label);
}

/** @param {string} label @param {string} value @param {boolean} off @param {(value: string) => void} change */
function text(label, value, off, change) {
  const area = el("textarea", { rows: "2", maxlength: "4000", value, disabled: off, oninput: () => change(area.value) });
  return el("label", { class: "wide" }, label, area);
}
