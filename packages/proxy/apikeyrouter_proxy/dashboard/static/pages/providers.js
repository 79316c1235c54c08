// Providers: which answer, with how many usable keys and how fast; add one by name or address; one opened.

import { html, useMemo, useState } from "../lib/preact.js";
import { api } from "../lib/api.js";
import { useAction, useApi, useLive } from "../lib/hooks.js";
import { go, Link, pathOf } from "../lib/route.js";
import { Badge, Button, Card, Confirm, Dialog, Empty, ErrorNote, Field, Loaded, toast } from "../components/ui.js";
import { Table } from "../components/table.js";
import { ago, count, milliseconds, moment, percent, plural, seconds, usd } from "../lib/format.js";
import { Recent } from "./models_one.js";

const EVERY_MS = 5000;
const path = (id) => "/api/v1/providers/" + encodeURIComponent(id);

const columns = [
  { name: "id", title: "Provider", of: ({ one }) => html`<strong>${one.id}</strong>`, sort: ({ one }) => one.id },
  { name: "health", title: "Health", of: ({ health }) => html`<${Health} health=${health} />`, sort: ({ health }) => health?.status ?? "" },
  { name: "keys", title: "Keys usable", of: ({ one }) => (one.keys ? `${count(one.keys_usable)} of ${count(one.keys)}` : html`<span class="muted">none</span>`), sort: ({ one }) => one.keys_usable, kind: "number" },
  { name: "latency", title: "Last look", of: ({ health }) => (health?.last_look ? `${milliseconds(health.latency_ms)}, ${ago(health.last_look)}` : "–"), sort: ({ health }) => health?.latency_ms, kind: "number", hide: "tablet" },
  { name: "requests", title: "Requests, 24 h", of: ({ one }) => count(one.recent?.requests ?? 0), sort: ({ one }) => one.recent?.requests ?? 0, kind: "number", hide: "phone" },
  { name: "success", title: "Served", of: ({ one }) => percent(one.recent?.success), sort: ({ one }) => one.recent?.success, kind: "number" },
  { name: "ttft", title: "First byte", of: ({ one }) => (one.recent?.ttft_p50_s == null ? "–" : `${seconds(one.recent.ttft_p50_s)} · ${seconds(one.recent.ttft_p95_s)}`), sort: ({ one }) => one.recent?.ttft_p50_s, kind: "number", hide: "tablet" },
  { name: "cost", title: "Cost", of: ({ one }) => (one.recent ? usd(one.recent.cost) : "–"), sort: ({ one }) => (one.recent ? Number(one.recent.cost) : null), kind: "number", hide: "tablet" },
  { name: "source", title: "Source", of: ({ one }) => one.source, sort: ({ one }) => one.source, hide: "tablet" },
];

function Health({ health }) {
  if (!health) return "–";
  const tripped = health.breakers.filter((one) => one.phase !== "closed").length;
  return html`<${Badge}>${health.status}</${Badge}>${health.since && html` <span class="muted hide-phone">${ago(health.since)}</span>`}${tripped > 0 && html` <${Badge} tone="bad">${plural(tripped, "breaker")} open</${Badge}>`}`;
}

