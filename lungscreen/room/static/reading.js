/**
 * A read in the page: its content, saved as it is typed, and the way back.
 *
 * One request at a time, each with the version that the last one gave. Emits `changed` (content), `saved`, `state`
 * (the line that says whether all is saved), `conflict` (somebody wrote in between) and `measured` (a mark that was
 * saved before it was measured).
 */
import { Problem, call, get, pause } from "./api.js";

export const NO_WORDS = {
  type: null, long_axis_mm: null, short_axis_mm: null, solid_mean_diameter_mm: null, perifissural: null, spiculated: null,
  suspicious: false, confidence: null, note: "",
};
const MOST_UNDO = 100;
const FIRST_ASK_MS = 250, LAST_ASK_MS = 2000; // for a mark that waits to be measured

export class Reading extends EventTarget {
  /** @param {any} read as the service told it @param {number} delay ms after the last key before it is saved */
  constructor(read, delay) {
    super();
    this.read = read;
    this.delay = delay;
    this.content = structuredClone(read.content);
    this.dirty = false;
    /** @type {any[]} */
    this.past = [];
    /** @type {any[]} */
    this.future = [];
    this.timer = 0;
    /** @type {Promise<void>} */
    this.saving = Promise.resolve();
    this.trouble = "";
    /** @type {Map<string, any>} mark → what the service measured, the newest */
    this.measured = new Map();
    /** @type {Set<string>} marks that are asked for until they are measured */
    this.asked = new Set();
    this.#measure(this.content);
    addEventListener("beforeunload", (event) => { if (this.dirty) event.preventDefault(); });
    addEventListener("pagehide", () => this.#lastWords());
    document.addEventListener("visibilitychange", () => { if (document.hidden) this.flush().catch(() => {}); });
  }

  get open() { return this.read.state !== "final"; }

  get state() {
    if (this.trouble) return `Not saved: ${this.trouble}`;
    return this.read.state === "final" ? "Signed" : this.dirty ? "Saving…" : "Saved";
  }

  /** @param {(content: any) => void} edit @param {boolean} [undoable] */
  change(edit, undoable = true) {
    if (!this.open) return;
    if (undoable) this.#remember();
    const next = structuredClone(this.content);
    edit(next);
    this.#set(next);
  }

  #remember() {
    this.past.push(structuredClone(this.content));
    this.past.splice(0, this.past.length - MOST_UNDO);
    this.future = [];
  }

