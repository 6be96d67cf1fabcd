/** Two signed reads that differ: both side by side, what differs first; the arbiter then reads the study. */
import { get, whoAmI } from "./api.js";
import { el, fill, one } from "./dom.js";
import { inMm } from "./sizes.js";

const key = new URLSearchParams(location.search).get("study") ?? "";

/** @param {any} value @returns {string} */
function plain(value) {
  if (value === null || value === undefined || value === "") return "nothing";
  if (typeof value !== "object") return typeof value === "boolean" ? (value ? "yes" : "no") : String(value);
  return nodule(value);
}

/** @param {any} row */
const nodule = (row) => [row.type, row.mean_diameter_mm ? inMm(row.mean_diameter_mm) : "not measured", row.category && `category ${row.category}`,
  row.position_mm && `at ${row.position_mm.map((/** @type {number} */ c) => c.toFixed(0)).join(", ")} mm`].filter(Boolean).join(", ");

/** @param {any} read @param {string} name */
function column(read, name) {
  const result = read.computed ?? read, exam = read.exam ?? read.content?.exam ?? {};
  return el("section", { class: "card", "aria-label": name },
    el("h2", {}, name), el("p", { class: "verdict" }, el("span", { class: `chip c${String(result.category).replace(/[^0-9A-Za-z]/g, "")}` }, result.category), " ", result.label ?? ""),
    el("p", {}, result.reason ?? ""), el("p", {}, result.management ?? ""),
    el("ul", {}, ...(result.findings ?? []).map((/** @type {any} */ row) => el("li", {}, nodule(row)))),
    exam.s_modifier && el("p", {}, `Modifier S: ${exam.s_text}`), exam.quality && el("p", { class: "soft" }, `Images: ${exam.quality}`), exam.text && el("p", {}, exam.text));
}

whoAmI().then(async () => {
  if (!/^[0-9a-f]{12}$/.test(key)) throw new Error("The address names no study.");
  const { reads, differences } = await get(`/studies/${key}/arbitration`);
  fill(one("#differences"), ...differences.map((/** @type {any} */ d) => el("tr", {}, el("th", { scope: "row" }, d.what), el("td", {}, plain(d.first)), el("td", {}, plain(d.second)))));
  fill(one("#reads"), column(reads[0], "First read"), column(reads[1], "Second read"));
  one("#go").href = `/static/read.html?study=${key}`;
  document.documentElement.dataset.ready = "yes";
}).catch((error) => { fill(one("#trouble"), error.message); document.documentElement.dataset.ready = "failed"; });
