/** Who is signed in, and the pages of that role: the line above every page but the viewer's. */
import { call } from "./api.js";
import { el, fill, one } from "./dom.js";

const PAGES = /** @type {[string, string, string[]][]} */ ([
  ["/", "Worklist", ["reader", "arbiter", "lead"]],
  ["/static/monthly.html", "Month", ["lead"]],
  ["/static/users.html", "Accounts", ["admin"]],
  ["/static/audit.html", "Audit trail", ["admin", "lead"]],
  ["/static/account.html", "Your account", ["reader", "arbiter", "lead", "admin"]],
]);

/** @param {any} me */
export function top(me) {
  const here = location.pathname === "/static/index.html" ? "/" : location.pathname;
  const pages = PAGES.filter(([, , roles]) => roles.includes(me.role))
    .map(([address, name]) => el("a", { href: address, "aria-current": address === here ? "page" : null }, name));
  fill(one("#me"), el("nav", { class: "row", "aria-label": "Pages" }, ...pages), el("span", {}, `${me.name} (${me.role})`),
    el("button", { type: "button", onclick: async () => { await call("POST", "/logout", {}); location.replace("/static/login.html"); } }, "Sign out"));
}

/**
 * A page for some roles: the line above, then what the page does. Others are told that it is not theirs.
 * @param {Promise<any>} who @param {string[]} roles @param {(me: any) => Promise<void>} begin
 */
export function page(who, roles, begin) {
  who.then(async (me) => {
    top(me);
    if (roles.includes(me.role)) await begin(me);
    else fill(one("#trouble"), `This page is not for the role ${me.role}.`);
    document.documentElement.dataset.ready = "yes";
  }).catch((error) => { fill(one("#trouble"), error.message); document.documentElement.dataset.ready = "failed"; });
}

/** @param {number} seconds POSIX @returns {string} */
export const moment = (seconds) => `${new Date(seconds * 1000).toISOString().slice(0, 19).replace("T", " ")} UTC`;
