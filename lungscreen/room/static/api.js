/** The room's interface (docs/reference/room-api.md) as functions. Every failure is a Problem with a stable code. */

export class Problem extends Error {
  /** @param {number} status @param {{code?: string, title?: string, detail?: string, missing?: string[]}} body @param {number} [retryAfter] seconds */
  constructor(status, body, retryAfter = 0) {
    super(body.detail || body.title || `The service answered ${status}.`);
    this.status = status;
    this.code = body.code ?? "unknown";
    this.missing = body.missing ?? [];
    this.retryAfter = retryAfter;
  }
}

/**
 * @param {string} method @param {string} path below /api/v1 @param {any} [body] @param {{version?: number, keepalive?: boolean}} [options]
 * @returns {Promise<any>} the parsed answer; null for an empty one
 */
export async function call(method, path, body, { version, keepalive = false } = {}) {
  /** @type {Record<string, string>} */
  const headers = { "Accept": "application/json" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (version !== undefined) headers["If-Match"] = `"${version}"`;
  let answer;
  try {
    answer = await fetch(`/api/v1${path}`, {
      method, headers, keepalive, credentials: "same-origin", body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch {
    throw new Problem(0, { code: "no-connection", detail: "The service cannot be reached." });
  }
  const kind = answer.headers.get("Content-Type") ?? "";
  const content = answer.status !== 204 && kind.includes("json") ? await answer.json() : null;
  if (!answer.ok) throw new Problem(answer.status, content ?? {}, Number(answer.headers.get("Retry-After") ?? 0));
  return answer.status === 202 ? { waiting: true, retryAfter: Number(answer.headers.get("Retry-After") ?? 1), ...content } : content;
}

/** @param {string} path */
export const get = (path) => call("GET", path);

/** Go to the login page and come back here afterwards. */
export function toLogin() {
  location.replace(`/static/login.html?back=${encodeURIComponent(location.pathname + location.search)}`);
}

/** Who is signed in; without anybody, the login page. @returns {Promise<any>} */
export async function whoAmI() {
  try {
    return await get("/me");
  } catch (error) {
    if (error instanceof Problem && error.status === 401) {
      toLogin();
      return new Promise(() => {}); // the page is leaving
    }
    throw error;
  }
}

/** @param {number} ms */
export const pause = (ms) => new Promise((done) => setTimeout(done, ms));
