/** A month of final reads in tables; figures that are too few to say anything are said to be so. */
import { get, whoAmI } from "./api.js";
import { el, fill, one, say } from "./dom.js";
import { page } from "./top.js";

/** @param {any} share @returns {string} */
const percent = (share) => share.share === null ? `too few: ${share.why} (${share.of})`
  : `${(100 * share.share).toFixed(0)} % (95 % interval ${(100 * share.low).toFixed(0)} to ${(100 * share.high).toFixed(0)}) of ${share.of}`;

/** @param {string} title @param {string[]} head @param {(string|number)[][]} rows @param {string} [note] */
const table = (title, head, rows, note) => el("section", { class: "card", "aria-label": title },
  el("h2", {}, title), note && el("p", { class: "soft" }, note),
  rows.length ? el("table", {}, el("thead", {}, el("tr", {}, ...head.map((name) => el("th", { scope: "col" }, name)))),
    el("tbody", {}, ...rows.map(([first, ...rest]) => el("tr", {}, el("th", { scope: "row" }, first), ...rest.map((cell) => el("td", {}, cell)))))) : el("p", {}, "None."));

/** @param {Record<string, number>} counts */
const counted = (counts) => Object.entries(counts).sort().map(([name, n]) => `${name}: ${n}`).join(", ") || "none";

/** @param {any} told */
function sections(told) {
  const { agreement, cad, by_reader: readers, subgroups, least_of_a_share: least } = told;
  const kappa = agreement.kappa === null ? `not told: fewer than ${least} studies, or all alike` : agreement.kappa.toFixed(2);
  return [
    el("p", {}, `${told.reads} final reads in ${told.month} (UTC).`, told.reads_of_open_studies
      ? ` ${told.reads_of_open_studies} of them are of studies that somebody still reads: of those no category and nothing of CAD is counted.` : ""),
    table("Readers", ["Reader", "Reads", "Time before CAD, median", "Time after, median", "Categories"], readers.map((/** @type {any} */ r) =>
      [r.reader, r.reads, `${r.median_first_s} s`, `${r.median_second_s} s`, counted(r.categories)]), "Time is of activity, as the server counts it."),
    table("Agreement", ["What", "Figure"], [["Studies read twice", agreement.studies_read_twice], ["Cohen's kappa of management", kappa], ["Arbitrations", agreement.arbitrations]]),
    table("CAD", ["What", "Figure"], [
      ["Sensitivity against signed reads", percent(cad.sensitivity_against_reads)],
      ["Sensitivity against first reads, signed without CAD", percent(cad.sensitivity_against_first_reads)],
      ["Reads that were signed before CAD was shown", cad.reads_with_a_gate],
      ["Category raised after CAD", percent(cad.category_raised)], ["Category lowered after CAD", percent(cad.category_lowered)],
      ["Marks", `${cad.marks.accept} accepted, ${cad.marks.reject} rejected, ${cad.marks.unsure} unsure`],
    ], told.meaning),
    table("CAD's sensitivity by subgroup", ["Subgroup", "Group", "Nodules", "Sensitivity against signed reads"], subgroups.map((/** @type {any} */ g) => [g.kind, g.group, g.nodules, percent(g.cad)]),
      `A share of fewer than ${least} is not told.`),
  ];
}

async function show() {
  const field = one("#month");
  if (!field.checkValidity() || !field.value) return;
  fill(one("#trouble"));
  try {
    fill(one("#figures"), ...sections(await get(`/monthly?month=${encodeURIComponent(field.value)}`)));
    say(`Figures of ${field.value}`);
  } catch (error) {
    fill(one("#figures"));
    fill(one("#trouble"), /** @type {Error} */ (error).message);
  }
}

page(whoAmI(), ["lead"], async () => {
  one("#month").value = new Date().toISOString().slice(0, 7);
  one("#month").addEventListener("change", show);
  one("#choose").addEventListener("submit", (/** @type {Event} */ event) => { event.preventDefault(); show(); });
  await show();
});
