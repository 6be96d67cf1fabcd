/** The page of one study: pixels first, then the read, then, when the service allows it, CAD. */
import { Problem, call, get, pause, whoAmI } from "./api.js";
import { date, el, fill, one, say } from "./dom.js";
import { toMm } from "./geometry.js";
import { Keys } from "./keys.js";
import { Panel, VERDICT_SIGNS } from "./panel.js";
import { ActiveTime, Reading } from "./reading.js";
import { VolumeStore } from "./store.js";
import { Viewer, WINDOWS, toolbar } from "./viewer.js";

const key = new URLSearchParams(location.search).get("study") ?? "";
const whole = new URLSearchParams(location.search).get("whole") === "1";
const COLOURS = /** @type {Record<string, string>} */ ({ own: "#5ad1ff", open: "#ffb347", accept: "#7fe3a2", reject: "#b0b6bd", unsure: "#ecd06f" });

start().catch((error) => {
  banner("error", `This page could not go on: ${error.message}`, error.code);
  document.documentElement.dataset.ready = "failed";
});

async function start() {
  if (!/^[0-9a-f]{12}$/.test(key)) throw new Error("the address names no study");
  const knownMe = whoAmI(), knownProgramme = get("/programme"); // on their way while the study is asked for
  knownProgramme.catch(() => {}); // 401: the page is leaving for the login
  const me = await knownMe;
  const study = await readyStudy();
  describe(study);
  const viewer = study.volume ? look(study) : null;
  const page = { me, study, viewer, programme: await knownProgramme, reading: /** @type {Reading|null} */ (null), panel: /** @type {Panel|null} */ (null), keys: /** @type {Keys|null} */ (null) };
  viewer?.addEventListener("measured", () => offerMeasure(page));
  await openRead(page);
  bindKeys(page);
  notices(page);
  if (viewer) priors(page).catch((error) => banner("warn", `Earlier exams are not at hand: ${error.message}`));
  document.documentElement.dataset.ready = "yes";
}

// -- the study ------------------------------------------------------------------------------------------------------
async function readyStudy() {
  let study = await get(`/studies/${key}`);
  const begun = Date.now();
  while (!study.volume) {
    if (study.images === "failed") {
      banner("error", "The images cannot be shown: the files are gone or were refused.", study.images_code);
      return study;
    }
    if (study.images === "absent") await call("POST", `/studies/${key}/prepare`, {});
    fill(one("#wait"), `The images are being made ready, for the first time: ${Math.round((Date.now() - begun) / 1000)} s so far. Later openings do not wait.`);
    await pause(1000);
    study = await get(`/studies/${key}`);
  }
  fill(one("#wait"));
  return study;
}

/** @param {any} study */
function describe(study) {
  const { patient, exam } = study;
  document.title = "Study – lungscreen"; // no name in the browser's history
  fill(one("#who"),
    el("b", {}, patient.name || "no name"), ` ${patient.patient_id || "no patient ID"} · ${[patient.sex, date(patient.birth_date) && `born ${date(patient.birth_date)}`].filter(Boolean).join(", ")}`,
    el("span", { class: "soft" }, ` · ${date(exam.date)} ${exam.description || ""} · ${exam.accession_number || "no accession number"}`));
}

/** @param {any} study @returns {Viewer|null} */
function look(study) {
  let store;
  try {
    store = new VolumeStore(`/api/v1/studies/${key}/slices`, study.volume, { whole, first: firstSlice(study.volume) });
  } catch (error) {
    banner("error", /** @type {Error} */ (error).message, "too-large");
    return null;
  }
  const viewer = new Viewer(one("#panes"), store);
  viewer.scene.cursor[0] = Math.min(Math.max(firstSlice(study.volume) - store.start[0], 0), store.shape[0] - 1);
  one("#tools").append(toolbar(viewer, () => viewer.activate(viewer.active)));
  const bar = one("#progress");
  const progress = () => { bar.value = store.arrived / store.chunks; bar.hidden = store.complete; };
  store.addEventListener("loaded", progress);
  store.addEventListener("failed", (event) => banner("error", `Some slices did not come: ${/** @type {CustomEvent} */ (event).detail.failed || "no answer"}. Load the page again.`, "slices-missing"));
  progress();
  if (store.cropped) {
    const [z, y, x] = store.shape;
    banner("warn", `This exam has ${study.volume.shape[0]} slices. Only the lungs with a margin of 10 mm are loaded (${z} × ${y} × ${x} voxels).`, "lung-box",
      el("a", { href: `?study=${key}&whole=1` }, "Load all of it"));
  }
  if (new URLSearchParams(location.search).has("watch")) /** @type {any} */ (window).room = { viewer, store };
  return viewer;
}

