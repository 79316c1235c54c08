// Clients: the virtual keys that this proxy issues, and their teams: what each may use, and what it used.

import { html, useMemo, useState } from "../lib/preact.js";
import { useApi, useLive } from "../lib/hooks.js";
import { go, Link, pathOf } from "../lib/route.js";
import { Badge, Button, Card, Empty, Field, Loaded, Stat } from "../components/ui.js";
import { Table } from "../components/table.js";
import { ago, clock, count, plural, usd } from "../lib/format.js";
import { AddClient } from "./clients_actions.js";
import { Client } from "./clients_one.js";
import { Teams } from "./clients_teams.js";

const USE_EVERY_MS = 10000;
const SOON_MS = 7 * 24 * 3600e3;

export default function Clients({ route, session }) {
  if (route.rest[0] === "teams") return html`<${Tabs} current="teams" /><${Teams} />`;
  if (route.rest[0]) return html`<${Client} key=${route.rest[0]} id=${route.rest[0]} />`;
  return html`<${Tabs} current="" /><${List} wanted=${route.query} session=${session} />`;
}

const Tabs = ({ current }) => html`<div class="tabs" role="navigation" aria-label="Clients">
  ${[["", "Virtual keys"], ["teams", "Teams"]].map(([part, text]) =>
    html`<${Link} key=${part} to=${pathOf("clients", [part])} aria-current=${part === current ? "page" : undefined}>${text}</${Link}>`)}
</div>`;

function List({ wanted }) {
  const keys = useApi("/api/v1/virtual-keys");
  const used = useApi("/api/v1/virtual-keys/use?since=30d", { every: USE_EVERY_MS });
  const [adding, setAdding] = useState(false);
  useLive("changed", ({ what }) => what.includes("virtual_key") && keys.reload());
  const add = html`<${Button} kind="primary" id="add-client" onClick=${() => setAdding(true)}>Add a client</${Button}>`;
  return html`
    <${Loaded} of=${keys} what="Loading clients">${({ data }) => (data.length
      ? html`<${Shown} keys=${data} used=${used.data?.data} wanted=${wanted} add=${add} />`
      : html`<${Card} label="Clients"><${Empty} title="No client yet">
          <p>Give each application or person a virtual key of its own: it can be limited, watched and revoked without touching<br />
          the keys of providers. The first one ends open mode: from then on <code>/v1</code> needs a key.</p>${add}</${Empty}></${Card}>`)}</${Loaded}>
    ${adding && html`<${AddClient} onClose=${() => setAdding(false)} done=${keys.reload} />`}`;
}

/** Whether a key may be used, and until when, in a word or two. */
export function stateOf(key) {
  if (key.revoked_at) return ["bad", "revoked"];
  if (!key.active) return ["bad", "expired"];
  if (key.expires_at && Date.parse(key.expires_at) - Date.now() < SOON_MS) return ["warn", "expires " + ago(key.expires_at)];
  return ["good", "active"];
}

