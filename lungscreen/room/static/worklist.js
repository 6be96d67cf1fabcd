/** The worklist: in the order that the service gives, which knows what a reader may know. */
import { Problem, get, whoAmI } from "./api.js";
import { date, duration, el, fill, one, say } from "./dom.js";
import { top } from "./top.js";

const PAGE = 100, REFRESH_MS = 30_000;
const STATES = /** @type {Record<string, string>} */ ({
  "unread": "unread", "reading": "being read", "signed-first": "first read signed", "second-read": "second read", "arbitration": "arbitration",
  "final": "signed", "refused": "refused", "failed": "failed",
});
const state = { q: "", state: "", mine: false, offset: 0, total: 0 };
let asked = 0;

/** @param {any} me */
function bind(me) {
  top(me);
  for (const [code, words] of Object.entries(STATES)) one("#state").append(el("option", { value: code }, words));
  let typing = 0;
  one("#q").addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(() => show({ q: one("#q").value, offset: 0 }), 250); });
  one("#filters").addEventListener("submit", (/** @type {Event} */ event) => { event.preventDefault(); show({ q: one("#q").value, offset: 0 }); });
  one("#state").addEventListener("change", () => show({ state: one("#state").value, offset: 0 }));
  one("#mine").addEventListener("change", () => show({ mine: one("#mine").checked, offset: 0 }));
  one("#before").addEventListener("click", () => show({ offset: Math.max(state.offset - PAGE, 0) }));
  one("#after").addEventListener("click", () => show({ offset: state.offset + PAGE }));
  document.addEventListener("keydown", move);
  setInterval(() => { if (!document.hidden) show({}); }, REFRESH_MS);
}

/** Arrow keys go from study to study, / to the search. @param {KeyboardEvent} event */
function move(event) {
  const at = /** @type {HTMLElement} */ (event.target);
  if (at.matches("input, select, textarea")) {
    if (event.key === "ArrowDown" && at.id === "q") { event.preventDefault(); links()[0]?.focus(); }
    return;
  }
  if (event.key === "/") {
    event.preventDefault();
    one("#q").focus();
  } else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    event.preventDefault();
    const all = links(), n = all.indexOf(/** @type {any} */ (document.activeElement));
    all[Math.min(Math.max(n + (event.key === "ArrowDown" ? 1 : -1), 0), all.length - 1)]?.focus();
  }
}

/** @returns {HTMLAnchorElement[]} */
const links = () => [...document.querySelectorAll("#rows a.open")].map((a) => /** @type {HTMLAnchorElement} */ (a));

/** @param {Partial<typeof state>} change */
async function show(change) {
  Object.assign(state, change);
  const number = ++asked;
  const query = new URLSearchParams({ q: state.q, state: state.state, mine: String(state.mine), offset: String(state.offset), limit: String(PAGE) });
  if (!state.state) query.delete("state");
  try {
    const answer = await get(`/worklist?${query}`);
    if (number !== asked) return; // a later question was faster
    state.total = answer.total;
    draw(answer);
    fill(one("#trouble"));
  } catch (error) {
    if (error instanceof Problem && error.status === 401) return location.replace("/static/login.html");
    fill(one("#trouble"), `The list could not be had: ${/** @type {Error} */ (error).message}`);
  }
}

/** @param {any} answer */
function draw(answer) {
  const focused = /** @type {HTMLElement|null} */ (document.activeElement)?.dataset?.study;
  const withCad = answer.rows.some((/** @type {any} */ row) => row.cad);
  one("#cad-head").hidden = !withCad;
  fill(one("#rows"), ...answer.rows.map((/** @type {any} */ row) => line(row, withCad)));
  if (focused) links().find((a) => a.dataset.study === focused)?.focus();
  const first = answer.rows.length ? answer.offset + 1 : 0, end = answer.offset + answer.rows.length;
  fill(one("#count"), `${first} to ${end} of ${answer.total}, by ${answer.ranked_by === "suspicion" ? "suspicion" : "urgency and arrival"}`);
  one("#before").disabled = answer.offset === 0;
  one("#after").disabled = end >= answer.total;
  say(`${answer.total} studies`);
}

/** @param {any} row @param {boolean} withCad */
function line(row, withCad) {
  const openable = !["refused", "failed"].includes(row.state);
  const page = row.state === "arbitration" ? "arbitration" : "read";
  const who = row.patient_id || row.name || row.study;
  return el("tr", { class: row.urgent ? "urgent" : "" },
    el("td", {}, openable ? el("a", { class: "open", href: `/static/${page}.html?study=${row.study}`, data: { study: row.study } }, who) : who),
    el("td", {}, row.name || ""), el("td", {}, date(row.date)), el("td", {}, row.description || ""), el("td", {}, row.accession_number || ""),
    el("td", {}, el("span", { class: `chip s-${row.state}` }, STATES[row.state] ?? row.state), row.reason ? el("div", { class: "soft" }, row.reason, " ", el("code", {}, row.code)) : "", row.mine ? " yours" : ""),
    el("td", {}, row.urgent ? "urgent" : ""), el("td", { class: "number" }, duration(row.waiting_s)), el("td", { class: "number" }, row.priors || ""),
    el("td", {}, ...(row.notices ?? []).flatMap((/** @type {string} */ code) => [el("code", {}, code), " "])), el("td", {}, row.reader || ""),
    withCad && el("td", {}, row.cad ? `${row.cad.category} · ${row.cad.findings} ${row.cad.findings === 1 ? "mark" : "marks"}${row.cad.tier ? ` · tier ${row.cad.tier}` : ""}` : ""));
}

whoAmI().then(async (me) => {
  bind(me);
  if (!["reader", "arbiter", "lead"].includes(me.role)) fill(one("#trouble"), `The role ${me.role} reads no studies.`);
  else await show({});
  document.documentElement.dataset.ready = "yes";
}).catch((error) => { fill(one("#trouble"), error.message); document.documentElement.dataset.ready = "failed"; });
