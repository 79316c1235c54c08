// Policies and deployments: documents that are listed, tried and set as JSON; the API says what is wrong with one.
// Those of the configuration file are shown and are changed there.

import { html, useEffect, useState } from "../lib/preact.js";
import { api } from "../lib/api.js";
import { useAction, useApi, useLive } from "../lib/hooks.js";
import { Badge, Button, Card, Confirm, Dialog, Empty, ErrorNote, Field, Loaded, toast } from "../components/ui.js";
import { Table } from "../components/table.js";
import { count } from "../lib/format.js";

const WAIT_MS = 400;

const KINDS = {
  policies: {
    title: "Policies",
    one: "policy",
    id: "id",
    about: "Who may serve whom, and what requests are optimised for. Of every allowed kind a key needs one name, of the blocked ones none.",
    example: { scope: "global", blocked_models: ["gpt-4"], note: "dear" },
    columns: [
      { name: "id", title: "Policy", of: (row) => html`<strong>${row.id}</strong>`, sort: (row) => row.id },
      { name: "scope", title: "For", of: (row) => (row.scope_id ? `${row.scope.replace("per_", "")} ${row.scope_id}` : "everybody"), sort: (row) => row.scope },
      { name: "priority", title: "Priority", of: (row) => count(row.priority), sort: (row) => row.priority, kind: "number", hide: "tablet" },
      { name: "says", title: "Says", of: (row) => says(row.document), hide: "phone" },
      { name: "enabled", title: "State", of: (row) => html`<${Badge} tone=${row.enabled ? "good" : "plain"}>${row.enabled ? "in force" : "off"}</${Badge}>` },
    ],
  },
  deployments: {
    title: "Deployments",
    one: "deployment",
    id: "name",
    about: "Names that stand for several models at several providers, with fallbacks. Requests name them like a model.",
    example: { targets: ["openai/gpt-4o-mini"], fallbacks: [] },
    columns: [
      { name: "name", title: "Name", of: (row) => html`<strong>${row.name}</strong>`, sort: (row) => row.name },
      { name: "targets", title: "Stands for", of: (row) => targets(row.targets) },
      { name: "fallbacks", title: "Then", of: (row) => row.fallbacks.join(" → ") || "–", hide: "phone" },
    ],
  },
};

const ASIDE = new Set(["id", "name", "scope", "scope_id", "priority", "enabled", "note"]);
const says = (document) => {
  const text = Object.entries(document).filter(([name]) => !ASIDE.has(name)).map(([name, value]) => `${name.replaceAll("_", " ")}: ${[value].flat().map((one) => (typeof one === "object" ? JSON.stringify(one) : one)).join(", ")}`).join("; ");
  return html`<span title=${text}>${text || "–"}</span>`;
};
const targets = (rows) => {
  const text = rows.map((one) => `${one.provider}/${one.model}${one.keys ? "" : " (no key)"}`).join(", ");
  return rows.length ? html`<span title=${text}>${text}</span>` : html`<span class="muted">the model itself, with fallbacks</span>`;
};

export function Documents({ kind }) {
  const known = KINDS[kind];
  const list = useApi("/api/v1/" + kind);
  const [open, setOpen] = useState(null);
  useLive("changed", ({ what }) => what.some((one) => known.one.startsWith(one) || one === "setting") && list.reload());
  const columns = [
    ...known.columns,
    { name: "origin", title: "From", of: (row) => (row.origin === "configuration" ? html`<${Badge}>file</${Badge}>` : "here"), sort: (row) => row.origin, hide: "tablet" },
    { name: "notes", title: "Notes", of: (row) => (row.notes.length ? html`<${Badge} tone="warn">${row.notes.join("; ")}</${Badge}>` : ""), hide: "phone" },
  ];
  const add = html`<${Button} kind="primary" onClick=${() => setOpen({})}>${`Add a ${known.one}`}</${Button}>`;
  return html`<${Card} title=${known.title} actions=${add}>
    <p class="muted">${known.about}</p>
    <${Loaded} of=${list} what=${`Loading ${kind}`}>${({ data }) => (data.length
      ? html`<${Table} label=${known.title} columns=${columns} rows=${data} id=${(row) => row[known.id]} onOpen=${setOpen} />`
      : html`<${Empty} title=${`No ${known.one} yet`}><p>${kind === "policies" ? "Every key may serve every request." : "Requests name models as providers call them."}</p></${Empty}>`)}</${Loaded}>
    ${open && html`<${Edit} kind=${kind} known=${known} row=${open} onClose=${() => setOpen(null)} done=${list.reload} />`}
  </${Card}>`;
}