function Shown({ keys, used, wanted, add }) {
  const choose = (name) => (value) => go(pathOf("clients", [], { ...wanted, [name]: value }), { replace: true });
  const show = wanted.show ?? "active";
  const text = (wanted.find ?? "").toLowerCase();
  const teams = [...new Set(keys.map((key) => key.team).filter(Boolean))].sort();
  const use = useMemo(() => new Map((used ?? []).map((one) => [one.id, one])), [used]);
  const rows = useMemo(() => keys.filter((key) =>
    (show === "all" || (show === "active") === key.active) && (!wanted.team || key.team === wanted.team) &&
    (!text || `${key.name} ${key.id} ${key.team ?? ""}`.toLowerCase().includes(text))).map((key) => ({ key, used: use.get(key.id) })), [keys, use, show, wanted.team, text]);
  const active = keys.filter((key) => key.active);
  const soon = active.filter((key) => stateOf(key)[0] === "warn").length;
  return html`
    <dl class="stats">
      <${Stat} label="Active clients" value=${`${count(active.length)} of ${count(keys.length)}`} note=${plural(active.filter((key) => key.role === "admin").length, "administrator")} />
      <${Stat} label="Used in 30 days" value=${used ? count(used.length) : "–"} note=${used ? plural(used.reduce((sum, one) => sum + one.requests, 0), "request") : undefined} />
      <${Stat} label="Without any limit" value=${count(active.filter((key) => !key.rpm && !key.tpm && !key.parallel).length)} note="of requests, tokens or at once" />
      <${Stat} label="Expire within a week" value=${count(soon)} tone=${soon ? "warn" : undefined} />
    </dl>
    <${Card} label="Virtual keys">
      <div class="filters" role="search">
        <${Field} label="Find" value=${wanted.find ?? ""} onInput=${choose("find")} placeholder="name or id" />
        <${Field} label="Show" value=${show} onInput=${choose("show")} options=${[["active", "Active"], ["ended", "Revoked, expired"], ["all", "All"]]} />
        <${Field} label="Team" value=${wanted.team ?? ""} onInput=${choose("team")} options=${[["", "All"], ...teams]} />
        <span class="grow"></span>${add}
      </div>
      ${rows.length
        ? html`<${Table} label="Virtual keys" columns=${columns} rows=${rows} id=${(row) => row.key.id} onOpen=${(row) => go(pathOf("clients", [row.key.id]))} />
          <p class="muted after">Requests and spend of the last 30 days. rpm, tpm: requests and tokens a minute.</p>`
        : html`<${Empty} title="No client matches"><p>Change the filters.</p></${Empty}>`}
    </${Card}>`;
}

/** "600 rpm, 200K tpm, 20 at once". */
export const limitsOf = ({ rpm, tpm, parallel }) =>
  [rpm && `${count(rpm)} rpm`, tpm && `${count(tpm)} tpm`, parallel && `${count(parallel)} at once`].filter(Boolean).join(", ") || "none";

/** How long ago; what is older than the memory of this process is known by the hour. */
function lastUsed(iso) {
  const at = new Date(iso);
  if (at % 3600e3) return ago(iso);
  return at.toDateString() === new Date().toDateString() ? "after " + clock(iso).slice(0, 5) : at.toLocaleDateString([], { day: "numeric", month: "short" });
}

const columns = [
  { name: "name", title: "Client", of: ({ key }) => html`<${Link} to=${pathOf("clients", [key.id])}><strong>${key.name}</strong></${Link}>${key.role === "admin" && html` <${Badge}>admin</${Badge}>`}`, sort: ({ key }) => key.name.toLowerCase() },
  { name: "team", title: "Team", of: ({ key }) => key.team ?? "–", sort: ({ key }) => key.team, hide: "tablet" },
  { name: "state", title: "State", of: ({ key }) => html`<${State} of=${key} />`, sort: ({ key }) => stateOf(key)[1] },
  { name: "models", title: "Models", of: ({ key }) => html`<span class="clip" title=${key.models?.join(", ")}>${key.models?.join(", ") ?? "all"}</span>`, sort: ({ key }) => key.models?.join(), hide: "tablet" },
  { name: "limits", title: "Limits", of: ({ key }) => html`<span class="clip" title=${limitsOf(key)}>${limitsOf(key)}</span>`, hide: "tablet" },
  { name: "requests", title: "Requests", of: ({ used }) => count(used?.requests ?? 0), sort: ({ used }) => used?.requests ?? 0, kind: "number", hide: "tablet" },
  { name: "cost", title: "Spent", of: ({ used }) => usd(used?.cost ?? 0), sort: ({ used }) => Number(used?.cost ?? 0), kind: "number" },
  { name: "last", title: "Last used", of: ({ used }) => (used ? lastUsed(used.last_used_at) : "–"), sort: ({ used }) => used?.last_used_at ?? "" },
];

export const State = ({ of }) => {
  const [tone, word] = stateOf(of);
  return html`<${Badge} tone=${tone}>${word}</${Badge}>`;
};
