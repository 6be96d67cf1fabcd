/** Keys: one table of what they do, each user's own changes to it, and the list that `?` shows. */
import { el } from "./dom.js";

/** @typedef {{name: string, keys: string[], words: string}} Action */

/** @type {Action[]} */
export const ACTIONS = [
  { name: "up", keys: ["ArrowUp"], words: "previous slice" },
  { name: "down", keys: ["ArrowDown"], words: "next slice" },
  { name: "up10", keys: ["PageUp"], words: "ten slices back" },
  { name: "down10", keys: ["PageDown"], words: "ten slices on" },
  { name: "first", keys: ["Home"], words: "first slice" },
  { name: "last", keys: ["End"], words: "last slice" },
  { name: "previousPane", keys: ["ArrowLeft"], words: "previous pane" },
  { name: "nextPane", keys: ["ArrowRight"], words: "next pane" },
  { name: "soft", keys: ["1"], words: "soft tissue window, 400 at 40" },
  { name: "lung", keys: ["2"], words: "lung window, 1500 at −600" },
  { name: "bone", keys: ["4"], words: "bone window, 2500 at 480" },
  { name: "invert", keys: ["i"], words: "invert" },
  { name: "zoomIn", keys: ["+"], words: "enlarge" },
  { name: "zoomOut", keys: ["-"], words: "make smaller" },
  { name: "fit", keys: ["="], words: "fit to the pane" },
  { name: "oneToOne", keys: ["0"], words: "one voxel, one pixel" },
  { name: "slab", keys: ["m"], words: "MIP on or off" },
  { name: "slabThickness", keys: ["Shift+M"], words: "MIP of 5, 10, 15 mm" },
  { name: "overlay", keys: ["o"], words: "outlines and crosshair on or off" },
  { name: "nextMark", keys: ["n"], words: "next mark" },
  { name: "previousMark", keys: ["p"], words: "previous mark" },
  { name: "accept", keys: ["a"], words: "accept the mark" },
  { name: "reject", keys: ["x"], words: "reject the mark" },
  { name: "unsure", keys: ["u"], words: "unsure of the mark" },
  { name: "mark", keys: [" "], words: "mark a nodule at the pointer, else at the crosshair" },
  { name: "length", keys: ["d"], words: "length tool on or off" },
  { name: "link", keys: ["k"], words: "the earlier exam follows or stays" },
  { name: "undo", keys: ["Ctrl+Z"], words: "undo" },
  { name: "redo", keys: ["Ctrl+Y"], words: "redo" },
  { name: "cancel", keys: ["Escape"], words: "cancel" },
  { name: "remove", keys: ["Backspace"], words: "delete the length, else the chosen mark of your own" },
  { name: "help", keys: ["?"], words: "this list" },
];

const TYPED = new Set(["text", "search", "password", "number", "email", "date", ""]);

/** @param {KeyboardEvent} event @returns {string} as the table writes it */
export function chord(event) {
  const letter = event.key.length === 1 && event.key.toLowerCase() !== event.key.toUpperCase();
  const key = letter && (event.shiftKey || event.ctrlKey || event.metaKey) ? event.key.toUpperCase() : letter ? event.key.toLowerCase() : event.key;
  return `${event.ctrlKey || event.metaKey ? "Ctrl+" : ""}${event.shiftKey && letter ? "Shift+" : ""}${key}`;
}

/** Whether a key belongs to the element that has the focus. @param {KeyboardEvent} event */
function taken(event) {
  const at = /** @type {any} */ (event.target);
  if (at.closest?.("dialog")) return true;
  const name = at.tagName;
  if (name === "TEXTAREA" || at.isContentEditable || (name === "INPUT" && TYPED.has(at.type))) return true;
  const own = name === "BUTTON" || name === "A" || name === "SUMMARY" || (name === "INPUT" && at.type === "checkbox") ? [" ", "Enter"]
    : name === "SELECT" || name === "INPUT" ? [" ", "Enter", "ArrowUp", "ArrowDown", "ArrowLeft", "ArrowRight", "Home", "End", "PageUp", "PageDown"] : [];
  return own.includes(event.key);
}

