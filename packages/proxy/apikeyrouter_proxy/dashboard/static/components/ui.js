// Small parts that every page is made of. Each is usable by keyboard and says to screen readers what it is.

import { html, useEffect, useRef, useState } from "../lib/preact.js";

export const Card = ({ title, actions, children, wide = false, label }) => html`
  <section class=${"card" + (wide ? " wide" : "")} aria-label=${label ?? title}>
    ${(title || actions) && html`<header><h2>${title}</h2><div class="actions">${actions}</div></header>`}
    ${children}
  </section>`;

export const Stat = ({ label, value, note, tone }) => html`
  <div class=${"stat" + (tone ? " " + tone : "")}>
    <dt>${label}</dt><dd>${value}</dd>${note && html`<dd class="note">${note}</dd>`}
  </div>`;

const TONES = {
  available: "good", ok: "good", healthy: "good", active: "good", abundant: "good",
  throttled: "warn", recovering: "warn", degraded: "warn", constrained: "warn", critical: "warn",
  exhausted: "bad", invalid: "bad", down: "bad", revoked: "bad", failed: "bad",
};

/** A word with a colour; the word alone says it too. */
export const Badge = ({ children, tone }) => html`
  <span class=${"badge " + (tone ?? TONES[String(children).toLowerCase()] ?? "plain")}>${children}</span>`;

export const Button = ({ kind = "plain", busy = false, disabled = false, children, ...rest }) => html`
  <button type="button" class=${"button " + kind} disabled=${busy || disabled} aria-busy=${busy} ...${rest}>${children}</button>`;

export const ErrorNote = ({ error, retry }) => error && html`
  <div class="error" role="alert">
    <p>${error.message}</p>
    ${retry && html`<${Button} onClick=${retry}>Try again</${Button}>`}
  </div>`;

export const Loading = ({ what = "Loading" }) => html`<p class="loading" role="status">${what}</p>`;

/** What a page shows where there is nothing yet: what it would be, and how to get it. */
export const Empty = ({ title, children }) => html`<div class="empty"><h3>${title}</h3>${children}</div>`;

/** Data, or why there is none: pages hand over what `useApi` gave them. */
export function Loaded({ of, children, what }) {
  if (of.data) return html`${of.error && html`<${ErrorNote} error=${of.error} retry=${of.reload} />`}${children(of.data)}`;
  if (of.error) return html`<${ErrorNote} error=${of.error} retry=${of.reload} />`;
  return html`<${Loading} what=${what} />`;
}

let ids = 0;
export function useId() {
  const id = useRef(null);
  id.current ??= "f" + ++ids;
  return id.current;
}

/** A labelled input, select (`options`: values or [value, label] pairs) or textarea (`rows`). */
export function Field({ label, hint, error, value, onInput, options, rows, type = "text", ...rest }) {
  const id = useId();
  const described = [hint && id + "h", error && id + "e"].filter(Boolean).join(" ") || undefined;
  const shared = { id, "aria-describedby": described, "aria-invalid": error ? "true" : undefined, ...rest };
  const told = (event) => onInput(type === "checkbox" ? event.target.checked : event.target.value);
  let input;
  if (options) {
    input = html`<select ...${shared} value=${value} onChange=${told}>
      ${options.map((option) => (Array.isArray(option) ? option : [option, option])).map(
        ([key, text]) => html`<option key=${key} value=${key} selected=${key === value}>${text}</option>`)}
    </select>`;
  } else if (rows) {
    input = html`<textarea ...${shared} rows=${rows} value=${value} onInput=${told}></textarea>`;
  } else if (type === "checkbox") {
    input = html`<input ...${shared} type="checkbox" checked=${value} onChange=${told} />`;
  } else {
    input = html`<input ...${shared} type=${type} value=${value} onInput=${told} />`;
  }
  return html`<div class=${"field" + (type === "checkbox" ? " check" : "")}>
    <label for=${id}>${label}</label>${input}
    ${hint && html`<p class="hint" id=${id + "h"}>${hint}</p>`}
    ${error && html`<p class="fault" id=${id + "e"}>${error}</p>`}
  </div>`;
}

/** A modal dialog: Escape closes it, focus stays inside (the browser's own <dialog>) and returns to where it was. */
export function Dialog({ title, onClose, children }) {
  const element = useRef(null);
  const id = useId();
  const gone = useRef(false);
  useEffect(() => {
    const [before, shown] = [document.activeElement, element.current];
    shown.showModal();
    return () => {
      gone.current = true;
      shown.close(); // while it is open, nothing behind it can be focused
      before?.focus?.();
    };
  }, []);
  const closed = () => gone.current || onClose();
  return html`<dialog ref=${element} aria-labelledby=${id} onCancel=${closed} onClose=${closed}>
    <header><h2 id=${id}>${title}</h2><button type="button" class="icon" aria-label="Close" onClick=${onClose}>×</button></header>
    ${children}
  </dialog>`;
}

/** Asks before something that cannot be undone. `action`: awaited; its error is shown and the dialog stays. */
export function Confirm({ title, children, verb, kind = "danger", action, onClose }) {
  const [state, setState] = useState({ busy: false, error: null });
  const run = async () => {
    setState({ busy: true, error: null });
    try {
      await action();
      onClose();
    } catch (error) {
      setState({ busy: false, error });
    }
  };
  return html`<${Dialog} title=${title} onClose=${onClose}>
    <div class="body">${children}<${ErrorNote} error=${state.error} /></div>
    <footer><${Button} onClick=${onClose}>Cancel</${Button}><${Button} kind=${kind} busy=${state.busy} onClick=${run}>${verb}</${Button}></footer>
  </${Dialog}>`;
}

/** A button that copies; it works on plain HTTP too, where browsers hide the clipboard. */
export function Copy({ text, label = "Copy" }) {
  const [done, setDone] = useState(false);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const area = document.createElement("textarea");
      area.value = text;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    setDone(true);
    setTimeout(() => setDone(false), 1500);
  };
  return html`<${Button} kind="small" onClick=${copy} aria-live="polite">${done ? "Copied" : label}</${Button}>`;
}

/** A bar of how much of something is gone. `share`: 0..1; `held`: what is set aside beyond it. */
export function Meter({ share, held = 0, label, tone }) {
  const used = Math.max(0, Math.min(1, share ?? 0));
  const kind = tone ?? (used + held >= 0.95 ? "bad" : used + held >= 0.75 ? "warn" : "good");
  return html`<div class=${"meter " + kind} role="img" aria-label=${label}>
    <i style=${{ width: used * 100 + "%" }}></i><b style=${{ width: Math.min(1 - used, held) * 100 + "%" }}></b>
  </div>`;
}

const toasts = new EventTarget();
/** Says for a few seconds that something was done. */
export const toast = (text) => toasts.dispatchEvent(new CustomEvent("say", { detail: text }));

export function Toasts() {
  const [said, setSaid] = useState([]);
  useEffect(() => {
    const add = (event) => {
      const one = { text: event.detail, id: ++ids };
      setSaid((those) => [...those.slice(-3), one]);
      setTimeout(() => setSaid((those) => those.filter((other) => other !== one)), 5000);
    };
    toasts.addEventListener("say", add);
    return () => toasts.removeEventListener("say", add);
  }, []);
  return html`<div class="toasts" role="status" aria-live="polite">${said.map((one) => html`<p key=${one.id}>${one.text}</p>`)}</div>`;
}
