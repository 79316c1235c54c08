// Keys: which may serve, how much of their quota is left and when it runs dry; add, rotate, try, disable, revoke.

import { html, useMemo, useState } from "../lib/preact.js";
import { useApi, useLive } from "../lib/hooks.js";
import { brief, nameOf, short, tightest, usePools, usedShare } from "../lib/quota.js";
import { go, pathOf } from "../lib/route.js";
import { Badge, Button, Card, Empty, Field, Loaded, Meter, Stat } from "../components/ui.js";
import { Table } from "../components/table.js";
import { ago, count, percent } from "../lib/format.js";
import { AddKey } from "./key_actions.js";
import { Key } from "./key.js";

const POOLS_EVERY_MS = 5000;
const KEYS_EVERY_MS = 10000;

export default function Keys({ route }) {
  return route.rest[0] ? html`<${Key} key=${route.rest[0]} id=${route.rest[0]} />` : html`<${List} wanted=${route.query} />`;
}

function List({ wanted }) {
  const keys = useApi("/api/v1/keys", { every: KEYS_EVERY_MS });
  const pools = usePools(POOLS_EVERY_MS);
  const [adding, setAdding] = useState(false);
  useLive("key", keys.reload);
  useLive("changed", ({ what }) => what.includes("key") && keys.reload());
  const add = html`<${Button} kind="primary" onClick=${() => setAdding(true)}>Add a key</${Button}>`;
  return html`
    <${Loaded} of=${keys} what="Loading keys">${({ data }) => (data.length
      ? html`<${Shown} keys=${data} pools=${pools} wanted=${wanted} add=${add} />`
      : html`<${Card}><${Empty} title="No key yet"><p>A key of a provider lets requests through. Its material is stored encrypted and never shown again.</p>${add}</${Empty}></${Card}>`)}</${Loaded}>
    ${adding && html`<${AddKey} onClose=${() => setAdding(false)} done=${(key) => go(pathOf("keys", [key.id]))} />`}`;
}

function Shown({ keys, pools, wanted, add }) {
  const choose = (name) => (value) => go(pathOf("keys", [], { ...wanted, [name]: value }), { replace: true });
  const states = [...new Set(keys.map((key) => key.state))].sort();
  const providers = [...new Set(keys.map((key) => key.provider_id))].sort();
  const text = (wanted.find ?? "").toLowerCase();
  const rows = useMemo(() => {
    const taken = keys.filter((key) =>
      (!wanted.state || key.state === wanted.state) && (!wanted.provider || key.provider_id === wanted.provider) &&
      (!text || key.label.toLowerCase().includes(text) || key.id.includes(text)));
    return taken.map((key) => ({ key, pool: pools?.get(key.id), limit: tightest(pools?.get(key.id)) }));
  }, [keys, pools, wanted.state, wanted.provider, text]);
  const usable = keys.filter((key) => key.state === "available" || key.state === "recovering").length;
  const short = rows.filter((row) => ["critical", "exhausted"].includes(row.pool?.capacity_state)).length;
  return html`
    <dl class="stats">
      <${Stat} label="Keys usable" value=${`${count(usable)} of ${count(keys.length)}`} tone=${usable ? undefined : "bad"} />
      <${Stat} label="Short of quota" value=${count(short)} tone=${short ? "warn" : undefined} />
      <${Stat} label="Under way" value=${count(keys.reduce((sum, key) => sum + key.in_flight, 0))} note="requests" />
      <${Stat} label="Providers" value=${count(providers.length)} />
    </dl>
    <${Card} label="Keys">
      <div class="filters" role="search">
        <${Field} label="Find" value=${wanted.find ?? ""} onInput=${choose("find")} placeholder="label or id" />
        <${Field} label="State" value=${wanted.state ?? ""} onInput=${choose("state")} options=${[["", "All"], ...states]} />
        <${Field} label="Provider" value=${wanted.provider ?? ""} onInput=${choose("provider")} options=${[["", "All"], ...providers]} />
        <span class="grow"></span>${add}
      </div>
      ${rows.length
        ? html`<${Table} label="Keys" columns=${columns} rows=${rows} id=${(row) => row.key.id} onOpen=${(row) => go(pathOf("keys", [row.key.id]))} />`
        : html`<${Empty} title="No key matches"><p>Change the filters.</p></${Empty}>`}
    </${Card}>`;
}

const columns = [
  { name: "label", title: "Key", of: ({ key }) => html`<strong>${key.label}</strong>`, sort: ({ key }) => key.label },
  { name: "provider", title: "Provider", of: ({ key }) => key.provider_id, sort: ({ key }) => key.provider_id, hide: "tablet" },
  { name: "state", title: "State", of: ({ key }) => html`<${Badge}>${key.state}</${Badge}>${key.cooldown_until && html` <span class="muted">${ago(key.cooldown_until)}</span>`}`, sort: ({ key }) => key.state },
  { name: "used", title: "Tightest limit", of: ({ limit }) => html`<${Fuel} limit=${limit} />`, sort: ({ limit }) => limit && usedShare(limit), kind: "text", hide: "phone" },
  { name: "outlook", title: "Outlook", of: ({ pool }) => html`<span title=${pool?.outlook}>${pool ? brief(pool.outlook) : "–"}</span>`, sort: ({ pool }) => -(pool?.pressure ?? -1) },
  { name: "in_flight", title: "Under way", of: ({ key }) => key.in_flight, sort: ({ key }) => key.in_flight, kind: "number", hide: "narrow" },
  { name: "served", title: "Used", of: ({ key }) => count(key.usage_count), sort: ({ key }) => key.usage_count, kind: "number", hide: "phone" },
  { name: "failed", title: "Failed", of: ({ key }) => (key.usage_count + key.failure_count ? percent(key.failure_count / Math.max(1, key.usage_count + key.failure_count)) : "–"), sort: ({ key }) => key.failure_count, kind: "number", hide: "tablet" },
  { name: "last", title: "Last used", of: ({ key }) => ago(key.last_used_at), sort: ({ key }) => key.last_used_at ?? "", hide: "tablet" },
];

function Fuel({ limit }) {
  if (!limit) return html`<span class="muted">not told yet</span>`;
  const share = usedShare(limit);
  return html`<div class="fuel" title=${nameOf(limit)}><${Meter} share=${share} label=${`${percent(share, 0)} of ${nameOf(limit)} used`} /><span class="muted hide-phone">${count(limit.remaining)} of ${count(limit.limit)} ${short(limit.name)} left</span></div>`;
}
