// One client: what it may use, what it used, and its newest requests.

import { html, useMemo, useState } from "../lib/preact.js";
import { query } from "../lib/api.js";
import { useApi, useLive } from "../lib/hooks.js";
import { stacked, stepOf, ZONE } from "../lib/spend.js";
import { covers, limitText, modeOf, periodOf } from "../lib/budget.js";
import { go, Link, pathOf } from "../lib/route.js";
import { Badge, Button, Card, Empty, Field, Loaded, Stat } from "../components/ui.js";
import { Bars } from "../components/bars.js";
import { Table } from "../components/table.js";
import { ago, clock, count, moment, percent, plural, seconds, usd } from "../lib/format.js";
import { AddBudget } from "./budgets_actions.js";
import { EditClient, RevokeClient, Snippets } from "./clients_actions.js";
import { State } from "./clients.js";

const EVERY_MS = 10000;
const NEWEST = 10;
const RANGES = [["24h", "Last 24 hours"], ["7d", "Last 7 days"], ["30d", "Last 30 days"]];

export function Client({ id }) {
  const key = useApi("/api/v1/virtual-keys/" + encodeURIComponent(id));
  useLive("changed", ({ what }) => what.includes("virtual_key") && key.reload());
  return html`<p><${Link} to=${pathOf("clients")}>All clients</${Link}></p>
    <${Loaded} of=${key} what="Loading the client">${(told) => html`<${Told} told=${told} reload=${key.reload} />`}</${Loaded}>`;
}

function Told({ told, reload }) {
  const [open, setOpen] = useState(null);
  const View = { edit: EditClient, revoke: RevokeClient }[open];
  const tags = Object.entries(told.tags);
  const actions = !told.revoked_at && html`<${Button} onClick=${() => setOpen("edit")}>Change</${Button}><${Button} kind="danger" onClick=${() => setOpen("revoke")}>Revoke</${Button}>`;
  return html`
    <${Card} title=${told.name} actions=${actions}>
      <dl class="facts">
        <dt>State</dt><dd><${State} of=${told} />${told.revoked_at && html` <span class="muted">${moment(told.revoked_at)}</span>`}</dd>
        <dt>Role</dt><dd>${told.role === "admin" ? "admin: the management API and this dashboard too" : "client: requests only"}</dd>
        <dt>Team</dt><dd>${told.team ? html`<${Link} to=${pathOf("clients", [], { team: told.team })}>${told.team}</${Link}>` : "–"}</dd>
        <dt>Models</dt><dd>${told.models?.join(", ") ?? "all"}</dd>
        <dt>Providers</dt><dd>${told.providers?.join(", ") ?? "all"}</dd>
        ${tags.length > 0 && html`<dt>Tags</dt><dd>${tags.map(([name, value]) => html`<${Badge} key=${name}>${name}=${value}</${Badge}> `)}</dd>`}
        <dt>Issued</dt><dd>${moment(told.created_at)}${told.expires_at ? `, expires ${moment(told.expires_at)}` : ", never expires"}</dd>
        <dt>Id</dt><dd><code>${told.id}</code></dd>
      </dl>
    </${Card}>
    <dl class="stats">
      <${Stat} label="Requests a minute" value=${told.rpm ? count(told.rpm) : "no limit"} />
      <${Stat} label="Tokens a minute" value=${told.tpm ? count(told.tpm) : "no limit"} />
      <${Stat} label="At once" value=${told.parallel ? count(told.parallel) : "no limit"} />
      <${Stat} label="Weight" value=${told.weight} note="its share while requests wait" />
    </dl>
    <${Usage} id=${told.id} />
    <${Budgets} of=${told} />
    <${Newest} id=${told.id} />
    <${Card} title="How to use it"><p class="muted">Its key was shown once, when it was made. Put it where <code>akr_…</code> stands.</p><${Snippets} value="akr_…" model=${told.models?.[0]} /></${Card}>
    ${View && html`<${View} subject=${told} onClose=${() => setOpen(null)} done=${reload} />`}`;
}