/** Where reading begins: the apex of the lungs, never a mark. @param {any} volume */
const firstSlice = (volume) => volume.lung_box ? volume.lung_box[0][1] - 1 : volume.shape[0] - 1;

// -- the read -------------------------------------------------------------------------------------------------------
/** @param {any} page */
async function openRead(page) {
  let read;
  try {
    read = await call("POST", `/studies/${key}/reads`, {});
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    const words = /** @type {Record<string, string>} */ ({ "study-leased": "Somebody reads this study now. You can look, not read.", "read-not-wanted": "This study needs no read of yours." });
    banner("warn", words[error.code] ?? error.message, error.code);
    return;
  }
  const reading = page.reading = new Reading(read, Math.min(page.programme.autosave_ms ?? 800, 1500));
  const panel = page.panel = new Panel(one("#panel"), reading, page.programme, page.study);
  if (read.newer_result) banner("warn", "A newer result of this study exists. This read stays with the one that it began with.", "newer-result");
  panel.addEventListener("select", () => showSelected(page));
  panel.addEventListener("reason", (event) => askReason(page, /** @type {CustomEvent} */ (event).detail));
  panel.addEventListener("decided", (event) => {
    const { item, verdict } = /** @type {CustomEvent} */ (event).detail;
    say(`Mark ${item.label}: ${verdict}`);
  });
  panel.addEventListener("sign", () => askPassword(page));
  reading.addEventListener("changed", () => drawShapes(page));
  reading.addEventListener("conflict", () => askConflict(page));
  reading.addEventListener("measured", (event) => {
    const { id, measured } = /** @type {CustomEvent} */ (event).detail;
    say(`Nodule ${id.toUpperCase()}: ${measured.mean_diameter_mm ? `${measured.type}, ${measured.mean_diameter_mm.toFixed(1)} mm` : "not measured"}`);
  });
  if (reading.open) new ActiveTime((seconds) => reading.tellActive(seconds));
  if (page.study.gate === "open" || read.cad_shown || read.state !== "reading") await showCad(page);
  drawShapes(page);
}

/** @param {any} page */
async function showCad(page) {
  const { panel, reading } = page;
  try {
    panel.cad = await get(`/reads/${reading.read.id}/cad`);
  } catch (error) {
    if (error instanceof Problem && error.code === "first-read-unsigned") return;
    throw error;
  }
  reading.read = await get(`/reads/${reading.read.id}`);
  const n = panel.cad.findings.length;
  fill(one("#cad-state"), n ? `CAD is shown: ${n} ${n === 1 ? "mark" : "marks"}, category ${panel.cad.category}.` : `CAD is shown: no mark, category ${panel.cad.category}.`);
  one("#cad-state").append(" ", el("a", { href: `/api/v1/studies/${key}/report.html` }, "CAD's report"));
  panel.draw();
  drawShapes(page);
  panel.nextUndecided();
}

