// One model: what it can do and until when, who serves it at what price, and a price of one's own.

import { html, useState } from "../lib/preact.js";
import { api } from "../lib/api.js";
import { useAction, useApi } from "../lib/hooks.js";
import { Link, pathOf } from "../lib/route.js";
import { Badge, Button, Card, Confirm, Dialog, Empty, ErrorNote, Field, Loaded, Stat, toast } from "../components/ui.js";
import { Table } from "../components/table.js";
import { ago, count, percent, seconds, usd } from "../lib/format.js";
import { Ending } from "./models.js";

const encoded = (name) => name.split("/").map(encodeURIComponent).join("/");
const priceOf = (seller) => `/api/v1/prices/${encodeURIComponent(seller.provider_id)}/${encoded(seller.model)}`;

export function Model({ id }) {
  const model = useApi("/api/v1/models/" + encoded(id), { every: 5000 });
  return html`<p><${Link} to=${pathOf("models")}>All models and providers</${Link}></p>
    <${Loaded} of=${model} what="Loading the model">${(told) => html`<${Told} told=${told} reload=${model.reload} />`}</${Loaded}>`;
}

const able = (value) => (value === null ? html`<span class="muted">not known</span>` : value ? "yes" : "no");

function Told({ told, reload }) {
  const actions = html`
    <${Link} class="button" to=${pathOf("playground", [], { model: told.id })}>Try it</${Link}>
    <${Link} class="button" to=${pathOf("decisions", [], { model: told.id })}>Its requests</${Link}>`;
  return html`
    <${Card} title=${html`${told.id}<${Ending} row=${told} />`} label=${told.id} actions=${actions}>
      ${told.ends && html`<p class="lead">Its maker ${Date.parse(told.ends) < Date.now() ? "stopped" : "stops"} serving it on ${told.ends}.
        ${told.successor ? html` Ask for <${Link} to=${pathOf("models", ["model", told.successor])}>${told.successor}</${Link}> instead.` : " No successor is known."}</p>`}
      <dl class="facts">
        <dt>Maker</dt><dd>${told.maker === "open" ? "open weights" : told.maker ?? html`<span class="muted">not known</span>`}</dd>
        <dt>Context</dt><dd>${told.context_tokens ? `${told.context_tokens.toLocaleString("en")} tokens` : html`<span class="muted">not known</span>`}${told.output_tokens_max ? `, of them ${told.output_tokens_max.toLocaleString("en")} output at most` : ""}</dd>
        <dt>Tools</dt><dd>${able(told.tools)}</dd>
        <dt>Vision</dt><dd>${able(told.vision)}</dd>
        <dt>JSON schema</dt><dd>${able(told.json_schema)}</dd>
        <dt>Reasoning</dt><dd>${able(told.reasoning)}</dd>
        ${told.source && html`<dt>Known from</dt><dd>${told.source}</dd>`}
        ${!told.listed && html`<dt>Listed</dt><dd>by no provider; it is here since somebody asked for it, or has set a price</dd>`}
      </dl>
    </${Card}>
    ${told.recent && html`<${Recent} recent=${told.recent} />`}
    <${Card} title="Served by">${told.providers.length
      ? html`<${Sellers} rows=${told.providers} reload=${reload} />`
      : html`<${Empty} title="Nobody serves it"><p>Register a provider that does, with a key.</p></${Empty}>`}</${Card}>`;
}

export const Recent = ({ recent }) => html`<dl class="stats">
  <${Stat} label="Requests, 24 hours" value=${count(recent.requests)} note=${"last " + ago(recent.last_at)} />
  <${Stat} label="Served" value=${percent(recent.success)} note=${recent.failures ? `${count(recent.failures)} failed` : "none failed"} tone=${recent.success !== null && recent.success < 0.95 ? "bad" : undefined} />
  <${Stat} label="First byte" value=${seconds(recent.ttft_p50_s)} note=${`95 of 100 within ${seconds(recent.ttft_p95_s)}`} />
  <${Stat} label="Tokens" value=${count(recent.input_tokens + recent.output_tokens)} note=${`${count(recent.output_tokens)} of them output`} />
  <${Stat} label="Cost" value=${usd(recent.cost)} />
</dl>`;