function Usage({ id }) {
  const [range, setRange] = useState("7d");
  const asked = { virtual_key: id, since: range, time_zone: ZONE };
  const totals = useApi("/api/v1/spend" + query({ ...asked, by: "model" }), { every: EVERY_MS });
  const step = totals.data && stepOf(totals.data.since, totals.data.until);
  const series = useApi(step && "/api/v1/spend" + query({ ...asked, by: `${step},model`, limit: 10000 }), { every: EVERY_MS });
  const shown = useMemo(() => series.data && step && stacked(series.data, step, "model", "cost"), [series.data, step]);
  const sum = totals.data?.sum;
  return html`<${Card} title="Use" actions=${html`<${Field} label="When" value=${range} onInput=${setRange} options=${RANGES} />`}>
    <${Loaded} of=${totals} what="Adding up">${() => (sum.requests
      ? html`<p><strong>${usd(sum.cost)}</strong> for ${plural(sum.requests, "request")}, ${count(sum.input_tokens)} tokens in, ${count(sum.output_tokens)} out${sum.failures ? `; ${plural(sum.failures, "send")} failed (${percent(sum.failures / sum.requests)})` : ""}.</p>
        ${shown && html`<${Bars} ...${shown} format=${usd} summary=${`${usd(sum.cost)} in ${plural(sum.requests, "request")}, by ${step} and model.`} />`}`
      : html`<${Empty} title="Not used then"><p>What it is used for is here a second later.</p></${Empty}>`)}</${Loaded}>
  </${Card}>`;
}

/** The budgets that are on this client, its team or one of its tags. */
function Budgets({ of }) {
  const found = useApi("/api/v1/budgets", { every: EVERY_MS });
  const mine = (found.data?.data ?? []).filter(({ scope, scope_id: id }) =>
    (scope === "per_virtual_key" && id === of.id) || (scope === "per_team" && id === of.team) ||
    (scope === "per_tag" && Object.entries(of.tags).some(([name, value]) => `${name}=${value}` === id)));
  const [adding, setAdding] = useState(false);
  const add = !of.revoked_at && html`<${Button} onClick=${() => setAdding(true)}>Cap its spend</${Button}>`;
  return html`<${Card} title="Its budgets" actions=${add}>
    ${adding && html`<${AddBudget} start=${{ scope: "per_virtual_key", scope_id: of.id, period: "monthly" }} onClose=${() => setAdding(false)} done=${found.reload} />`}
    ${mine.length
      ? html`<ul class="plain">${mine.map((one) => html`<li key=${one.id}><${Link} to=${pathOf("budgets", [one.id])}>${one.name || covers(one)}</${Link}>: ${usd(one.current_spend)} of ${limitText(one)} ${periodOf(one)}, ${modeOf(one)}</li>`)}</ul>`
      : html`<p class="muted">None is on this client, its team or its tags; budgets on everything count it, too. <${Link} to=${pathOf("budgets")}>Budgets</${Link}></p>`}
  </${Card}>`;
}

const columns = [
  { name: "at", title: "Time", of: (row) => html`<span class="mono" title=${moment(row.at)}>${Date.now() - Date.parse(row.at) < 12 * 3600e3 ? clock(row.at) : ago(row.at)}</span>` },
  { name: "outcome", title: "Outcome", of: (row) => html`<${Badge} tone=${row.outcome === "ok" ? "good" : "bad"}>${row.outcome}</${Badge}>` },
  { name: "model", title: "Model", of: (row) => row.model },
  { name: "key", title: "Key", of: (row) => row.key_label || "nobody", hide: "tablet" },
  { name: "took", title: "Took", of: (row) => seconds(row.duration_s), kind: "number", sort: (row) => row.duration_s, hide: "phone" },
  { name: "cost", title: "Cost", of: (row) => usd(row.cost_usd), kind: "number", sort: (row) => Number(row.cost_usd) },
];

function Newest({ id }) {
  const found = useApi("/api/v1/requests" + query({ caller: id, limit: NEWEST }));
  useLive("decisions", ({ items }) => items.some((row) => row.caller === id) && found.reload());
  const all = html`<${Link} to=${pathOf("decisions", [], { caller: id })} class="button">All its requests</${Link}>`;
  return html`<${Card} title="Newest requests" actions=${all}>
    <${Loaded} of=${found}>${({ data }) => (data.length
      ? html`<${Table} label="Newest requests" columns=${columns} rows=${data} id=${(row) => row.id} onOpen=${(row) => go(pathOf("decisions", [row.id]))} />`
      : html`<${Empty} title="No request yet"><p>Use the key in one of the ways below.</p></${Empty}>`)}</${Loaded}>
  </${Card}>`;
}