/** @param {any} page */
function drawShapes({ viewer, panel }) {
  if (!viewer || !panel) return;
  viewer.scene.shapes = panel.items.map((/** @type {import("./panel.js").Item} */ item) => {
    const fact = panel.fact(item), decision = panel.decision(item);
    const measured = fact.measured ?? fact.measurement;
    return {
      id: item.id, position_mm: item.position_mm, diameter_mm: measured?.mean_diameter_mm ?? null,
      outline: fact.outline ?? fact.measured?.outline ?? null, selected: item.id === panel.selected,
      label: `${item.label}${decision ? ` ${VERDICT_SIGNS[decision.verdict]}` : ""}`,
      colour: item.source === "reader" ? COLOURS.own : COLOURS[decision?.verdict ?? "open"], dashed: decision?.verdict === "reject",
    };
  });
  viewer.draw();
}

/** @param {any} page */
function showSelected(page) {
  const item = page.panel.current;
  drawShapes(page);
  if (!item || !page.viewer) return;
  page.viewer.moveToMm(item.position_mm);
  say(`${item.source === "cad" ? "CAD mark" : "Your nodule"} ${item.label}`);
}

/** @param {any} page */
async function mark(page) {
  const { viewer, reading, panel } = page;
  const index = viewer?.placeAtPointer();
  if (!index || !reading?.open) return;
  try {
    panel.select(await reading.addMark(toMm(viewer.scene.store.affine, index)));
  } catch (error) {
    banner("error", `No mark: ${/** @type {Error} */ (error).message}`, /** @type {any} */ (error).code);
  }
}

/** After a length: use it for the chosen nodule. @param {any} page */
function offerMeasure(page) {
  const measure = page.viewer.lastMeasure, line = one("#measure");
  const item = page.panel?.current;
  fill(line, measure && el("span", {}, `${measure.text} `),
    measure?.axes && item && !item.fixed && page.reading.open && el("button", { type: "button", onclick: () => {
      const [long, short] = measure.axes;
      page.panel.say({ long_axis_mm: long, short_axis_mm: short }, item);
      fill(line, `${item.label}: ${long} × ${short} mm, measured by hand.`);
      page.panel.draw();
    } }, `Use for ${item?.label}`));
  if (measure) say(measure.text);
}

// -- questions ------------------------------------------------------------------------------------------------------
/** @param {any} page @param {any} item */
function askReason(page, item) {
  const dialog = one("#dialog");
  dialog.replaceChildren(el("h2", {}, `Why is mark ${item.label} rejected?`),
    el("form", { method: "dialog", class: "column" }, ...page.programme.reject_reasons.map((/** @type {any} */ reason, /** @type {number} */ n) =>
      el("button", { value: reason.code, autofocus: n === 0 }, reason.text)), el("button", { value: "" }, "Cancel")));
  dialog.returnValue = "";
  dialog.addEventListener("close", () => {
    if (dialog.returnValue) page.panel.decide("reject", dialog.returnValue);
    page.viewer?.activate(page.viewer.active);
  }, { once: true });
  dialog.showModal();
}

/** @param {any} page */
function askPassword(page) {
  const { reading, panel } = page, dialog = one("#dialog");
  const first = reading.read.state === "reading" && reading.read.mode === "second-reader" && !panel.cad;
  const password = el("input", { type: "password", autocomplete: "current-password", autofocus: true });
  const trouble = el("p", { class: "trouble", role: "alert" });
  const send = el("button", { class: "primary" }, "Sign");
  const form = el("form", { class: "column", onsubmit: async (/** @type {Event} */ event) => {
    event.preventDefault();
    send.disabled = true;
    try {
      await reading.sign(password.value);
      dialog.close();
      await signed(page);
    } catch (error) {
      const { message, missing = [] } = /** @type {any} */ (error);
      fill(trouble, missing.length ? `Still missing: ${missing.join("; ")}.` : message);
      password.value = "";
      password.focus();
    }
    send.disabled = false;
  } },
  el("p", {}, first ? "After this your marks stay as they are, and CAD is shown." : "After this nothing is changed any more, only added to."),
  el("label", {}, "Your password again", password), trouble,
  el("div", { class: "row" }, send, el("button", { type: "button", onclick: () => dialog.close() }, "Not yet")));
  dialog.replaceChildren(el("h2", {}, first ? "Sign the first read" : "Sign the read"), form);
  dialog.showModal();
}