  /** @param {any} content */
  #set(content) {
    this.content = content;
    for (const mark of content.marks) mark.measured = this.measured.get(mark.id) ?? mark.measured;
    this.dirty = true;
    this.dispatchEvent(new Event("changed"));
    this.dispatchEvent(new Event("state"));
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.flush().catch(() => {}), this.delay);
  }

  undo() { this.#step(this.past, this.future); }
  redo() { this.#step(this.future, this.past); }

  /** @param {any[]} from @param {any[]} to */
  #step(from, to) {
    if (!from.length || !this.open) return;
    to.push(structuredClone(this.content));
    this.#set(from.pop());
  }

  /** Save what is not saved yet. Errors: Problem when it cannot be. */
  flush() {
    clearTimeout(this.timer);
    this.saving = this.saving.catch(() => {}).then(() => this.#save());
    return this.saving;
  }

  async #save() {
    while (this.dirty) {
      const sent = this.content;
      try {
        const read = await call("PUT", `/reads/${this.read.id}`, bare(sent), { version: this.read.version });
        if (this.content === sent) this.dirty = false;
        this.trouble = "";
        this.#take(read);
      } catch (error) {
        await this.#fail(error);
      }
    }
  }

  /** @param {any} error */
  async #fail(error) {
    this.trouble = error.message;
    this.dispatchEvent(new Event("state"));
    if (error instanceof Problem && (error.status === 0 || error.status === 429 || error.status >= 500)) {
      await pause(Math.max(error.retryAfter * 1000, 1000));
      return; // and again
    }
    if (error.code === "read-changed") this.dispatchEvent(new Event("conflict"));
    throw error;
  }

  /** @param {any} read what the service says now; the content stays the page's while something is unsaved */
  #take(read) {
    this.read = read;
    if (!this.dirty) {
      this.content = structuredClone(read.content);
      this.#measure(this.content);
    }
    this.dispatchEvent(new Event("saved"));
    this.dispatchEvent(new Event("state"));
  }

  /** What the service measured: the newest, with the outline, which it tells once. @param {any} content */
  #measure(content) {
    for (const mark of content.marks) {
      const before = this.measured.get(mark.id);
      mark.measured = { ...mark.measured, outline: mark.measured?.outline ?? before?.outline ?? null };
      this.measured.set(mark.id, mark.measured);
      if (mark.measured.state === "waiting") this.#askFor(mark.id);
    }
  }

  /** Ask until a mark is measured. Its words, and the version, stay this page's. @param {string} id */
  async #askFor(id) {
    if (this.asked.has(id)) return;
    this.asked.add(id);
    for (let wait = FIRST_ASK_MS; ; wait = Math.min(wait * 1.5, LAST_ASK_MS)) {
      await pause(wait);
      try {
        const { measured } = await get(`/reads/${this.read.id}/marks/${id}`);
        if (measured.state === "waiting") continue;
        const { computed } = await get(`/reads/${this.read.id}`);
        this.measured.set(id, measured);
        this.read = { ...this.read, computed };
        for (const mark of this.content.marks) if (mark.id === id) mark.measured = measured;
        this.asked.delete(id);
        this.dispatchEvent(new Event("changed"));
        this.dispatchEvent(new CustomEvent("measured", { detail: { id, measured } }));
        return;
      } catch (error) {
        if (error instanceof Problem && error.status > 0 && error.status < 500 && error.status !== 429) return; // gone: of a read that is no longer ours
      }
    }
  }

  /** Keep this page's words after a conflict: theirs are replaced. */
  async keepMine() {
    const read = await get(`/reads/${this.read.id}`);
    this.read = { ...this.read, version: read.version, state: read.state };
    this.dirty = true;
    await this.flush();
  }

  /** Take what the service has; this page's words are gone. */
  async takeTheirs() {
    this.dirty = false;
    this.trouble = "";
    this.#take(await get(`/reads/${this.read.id}`));
    this.dispatchEvent(new Event("changed"));
  }

  /** A nodule at a place: saved now, measured by the product afterwards. @param {number[]} mm LPS @returns {Promise<string>} its id */
  async addMark(mm) {
    await this.flush();
    this.#remember();
    const { mark, read } = await call("POST", `/reads/${this.read.id}/marks`, { position_mm: mm }, { version: this.read.version });
    if (this.dirty) { // something was typed meanwhile: it stays, the mark joins it
      this.content.marks.push(structuredClone(mark));
      this.#measure(this.content);
      this.read = read;
      await this.flush();
    } else {
      this.#take(read);
    }
    this.dispatchEvent(new Event("changed"));
    return mark.id;
  }

  /** @param {string} password @returns {Promise<void>} */
  async sign(password) {
    await this.flush();
    this.#take(await call("POST", `/reads/${this.read.id}/sign`, { password }, { version: this.read.version }));
    this.past = [];
    this.future = [];
    this.dispatchEvent(new Event("changed"));
  }

  /** Seconds at work since the last call. @param {number} seconds */
  async tellActive(seconds) {
    await call("POST", `/reads/${this.read.id}/active`, { active_s: Math.round(seconds) });
  }

  /** The page goes away: one last try, which outlives it. */
  #lastWords() {
    if (!this.dirty) return;
    call("PUT", `/reads/${this.read.id}`, bare(this.content), { version: this.read.version, keepalive: true }).catch(() => {});
  }
}

/** What the service wants back: no measurements, which are its own. @param {any} content */
const bare = (content) => ({ ...content, marks: content.marks.map((/** @type {any} */ mark) => ({ ...mark, measured: null })) });

/** Seconds in which the page was seen and somebody moved within the last minute. */
export class ActiveTime {
  /** @param {(seconds: number) => Promise<void>} tell every half minute */
  constructor(tell) {
    this.seconds = 0;
    this.lastInput = Date.now();
    for (const name of ["pointermove", "keydown", "wheel", "pointerdown"]) {
      addEventListener(name, () => { this.lastInput = Date.now(); }, { passive: true, capture: true });
    }
    setInterval(() => { if (!document.hidden && Date.now() - this.lastInput < 60_000) this.seconds += 1; }, 1000);
    setInterval(() => {
      const told = this.seconds;
      if (told) tell(told).then(() => { this.seconds -= told; }, () => {});
    }, 30_000);
  }
}
