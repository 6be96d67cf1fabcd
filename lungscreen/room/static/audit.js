/** Who did what, newest first; and whether the trail is whole. */
import { get, whoAmI } from "./api.js";
import { el, fill, one, say } from "./dom.js";
import { moment, page } from "./top.js";

const PAGE = 200;

/** @param {number} [before] */
async function show(before) {
  const { rows } = await get(`/audit?limit=${PAGE}${before ? `&before=${before}` : ""}`);
  fill(one("#rows"), ...rows.map((/** @type {any} */ row) => el("tr", {}, el("td", { class: "number" }, row.seq), el("td", {}, moment(row.at)), el("td", {}, row.who), el("td", {}, row.what),
    el("td", {}, el("code", {}, row.object)), el("td", {}, Object.entries(row.detail).map(([name, value]) => `${name}: ${Array.isArray(value) ? value.join(", ") : value}`).join("; ")))));
  const last = rows.length ? rows[rows.length - 1].seq : 1;
  one("#older").disabled = last <= 1;
  one("#older").onclick = () => trying(() => show(last));
  say(`${rows.length} rows`);
}

/** @param {() => Promise<void>} act */
const trying = (act) => act().then(() => fill(one("#trouble")), (error) => fill(one("#trouble"), error.message));

async function check() {
  fill(one("#checked"), "Checking …");
  const { rows, faults } = await get("/audit/check");
  fill(one("#checked"), faults.length ? `Not whole: ${faults.slice(0, 5).join("; ")}${faults.length > 5 ? ` and ${faults.length - 5} more` : ""}.` : `Whole: ${rows} rows.`);
}

page(whoAmI(), ["admin", "lead"], async () => {
  one("#newest").addEventListener("click", () => trying(() => show()));
  one("#check").addEventListener("click", () => trying(check));
  await show();
});