/** @param {any} page */
async function signed(page) {
  const { reading, panel } = page;
  say("Signed.");
  if (reading.read.state === "signed-first") {
    panel.signedMarks = new Set(reading.content.marks.map((/** @type {any} */ m) => m.id));
    await showCad(page);
  } else {
    addenda(page);
  }
  panel.draw();
  page.viewer?.activate(page.viewer.active);
}

/** @param {any} page */
function addenda({ reading }) {
  const box = one("#addenda");
  const area = el("textarea", { rows: "2", maxlength: "4000" });
  fill(box, el("h2", {}, "Addenda"),
    el("ul", {}, ...(reading.read.addenda ?? []).map((/** @type {any} */ a) => el("li", {}, `${date(a.when)} ${a.who}: ${a.text}`))),
    el("label", {}, "Add to the signed report", area),
    el("button", { type: "button", onclick: async () => {
      if (!area.value.trim()) return;
      await call("POST", `/reads/${reading.read.id}/addenda`, { text: area.value.trim() });
      reading.read = await get(`/reads/${reading.read.id}`);
      addenda(/** @type {any} */ ({ reading }));
    } }, "Add"),
    el("p", {}, el("a", { href: "/" }, "Back to the worklist")));
}

/** @param {any} page */
function askConflict({ reading, panel }) {
  const dialog = one("#dialog");
  dialog.replaceChildren(el("h2", {}, "This read was changed elsewhere"),
    el("p", {}, "Another window of yours saved it in between. Which words stay?"),
    el("form", { method: "dialog", class: "row" }, el("button", { value: "mine" }, "Those on this page"), el("button", { value: "theirs" }, "Those that were saved")));
  dialog.addEventListener("close", async () => {
    if (dialog.returnValue === "mine") await reading.keepMine().catch((/** @type {Error} */ error) => banner("error", error.message));
    else await reading.takeTheirs();
    panel.draw();
  }, { once: true });
  if (!dialog.open) dialog.showModal();
}

// -- around the pictures --------------------------------------------------------------------------------------------
/** @param {string} kind @param {string} text @param {string} [code] @param {Node} [more] */
function banner(kind, text, code, more) {
  const close = el("button", { type: "button", class: "close", "aria-label": "Close", onclick: () => line.remove() }, "×");
  const line = el("li", { class: kind, role: kind === "error" ? "alert" : null }, el("span", {}, text), code ? el("code", {}, code) : "", more ?? "", close);
  one("#banners").append(line);
  return line;
}

/** Notices stay until the reader says that they were seen; signing asks for it. @param {any} page */
function notices({ study, reading }) {
  for (const row of study.not_read ?? []) banner("warn", row.reason, row.code);
  const codes = new Set((study.notices ?? []).map((/** @type {any} */ n) => n.code));
  for (const code of codes) {
    if (reading?.content.acknowledged.includes(code)) continue;
    const line = el("li", { class: "warn" }, ...study.notices.filter((/** @type {any} */ n) => n.code === code).map((/** @type {any} */ n) => el("span", {}, n.text)), el("code", {}, code));
    if (reading?.open) {
      line.append(el("button", { type: "button", onclick: () => {
        reading.change((/** @type {any} */ content) => { if (!content.acknowledged.includes(code)) content.acknowledged.push(code); }, false);
        line.remove();
      } }, "Seen"));
    }
    one("#banners").append(line);
  }
}

/** @param {any} page */
async function priors(page) {
  const { priors: found } = await get(`/studies/${key}/priors`);
  const here = found.filter((/** @type {any} */ p) => p.study);
  if (!found.length) return;
  const select = el("select", { onchange: () => hang(page, here.find((/** @type {any} */ p) => p.study === select.value)) },
    el("option", { value: "" }, "not shown"), ...here.map((/** @type {any} */ p) => el("option", { value: p.study }, `${date(p.date)}${p.days ? `, ${p.days} days ago` : ""}`)));
  one("#tools").append(el("label", { class: "inline" }, "Earlier exam ", select));
  const away = found.length - here.length;
  if (away) banner("warn", `${away} earlier ${away === 1 ? "exam was" : "exams were"} compared whose images are not here.`);
  if (here.length) {
    select.value = here[0].study;
    await hang(page, here[0]);
  }
}

