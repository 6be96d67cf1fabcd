/** Signing in: by name and password, or through the site's own issuer. */
import { Problem, call, get } from "./api.js";
import { el, fill, one } from "./dom.js";

/** Only back to a page of this room. */
function back() {
  const asked = new URL(new URLSearchParams(location.search).get("back") ?? "/", location.origin);
  return asked.origin === location.origin ? asked.pathname + asked.search : "/";
}

one("#login").addEventListener("submit", async (/** @type {Event} */ event) => {
  event.preventDefault();
  const button = one("#login button");
  button.disabled = true;
  try {
    await call("POST", "/login", { name: one("#name").value.trim(), password: one("#password").value });
    location.replace(back());
  } catch (error) {
    const problem = error instanceof Problem ? error : new Problem(0, {});
    fill(one("#trouble"), problem.code === "login-failed" ? "Name and password do not belong together."
      : problem.code === "too-many-attempts" ? `Too many attempts. Try again in ${Math.ceil(problem.retryAfter / 60) || 1} min.` : problem.message);
    one("#password").value = "";
    one("#password").focus();
  }
  button.disabled = false;
});

get("/oidc").then(({ enabled, label }) => {
  if (enabled) fill(one("#issuer"), el("a", { href: "/oidc/login", class: "button" }, label));
}).catch(() => {}).finally(() => { document.documentElement.dataset.ready = "yes"; });
