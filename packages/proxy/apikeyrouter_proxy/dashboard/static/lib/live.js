// One stream of events for the whole page, open while somebody listens and the page is visible.
//
// Kinds: "tick" (once a second: what happened in it), "decisions" (finished requests, in batches), "key" (a key changed
// state), "changed" (something was edited), and our own "status" ("live", "waiting" or "off").

const listeners = new Map();
let source = null;
let status = "off";
let retryMs = 500;
let timer = 0;
const RETRY_MAX_MS = 15000;

/** Calls `listener(data)` for each event of a kind. Returns a function that ends the subscription. */
export function listen(kind, listener) {
  if (!listeners.has(kind)) listeners.set(kind, new Set());
  listeners.get(kind).add(listener);
  if (kind === "status") listener(status);
  update();
  return () => {
    listeners.get(kind).delete(listener);
    update();
  };
}

function tell(kind, data) {
  for (const listener of listeners.get(kind) ?? []) listener(data);
}

function say(next) {
  if (next !== status) tell("status", (status = next));
}

function wanted() {
  if (document.hidden) return false;
  for (const [kind, those] of listeners) if (kind !== "status" && those.size) return true;
  return false;
}

function update() {
  if (wanted() && !source) open();
  else if (!wanted() && source) close();
  if (!wanted()) clearTimeout(timer);
}

function close() {
  source.close();
  source = null;
  say("off");
}

function open() {
  clearTimeout(timer);
  const opened = (source = new EventSource("/api/v1/live"));
  for (const kind of ["hello", "tick", "decisions", "key", "changed"]) {
    opened.addEventListener(kind, (event) => {
      retryMs = 500;
      say("live");
      tell(kind, JSON.parse(event.data));
    });
  }
  opened.onerror = () => {
    if (source !== opened) return;
    opened.close();
    source = null;
    say("waiting");
    timer = setTimeout(update, retryMs);
    retryMs = Math.min(retryMs * 2, RETRY_MAX_MS);
  };
}

document.addEventListener("visibilitychange", update);