export function Providers() {
  const providers = useApi("/api/v1/providers", { every: EVERY_MS });
  const health = useApi("/api/v1/health/providers", { every: EVERY_MS });
  const [adding, setAdding] = useState(false);
  useLive("changed", ({ what }) => what.some((one) => one === "setting" || one === "provider" || one === "key") && providers.reload());
  const rows = useMemo(() => {
    const known = new Map((health.data?.data ?? []).map((one) => [one.id, one]));
    return (providers.data?.data ?? []).map((one) => ({ one, health: known.get(one.id) }));
  }, [providers.data, health.data]);
  return html`<${Card} title="Providers" actions=${html`<${Button} kind="primary" onClick=${() => setAdding(true)}>Add a provider</${Button}>`}>
    <${Loaded} of=${providers} what="Loading providers">${() => (rows.length
      ? html`<${Table} label="Providers" columns=${columns} rows=${rows} id=${({ one }) => one.id} onOpen=${({ one }) => go(pathOf("models", ["provider", one.id]))} />`
      : html`<${Empty} title="No provider yet"><p>Add one that is known by its name, or any server that speaks OpenAI's format.</p></${Empty}>`)}</${Loaded}>
    ${adding && html`<${AddProvider} onClose=${() => setAdding(false)} done=${(one) => go(pathOf("models", ["provider", one.id]))} />`}
  </${Card}>`;
}

const OWN = "";

function AddProvider({ onClose, done }) {
  const known = useApi("/api/v1/providers/known");
  const [form, setForm] = useState({ known: "", id: "", base_url: "", allow_private: false });
  const set = (name) => (value) => setForm((now) => ({ ...now, [name]: value }));
  const rows = known.data?.data ?? [];
  const row = rows.find((one) => one.id === form.known);
  const choose = (name) => setForm((now) => ({ ...now, known: name, id: name, base_url: "" }));
  const [submit, busy, error] = useAction(async () => {
    const body = { id: form.id.trim(), known: form.known, base_url: form.base_url.trim(), allow_private: form.allow_private };
    const added = await api.post("/api/v1/providers", body);
    toast(`${added.id} is registered. Add a key and it serves.`);
    onClose();
    done(added);
  });
  return html`<${Dialog} title="Add a provider" onClose=${onClose}>
    <form onSubmit=${(event) => (event.preventDefault(), submit())}>
      <div class="body">
        <${ErrorNote} error=${known.error} retry=${known.reload} />
        <${Field} label="Provider" value=${form.known} onInput=${choose}
          options=${[[OWN, "Another server that speaks OpenAI's format"], ...rows.map((one) => [one.id, one.name + (one.registered ? " (registered)" : "")])]} />
        ${row && html`<p class="muted">${row.docs && html`<a href=${row.docs} target="_blank" rel="noreferrer">Its documentation</a>. `}
          ${row.keyless ? "It needs no key." : row.env && html`Keys are also taken from <code>${row.env}</code> at the start.`}
          ${row.variables.length > 0 && html` Its address needs <code>${row.variables.join(", ")}</code> in the environment, or the whole base URL below.`}</p>`}
        <${Field} label="Id" value=${form.id} onInput=${set("id")} required pattern="[A-Za-z0-9][A-Za-z0-9._\\-]*" maxlength="64" hint="What keys and model prefixes name: id/model." />
        <${Field} label="Base URL" type="url" value=${form.base_url} onInput=${set("base_url")} required=${!row} placeholder=${row?.base_url || "https://host/v1"}
          hint=${row ? "Left empty: where the provider is." : "Ends before /chat/completions."} />
        <${Field} label="The address is in a private network, and that is meant" type="checkbox" value=${form.allow_private} onInput=${set("allow_private")} />
        <${ErrorNote} error=${error} />
      </div>
      <footer><${Button} onClick=${onClose}>Cancel</${Button}><button class="button primary" disabled=${busy || !form.id.trim()}>Add</button></footer>
    </form>
  </${Dialog}>`;
}

export function Provider({ id }) {
  const provider = useApi(path(id), { every: EVERY_MS });
  const health = useApi("/api/v1/health/providers", { every: EVERY_MS });
  const [removing, setRemoving] = useState(false);
  const [look, looking, fault] = useAction(async () => {
    const found = await api.post(path(id) + "/look");
    toast(found.answers ? `${id} answers, in ${milliseconds(found.latency_ms)}.` : `${id} does not answer.`);
    health.reload();
  });
  const known = health.data?.data.find((one) => one.id === id);
  return html`<p><${Link} to=${pathOf("models")}>All models and providers</${Link}></p>
    <${ErrorNote} error=${fault} />
    <${Loaded} of=${provider} what="Loading the provider">${(told) => html`
      <${Card} title=${told.id} actions=${html`
        <${Button} busy=${looking} onClick=${look}>Look now</${Button}>
        <${Link} class="button" to=${pathOf("keys", [], { provider: id })}>Its keys</${Link}>
        <${Link} class="button" to=${pathOf("models", [], { provider: id })}>Its models</${Link}>
        ${told.source === "added" && html`<${Button} kind="danger" onClick=${() => setRemoving(true)}>Remove</${Button}>`}`}>
        <${Facts} told=${told} known=${known} />
      </${Card}>
      ${told.recent && html`<${Recent} recent=${told.recent} />`}`}</${Loaded}>
    <${Card} title="Breakers"><${Breakers} rows=${known?.breakers ?? []} /></${Card}>
    ${removing && html`<${Confirm} title=${`Remove ${id}?`} verb="Remove" onClose=${() => setRemoving(false)}
      action=${async () => { await api.remove(path(id)); toast(`${id} was removed.`); go(pathOf("models")); }}>
      <p>Requests for it fail from now on. Its keys must be revoked before.</p></${Confirm}>`}`;
}

const Facts = ({ told, known }) => html`<dl class="facts">
  <dt>Health</dt><dd>${known ? html`<${Badge}>${known.status}</${Badge}> ${known.since && `since ${moment(known.since)}`} <span class="muted">${known.detail}</span>` : "–"}</dd>
  <dt>Last look</dt><dd>${known?.last_look ? `${milliseconds(known.latency_ms)}, ${ago(known.last_look)}` : html`<span class="muted">never; “Look now” lists its models, which costs nothing</span>`}</dd>
  <dt>Last reply</dt><dd>${known?.last_heard ? ago(known.last_heard) : html`<span class="muted">no request yet</span>`}</dd>
  <dt>Keys</dt><dd>${told.keys ? `${count(told.keys_usable)} of ${count(told.keys)} usable` : html`none; <${Link} to=${pathOf("keys")}>add one</${Link}> and it serves`}</dd>
  <dt>Address</dt><dd><code>${told.base_url}</code></dd>
  <dt>Reports like</dt><dd>${told.dialect}</dd>
  <dt>Source</dt><dd>${told.source}</dd>
</dl>`;

function Breakers({ rows }) {
  if (!rows.length) return html`<p class="muted">None yet: a breaker belongs to a model that was asked for here, and opens when the provider keeps failing for it.</p>`;
  const columns = [
    { name: "model", title: "Model", of: (row) => html`<${Link} to=${pathOf("models", ["model", row.model])}>${row.model}</${Link}>`, sort: (row) => row.model },
    { name: "phase", title: "Breaker", of: (row) => html`<${Badge} tone=${row.phase === "closed" ? "good" : row.phase === "open" ? "bad" : "warn"}>${row.phase.replace("_", " ")}</${Badge}>`, sort: (row) => row.phase },
    { name: "since", title: "Since", of: (row) => (row.since ? ago(row.since) : "–") },
    { name: "retry", title: "Tries again", of: (row) => (row.retry_at ? ago(row.retry_at) : "–") },
    { name: "kept", title: "Kept back", of: (row) => (row.throttled ? percent(row.throttled) : "–"), sort: (row) => row.throttled, kind: "number" },
  ];
  return html`<${Table} label="Breakers" columns=${columns} rows=${rows} id=${(row) => row.model} />`;
}
