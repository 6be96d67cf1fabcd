/** The accounts: made, closed, given another role or password. */
import { call, get, whoAmI } from "./api.js";
import { date, el, fill, one } from "./dom.js";
import { page } from "./top.js";

const ROLES = ["reader", "arbiter", "lead", "admin", "machine"];

/** @param {string} chosen @param {Record<string, any>} properties */
const roles = (chosen, properties) => el("select", properties, ...ROLES.map((role) => el("option", { value: role, selected: role === chosen }, role)));

/** Do it, say what was done or why not, and show the accounts as they are now. @param {() => Promise<string>} act */
async function doing(act) {
  fill(one("#trouble"));
  fill(one("#done"));
  try {
    fill(one("#done"), await act());
  } catch (error) {
    fill(one("#trouble"), /** @type {Error} */ (error).message);
  }
  await show();
}

/** @param {any} user @param {any} change @param {string} words */
const changing = (user, change, words) => doing(async () => {
  await call("PATCH", `/users/${encodeURIComponent(user.name)}`, change);
  return `${user.name}: ${words} Sessions of the account have ended.`;
});

/** @param {any} user */
function line(user) {
  const word = el("input", { type: "password", autocomplete: "new-password", minlength: "12", "aria-label": `New password of ${user.name}` });
  const role = roles(user.role, { "aria-label": `Role of ${user.name}`, onchange: () => changing(user, { role: role.value }, `is ${role.value} now.`) });
  const open = el("input", { type: "checkbox", checked: user.active, "aria-label": `Account of ${user.name} is open`,
    onchange: () => changing(user, { active: open.checked }, open.checked ? "is open." : "is closed.") });
  return el("tr", { data: { name: user.name } }, el("th", { scope: "row" }, user.name), el("td", {}, role), el("td", {}, open), el("td", {}, date(user.created)),
    el("td", {}, user.role === "machine" ? "has a token" : el("form", { class: "row", onsubmit: (/** @type {Event} */ event) => {
      event.preventDefault();
      if (word.value) changing(user, { password: word.value }, "has a new password.");
    } }, word, el("button", {}, "Set"))));
}

async function show() {
  const { users } = await get("/users");
  fill(one("#rows"), ...users.map(line));
}

function newForm() {
  const name = el("input", { required: true, maxlength: "64", autocomplete: "off" }), role = roles("reader", {});
  const password = el("input", { type: "password", autocomplete: "new-password" });
  role.addEventListener("change", () => { password.disabled = role.value === "machine"; });
  one("#new").append(el("label", {}, "Name ", name), el("label", {}, "Role ", role), el("label", {}, "First password, at least 12 characters ", password), el("button", { class: "primary" }, "Make"));
  one("#new").addEventListener("submit", (/** @type {Event} */ event) => {
    event.preventDefault();
    doing(async () => {
      if (role.value !== "machine" && !password.value) throw new Error("A person needs a first password.");
      const made = await call("POST", "/users", { name: name.value, role: role.value, password: role.value === "machine" ? "" : password.value });
      const said = made.token ? `${made.name} is made. Its token, shown this once: ${made.token}` : `${made.name} is made.`;
      name.value = password.value = "";
      return said;
    });
  });
}

page(whoAmI(), ["admin"], async () => {
  newForm();
  await show();
});
