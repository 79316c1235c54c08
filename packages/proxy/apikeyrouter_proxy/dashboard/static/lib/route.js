// Which page the URL names. Links are ordinary links; `Link` and `go` only spare the reload.

import { html, useEffect, useState } from "./preact.js";

const ROOT = "/dashboard";
const changed = new EventTarget();

function read() {
  const [page = "", ...rest] = location.pathname.slice(ROOT.length + 1).split("/").map(decodeURIComponent);
  return { page, rest, query: Object.fromEntries(new URLSearchParams(location.search)) };
}

/** `/dashboard/PAGE/REST?QUERY` as a path. */
export function pathOf(page, rest = [], query = {}) {
  const parts = [page, ...rest].filter((part) => part !== "").map(encodeURIComponent);
  const kept = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const search = kept.length ? "?" + new URLSearchParams(kept) : "";
  return [ROOT, ...parts].join("/") + search;
}

export function go(path, { replace = false } = {}) {
  if (path !== location.pathname + location.search) history[replace ? "replaceState" : "pushState"](null, "", path);
  changed.dispatchEvent(new Event("change"));
}

export function useRoute() {
  const [route, setRoute] = useState(read);
  useEffect(() => {
    const update = () => setRoute(read());
    changed.addEventListener("change", update);
    addEventListener("popstate", update);
    return () => {
      changed.removeEventListener("change", update);
      removeEventListener("popstate", update);
    };
  }, []);
  return route;
}

export function Link({ to, children, ...rest }) {
  const follow = (event) => {
    if (event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    go(to);
  };
  return html`<a href=${to} onClick=${follow} ...${rest}>${children}</a>`;
}