export class Keys {
  /** @param {Record<string, () => void>} does by the action's name @param {Record<string, string[]>} [own] the user's keys @param {(own: Record<string, string[]>) => void} [keep] */
  constructor(does, own = {}, keep = () => {}) {
    this.does = does;
    this.own = own;
    this.keep = keep;
    document.addEventListener("keydown", (event) => this.#press(event));
    // After a click on a button the keys go on working: the focus goes back to the pictures.
    document.addEventListener("click", (event) => {
      const at = /** @type {Element} */ (event.target);
      if (event.detail > 0 && at.closest?.("button, input[type=checkbox]") && !at.closest("dialog")) this.does.refocus?.();
    });
    document.addEventListener("change", (event) => {
      const at = /** @type {Element} */ (event.target);
      if (at.tagName === "SELECT" && !at.closest("dialog")) this.does.refocus?.();
    });
  }

  /** @param {string} name @returns {string[]} */
  of(name) { return this.own[name] ?? ACTIONS.find((action) => action.name === name)?.keys ?? []; }

  /** @param {KeyboardEvent} event */
  #press(event) {
    if (event.altKey || event.isComposing || taken(event) || document.querySelector("dialog[open]")) return;
    const pressed = chord(event);
    const action = ACTIONS.find(({ name }) => this.of(name).includes(pressed));
    if (!action || !this.does[action.name]) return;
    event.preventDefault();
    this.does[action.name]();
  }

  /** The list of keys; a key is changed by its button and the next key pressed. @param {HTMLDialogElement} dialog */
  show(dialog) {
    const note = el("p", { class: "soft", role: "status" }, "Choose a key to change it. No single key signs.");
    const rows = ACTIONS.map((action) => {
      const button = el("button", { type: "button", class: "key" });
      const label = () => {
        button.textContent = shown(this.of(action.name)[0]);
        button.setAttribute("aria-label", `${action.words}: ${button.textContent}`);
      };
      label();
      button.addEventListener("click", () => {
        note.textContent = `Press the new key for “${action.words}”.`;
        const take = (/** @type {KeyboardEvent} */ event) => {
          if (["Shift", "Control", "Alt", "Meta", "Tab"].includes(event.key)) return;
          event.preventDefault();
          event.stopPropagation();
          dialog.removeEventListener("keydown", take, true);
          note.textContent = event.key === "Escape" ? "Nothing was changed." : this.#change(action, chord(event));
          label();
        };
        dialog.addEventListener("keydown", take, true);
      });
      return el("tr", {}, el("td", {}, button), el("td", {}, action.words));
    });
    dialog.replaceChildren(
      el("h2", {}, "Keys"), note,
      el("div", { class: "key-list", tabindex: "0", role: "region", "aria-label": "Keys" }, el("table", {}, el("tbody", {}, ...rows))),
      el("p", { class: "soft" }, "Wheel: slices; with Shift ten, with Ctrl size. Left drag: crosshair. Right drag: window. Middle drag: move."),
      el("form", { method: "dialog", class: "row" }, el("button", {}, "Close"),
        el("button", { type: "button", onclick: () => { this.own = {}; this.keep({}); dialog.close(); } }, "All as delivered")),
    );
    dialog.showModal();
  }

  /** @param {Action} action @param {string} pressed @returns {string} what was done */
  #change(action, pressed) {
    const other = ACTIONS.find(({ name }) => name !== action.name && this.of(name).includes(pressed));
    if (other) return `${shown(pressed)} is the key for “${other.words}” already.`;
    this.own = { ...this.own, [action.name]: [pressed] };
    this.keep(this.own);
    return `“${action.words}” is now ${shown(pressed)}.`;
  }
}

/** @param {string} key @returns {string} */
const shown = (key) => key === " " ? "Space" : key.replace("Arrow", "");