/** @param {any} page @param {any} prior */
async function hang({ viewer }, prior) {
  viewer.hideEarlier();
  if (!prior) return;
  let volume = null;
  while (!volume) {
    const view = await get(`/studies/${prior.study}`);
    volume = view.volume;
    if (volume) break;
    if (view.images === "failed") return void banner("warn", "The earlier exam's images cannot be shown.", view.images_code);
    if (view.images === "absent") await call("POST", `/studies/${prior.study}/prepare`, {});
    await pause(1500);
  }
  let alignment = null;
  try {
    alignment = await get(`/studies/${key}/priors/${prior.study}/alignment`);
    while (alignment.waiting) {
      say("The exams are being aligned");
      await pause(alignment.retryAfter * 1000);
      alignment = await get(`/studies/${key}/priors/${prior.study}/alignment`);
    }
  } catch (error) {
    banner("warn", `The earlier exam does not follow: ${/** @type {Error} */ (error).message}`);
    alignment = null;
  }
  const store = new VolumeStore(`/api/v1/studies/${prior.study}/slices`, volume, { whole });
  viewer.showEarlier(store, `of ${date(prior.date)}`, alignment);
}

// -- keys -----------------------------------------------------------------------------------------------------------
/** @param {any} page */
function bindKeys(page) {
  const { viewer, panel, reading, me } = page, v = viewer;
  const does = /** @type {Record<string, () => void>} */ ({
    undo: () => reading?.undo(), redo: () => reading?.redo(),
    nextMark: () => panel?.next(1), previousMark: () => panel?.next(-1),
    accept: () => panel?.decide("accept"), reject: () => panel?.decide("reject"), unsure: () => panel?.decide("unsure"),
    help: () => page.keys.show(one("#dialog")),
  });
  if (v) {
    Object.assign(does, {
      refocus: () => v.activate(v.active),
      up: () => v.scroll(-1), down: () => v.scroll(1), up10: () => v.scroll(-10), down10: () => v.scroll(10), first: () => v.first(), last: () => v.last(),
      previousPane: () => v.nextPane(-1), nextPane: () => v.nextPane(1),
      soft: () => v.setWindow(...WINDOWS.soft), lung: () => v.setWindow(...WINDOWS.lung), bone: () => v.setWindow(...WINDOWS.bone), invert: () => v.invert(),
      zoomIn: () => { v.active.zoom(1.25); v.draw(); }, zoomOut: () => { v.active.zoom(0.8); v.draw(); },
      fit: () => { v.active.fit(); v.draw(); }, oneToOne: () => { v.active.oneToOne(); v.draw(); },
      slab: () => v.toggleSlab(), slabThickness: () => v.nextSlab(), overlay: () => v.toggleOverlay(), length: () => v.setMeasuring(), link: () => v.toggleLink(),
      mark: () => { mark(page); },
      cancel: () => v.measuring ? v.setMeasuring(false) : panel?.select(null),
      remove: () => { if (v.lastMeasure) v.removeMeasure(); else panel?.removeMark(); },
    });
  }
  page.keys = new Keys(does, me.settings?.keys ?? {}, (own) => {
    me.settings = { ...me.settings, keys: own };
    call("PUT", "/me/settings", me.settings).catch((error) => banner("warn", `The keys were not kept: ${error.message}`));
  });
  one("#help").addEventListener("click", () => does.help());
  one("#leave").addEventListener("click", async (/** @type {Event} */ event) => {
    event.preventDefault();
    await reading?.flush().catch(() => {});
    if (reading?.open) await call("POST", `/reads/${reading.read.id}/release`, {}).catch(() => {});
    location.href = "/";
  });
  if (reading && !reading.open) addenda(page);
}
