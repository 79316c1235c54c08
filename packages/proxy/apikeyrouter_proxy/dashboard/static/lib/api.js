// The management API as functions. Every failure is an ApiError whose message is the server's own, ready to show.

let csrf = null;
const onSignedOut = new Set();

export class ApiError extends Error {
  constructor(message, status, code, param) {
    super(message);
    this.status = status;
    this.code = code;
    this.param = param;
  }
}

/** Called whenever the server says that nobody is signed in. Returns a function that ends the subscription. */
export function whenSignedOut(listener) {
  onSignedOut.add(listener);
  return () => onSignedOut.delete(listener);
}

export async function readSession() {
  const session = await call("GET", "/api/v1/session");
  csrf = session.csrf;
  return session;
}

export async function signIn(key) {
  const session = await call("POST", "/api/v1/session", { key }, { quiet: true });
  csrf = session.csrf;
  return session;
}

export async function signOut() {
  await call("DELETE", "/api/v1/session");
  csrf = null;
}

/** Headers that a write of this browser needs. */
export function writeHeaders() {
  return csrf ? { "x-akr-csrf": csrf } : {};
}

async function call(method, path, body, { quiet = false, signal } = {}) {
  const headers = { accept: "application/json" };
  if (method !== "GET") Object.assign(headers, writeHeaders());
  if (body !== undefined) headers["content-type"] = "application/json";
  let answer;
  try {
    answer = await fetch(path, { method, headers, signal, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch (fault) {
    if (fault.name === "AbortError") throw fault;
    throw new ApiError("The proxy does not answer. Is it running? This page tries again by itself.", 0, "unreachable");
  }
  if (answer.status === 204) return null;
  const text = await answer.text();
  let told = null;
  try {
    told = text ? JSON.parse(text) : null;
  } catch {
    throw new ApiError(`The proxy answered ${answer.status} with something that is no JSON.`, answer.status, "not_json");
  }
  if (answer.ok) return told;
  const error = (told && told.error) || {};
  if (answer.status === 401 && !quiet) for (const listener of onSignedOut) listener();
  throw new ApiError(error.message || `The proxy answered ${answer.status}.`, answer.status, error.code, error.param);
}

export const api = {
  get: (path, options) => call("GET", path, undefined, options),
  post: (path, body, options) => call("POST", path, body ?? {}, options),
  put: (path, body) => call("PUT", path, body),
  patch: (path, body) => call("PATCH", path, body),
  remove: (path) => call("DELETE", path),
};

/** A query string from an object; empty values are left out. */
export function query(values) {
  const kept = Object.entries(values).filter(([, value]) => value !== undefined && value !== null && value !== "");
  return kept.length ? "?" + new URLSearchParams(kept).toString() : "";
}
