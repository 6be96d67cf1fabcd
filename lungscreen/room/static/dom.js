/** Elements from words. Text is always text: nothing that a server says is read as HTML. */

/**
 * @param {string} tag @param {Record<string, any>} [properties] `on…` listeners, `data`, `aria…`, `class`, else attributes
 * @param {...(Node|string|number|null|undefined|false)} children
 * @returns {any}
 */
export function el(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "class") node.className = value;
    else if (name === "data") Object.assign(node.dataset, value);
    else if (name === "value" || name === "checked") /** @type {any} */ (node)[name] = value;
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.filter((c) => c !== null && c !== undefined && c !== false).map((c) => typeof c === "number" ? String(c) : /** @type {any} */ (c)));
  return node;
}

/** @param {string} selector @returns {any} */
export const one = (selector) => document.querySelector(selector);

/** @param {Element} parent @param {...(Node|string|null|undefined|false)} children */
export function fill(parent, ...children) {
  parent.replaceChildren(.../** @type {any[]} */ (children.filter(Boolean)));
}

/** Say something to those who listen instead of look. @param {string} text */
export function say(text) {
  const line = one("#say");
  if (line && line.textContent !== text) line.textContent = text;
}

/** Text with newlines kept out of the page's language: waiting times. @param {number|null} seconds */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "";
  const minutes = Math.floor(seconds / 60), hours = Math.floor(minutes / 60), days = Math.floor(hours / 24);
  return days ? `${days} d ${hours % 24} h` : hours ? `${hours} h ${minutes % 60} min` : `${minutes} min`;
}

/** @param {string|number|null|undefined} day YYYYMMDD, ISO, or POSIX seconds @returns {string} */
export function date(day) {
  if (!day) return "";
  if (typeof day === "number") return new Date(day * 1000).toISOString().slice(0, 10);
  return /^\d{8}$/.test(day) ? `${day.slice(0, 4)}-${day.slice(4, 6)}-${day.slice(6)}` : day.slice(0, 10);
}
