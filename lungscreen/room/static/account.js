/** One's own account: the password, and where one is signed in. */
import { Problem, call, get, whoAmI } from "./api.js";
import { el, fill, one, say } from "./dom.js";
import { moment, page } from "./top.js";

/** @param {any} me */
function passwordForm(me) {
  const box = one("#password");
  if (me.through !== "password") return fill(box, el("h2", {}, "Password"), el("p", {}, "You sign in with the hospital's account: its password is changed there."));
  const old = el("input", { type: "password", autocomplete: "current-password", required: true });
  const next = el("input", { type: "password", autocomplete: "new-password", minlength: "12", required: true });
  const again = el("input", { type: "password", autocomplete: "new-password", required: true });
  const trouble = el("p", { class: "trouble", role: "alert" }), done = el("p", { role: "status" });
  const form = el("form", { class: "column", onsubmit: async (/** @type {Event} */ event) => {
    event.preventDefault();
    fill(trouble);
    fill(done);
    if (next.value !== again.value) return fill(trouble, "The two new passwords are not alike.");
    try {
      await call("PUT", "/me/password", { password: old.value, new: next.value });
      fill(done, "The password is changed. Your other sessions have ended.");
      for (const field of [old, next, again]) field.value = "";
      await sessions();
    } catch (error) {
      const problem = /** @type {Problem} */ (error);
      fill(trouble, problem.code === "too-many-attempts" ? `Too many attempts. Try again in ${Math.ceil(problem.retryAfter / 60) || 1} min.` : problem.message);
    }
  } },
  el("label", {}, "Password now", old), el("label", {}, "New password, at least 12 characters", next), el("label", {}, "New password again", again),
  trouble, done, el("div", {}, el("button", { class: "primary" }, "Change")));
  fill(box, el("h2", {}, "Password"), form);
}

async function sessions() {
  const { sessions: found } = await get("/me/sessions");
  fill(one("#sessions"), el("table", {}, el("thead", {}, el("tr", {}, ...["Begun", "Last used", "Through", "This one", ""].map((name) => el(name ? "th" : "td", name ? { scope: "col" } : {}, name)))),
    el("tbody", {}, ...found.map((/** @type {any} */ row) => el("tr", {}, el("td", {}, moment(row.begun)), el("td", {}, moment(row.seen)), el("td", {}, row.through), el("td", {}, row.own ? "yes" : ""),
      el("td", {}, row.own ? "" : el("button", { type: "button", "aria-label": `End the session of ${moment(row.begun)}`, onclick: () => end(row) }, "End")))))));
}

/** @param {any} row */
async function end(row) {
  try {
    await call("DELETE", `/me/sessions/${row.id}`);
    say("The session has ended.");
  } catch (error) {
    fill(one("#trouble"), /** @type {Error} */ (error).message);
  }
  await sessions();
}

page(whoAmI(), ["reader", "arbiter", "lead", "admin"], async (me) => {
  passwordForm(me);
  await sessions();
});