function Sellers({ rows, reload }) {
  const [open, setOpen] = useState(null);
  const columns = [
    { name: "provider", title: "Provider", of: (row) => html`<${Link} to=${pathOf("models", ["provider", row.provider_id])}>${row.provider_id}</${Link}>`, sort: (row) => row.provider_id },
    { name: "model", title: "Its name there", of: (row) => row.model, hide: "tablet" },
    { name: "input", title: "In / 1M", of: (row) => usd(row.input), sort: (row) => row.input && Number(row.input), kind: "number" },
    { name: "output", title: "Out / 1M", of: (row) => usd(row.output), sort: (row) => row.output && Number(row.output), kind: "number" },
    { name: "source", title: "Price from", of: (row) => (row.own_price ? html`<${Badge}>own price</${Badge}>` : row.price_source || html`<span class="muted">not known</span>`), hide: "tablet" },
    { name: "breaker", title: "Breaker", of: (row) => html`<${Badge} tone=${row.breaker === "closed" ? "good" : "bad"}>${row.breaker.replace("_", " ")}</${Badge}>`, hide: "phone" },
    { name: "served", title: "Served", of: (row) => percent(row.recent?.success), sort: (row) => row.recent?.success, kind: "number" },
    { name: "ttft", title: "First byte", of: (row) => seconds(row.recent?.ttft_p50_s), sort: (row) => row.recent?.ttft_p50_s, kind: "number", hide: "phone" },
    { name: "act", title: "Actions", of: (row) => html`<div class="row nowrap">
      <${Button} kind="small" onClick=${() => setOpen(["set", row])} aria-label=${`Set price at ${row.provider_id}`}>Set price</${Button}>
      ${row.own_price && html`<${Button} kind="small" onClick=${() => setOpen(["remove", row])} aria-label=${`Remove price at ${row.provider_id}`}>Remove price</${Button}>`}</div>` },
  ];
  const [kind, seller] = open ?? [];
  return html`<${Table} label="Providers of the model" columns=${columns} rows=${rows} id=${(row) => row.provider_id} />
    ${kind === "set" && html`<${SetPrice} seller=${seller} onClose=${() => setOpen(null)} done=${reload} />`}
    ${kind === "remove" && html`<${Confirm} title="Remove your price?" verb="Remove" onClose=${() => setOpen(null)}
      action=${async () => { await api.remove(priceOf(seller)); toast("The list's price holds again."); reload(); }}>
      <p>${seller.model} at ${seller.provider_id} costs again what the list says. Past requests keep their price.</p></${Confirm}>`}`;
}

function SetPrice({ seller, onClose, done }) {
  const [form, setForm] = useState({ input: seller.input ?? "", output: seller.output ?? "", cached_input: "", note: "" });
  const set = (name) => (value) => setForm((now) => ({ ...now, [name]: value }));
  const [submit, busy, error] = useAction(async () => {
    const given = Object.fromEntries(Object.entries(form).map(([name, value]) => [name, value.trim()]).filter(([, value]) => value));
    await api.put(priceOf(seller), { unit: "per_1m", ...given });
    toast("The price holds for requests from now on.");
    onClose();
    done();
  });
  return html`<${Dialog} title=${`Price of ${seller.model} at ${seller.provider_id}`} onClose=${onClose}>
    <form onSubmit=${(event) => (event.preventDefault(), submit())}>
      <div class="body">
        <${Field} label="Input, US dollars per million tokens" inputmode="decimal" value=${form.input} onInput=${set("input")} required />
        <${Field} label="Output, US dollars per million tokens" inputmode="decimal" value=${form.output} onInput=${set("output")} required />
        <${Field} label="Cached input" inputmode="decimal" value=${form.cached_input} onInput=${set("cached_input")} hint="Left empty: as input." />
        <${Field} label="Note" value=${form.note} onInput=${set("note")} maxlength="256" hint="Why, for people: a contract, a discount." />
        <${ErrorNote} error=${error} />
      </div>
      <footer><${Button} onClick=${onClose}>Cancel</${Button}><button class="button primary" disabled=${busy}>Set price</button></footer>
    </form>
  </${Dialog}>`;
}