function parsed(text) {
  try {
    const value = JSON.parse(text);
    return value && typeof value === "object" && !Array.isArray(value) ? { value } : { fault: "Write an object: { … }." };
  } catch (fault) {
    return { fault: `This is no JSON: ${fault.message}` };
  }
}

function Edit({ kind, known, row, onClose, done }) {
  const before = row[known.id];
  const [id, setId] = useState(before ?? "");
  const { [known.id]: _, ...written } = row.document ?? known.example;
  const [text, setText] = useState(JSON.stringify(written, null, 2));
  const [removing, setRemoving] = useState(false);
  const { value, fault } = parsed(text);
  const checked = useChecked(kind, known, id.trim(), value, text);
  const fixed = row.origin === "configuration";
  const path = `/api/v1/${kind}/${id.trim().split("/").map(encodeURIComponent).join("/")}`;
  const [save, busy, error] = useAction(async () => {
    await api.put(path, value);
    toast(`${id.trim()} holds for requests from now on.`);
    onClose();
    done();
  });
  if (removing) {
    return html`<${Confirm} title=${`Remove ${before}?`} verb="Remove" onClose=${onClose} action=${async () => { await api.remove(path); toast(`${before} was removed.`); done(); }}>
      <p>${kind === "policies" ? "What it forbade is allowed again." : "The name means again what providers mean by it."}</p></${Confirm}>`;
  }
  return html`<${Dialog} title=${before ?? `Add a ${known.one}`} onClose=${onClose}>
    <form onSubmit=${(event) => (event.preventDefault(), save())}>
      <div class="body">
        ${fixed && html`<p class="muted">It stands in the configuration file, and is changed there.</p>`}
        ${!before && html`<${Field} label=${known.id === "id" ? "Id" : "Name"} value=${id} onInput=${setId} required maxlength="256" />`}
        <${Field} label="Document as JSON" rows="12" value=${text} onInput=${setText} error=${fault} spellcheck=${false} readonly=${fixed} />
        ${checked.notes.map((one) => html`<p key=${one} class="muted"><${Badge} tone="warn">note</${Badge}> ${one}</p>`)}
        ${checked.fault && !fixed && html`<p class="fault" role="status">${checked.fault}</p>`}
        ${checked.ok && !fixed && html`<p class="muted" role="status"><${Badge} tone="good">usable</${Badge}></p>`}
        <${ErrorNote} error=${error} />
      </div>
      <footer>
        ${before && !fixed && html`<${Button} kind="danger" onClick=${() => setRemoving(true)}>Remove</${Button}><span class="grow"></span>`}
        <${Button} onClick=${onClose}>${fixed ? "Close" : "Cancel"}</${Button}>
        ${!fixed && html`<button class="button primary" disabled=${busy || !value || !id.trim()}>Save</button>`}
      </footer>
    </form>
  </${Dialog}>`;
}

/** What the API says of a document, soon after it was typed. */
function useChecked(kind, known, id, value, text) {
  const [state, setState] = useState({ ok: false, notes: [], fault: null });
  useEffect(() => {
    if (!value) return setState({ ok: false, notes: [], fault: null });
    const control = new AbortController();
    const timer = setTimeout(() => {
      api.post(`/api/v1/${kind}/check`, { ...value, [known.id]: id || "new" }, { signal: control.signal }).then(
        ({ notes }) => setState({ ok: true, notes, fault: null }),
        (error) => control.signal.aborted || setState({ ok: false, notes: [], fault: error.message }));
    }, WAIT_MS);
    return () => (clearTimeout(timer), control.abort());
  }, [kind, id, text]);
  return state;
}
