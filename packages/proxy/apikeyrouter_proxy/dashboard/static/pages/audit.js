// Audit log: who changed what, and what happened to keys and budgets; newest first, as far back as the store remembers.

import { html, useCallback, useEffect, useRef, useState } from "../lib/preact.js";
import { api, query } from "../lib/api.js";
import { useApi, useLive } from "../lib/hooks.js";
import { go, Link, pathOf } from "../lib/route.js";
import { Badge, Button, Card, Dialog, Empty, ErrorNote, Field, Loading } from "../components/ui.js";
import { Table } from "../components/table.js";
import { ago, clock, moment, plural, usd } from "../lib/format.js";

const PAGE_ROWS = 100;
const NEWER_MAX = 500;
const NEWER_EVERY_MS = 5000;

export default function Audit({ route }) {
  const filters = { kind: route.query.kind ?? "", entity_id: route.query.entity_id ?? "" };
  const kinds = useApi("/api/v1/events/kinds");
  const { rows, next, busy, error, load, newer } = useEvents(filters);
  const choose = (name) => (value) => go(pathOf("audit", [], { ...filters, [name]: value.trim() }), { replace: true });
  const [opened, setOpened] = useState(null);
  const filtered = filters.kind || filters.entity_id;
  const label = newer ? `Show ${newer >= NEWER_MAX ? NEWER_MAX + "+ new events" : plural(newer, "new event")}` : "Refresh";
  return html`<${Card} label="Events">
    <div class="filters" role="search">
      <${Field} label="What happened" value=${filters.kind} onInput=${choose("kind")} options=${[["", "Everything"], ...groups(kinds.data?.data ?? [], filters.kind)]} />
      <${Field} label="To what" value=${filters.entity_id} onInput=${choose("entity_id")} placeholder="key_…, budget_…" />
      ${filtered && html`<${Button} onClick=${() => go(pathOf("audit"), { replace: true })}>Clear</${Button}>`}
      <span class="grow"></span>
      <${Button} id="audit-newer" kind=${newer ? "primary" : "plain"} onClick=${() => load(null)} aria-live="polite">${label}</${Button}>
    </div>
    <${ErrorNote} error=${error} retry=${() => load(null)} />
    ${rows === null && !error && html`<${Loading} what="Loading events" />`}
    ${rows?.length === 0 && html`<${Empty} title=${filtered ? "No event matches" : "Nothing has happened yet"}><p>${filtered ? "Clear the filters." : "Each change through the API, the command line or this dashboard leaves a line here."}</p></${Empty}>`}
    ${rows?.length > 0 && html`<${Table} label="Events" columns=${columns} rows=${rows} id=${keyOf} onOpen=${setOpened} />`}
    ${next !== null && html`<p class="row more"><${Button} busy=${busy} onClick=${() => load(next)}>Show older</${Button}></p>`}
    ${opened && html`<${One} row=${opened} onClose=${() => setOpened(null)} />`}
  </${Card}>`;
}

const keyOf = (row) => [row.at, row.kind, row.entity_id, JSON.stringify(row.document)].join(" ");
const worded = (text) => text.replaceAll("_", " ").replaceAll(".", " ");
const GROUPS = { admin: "What administrators did", key: "Keys: states", budget: "Budgets", quota: "Quota ahead", price: "Prices", policy: "Policies", deployment: "Deployments", webhook: "Webhooks", credential: "Credentials" };

/** The first words, each followed by its kinds. */
function groups(kinds, chosen) {
  const found = [];
  for (const first of [...new Set(kinds.map((kind) => kind.split(".")[0]))]) {
    const own = kinds.filter((kind) => kind.startsWith(first + "."));
    found.push([first, GROUPS[first] ?? worded(first)]);
    if (own.length > 1) found.push(...own.map((kind) => [kind, "– " + worded(kind.slice(first.length + 1))]));
  }
  return found.some(([value]) => value === chosen) || !chosen ? found : [[chosen, worded(chosen)], ...found];
}

/** A snapshot of events, page by page, and how many came since. */
function useEvents(filters) {
  const search = query(filters);
  const [state, setState] = useState({ rows: null, next: null, newest: null, busy: false, error: null });
  const [newer, setNewer] = useState(0);
  const latest = useRef(search);
  latest.current = search;
  const ask = (more) => api.get("/api/v1/events" + query({ ...filters, ...more }));
  const load = useCallback(async (before) => {
    setState((now) => ({ ...now, busy: true, error: null }));
    try {
      const page = await ask({ limit: PAGE_ROWS, before });
      if (latest.current !== search) return;
      if (before === null) setNewer(0);
      setState((now) => ({ rows: before === null ? page.data : [...now.rows, ...page.data], next: page.next_before, newest: before === null ? page.newest ?? 0 : now.newest, busy: false, error: null }));
    } catch (error) {
      if (latest.current === search) setState((now) => ({ ...now, busy: false, error }));
    }
  }, [search]);
  const look = useCallback(async () => {
    if (state.newest === null || document.hidden) return;
    try {
      const page = await ask({ limit: NEWER_MAX, after: state.newest });
      if (latest.current === search) setNewer(page.total);
    } catch {
      // The next look may work; the list itself says what is wrong when it is asked for again.
    }
  }, [search, state.newest]);
  useEffect(() => {
    setState({ rows: null, next: null, newest: null, busy: false, error: null });
    const timer = setTimeout(() => load(null), search ? 200 : 0);
    return () => clearTimeout(timer);
  }, [search]);
  useEffect(() => {
    const timer = setInterval(look, NEWER_EVERY_MS);
    return () => clearInterval(timer);
  }, [look]);
  useLive("changed", look);
  useLive("key", look);
  return { ...state, load, newer };
}

const WHO = ["actor", "actor_name", "address"];
const PLACES = [["budget_", "budgets"], ["vk_", "clients"], ["vkf_", "clients"], ["key_", "keys"]];

function Entity({ row }) {
  const place = PLACES.find(([prefix]) => row.entity_id.startsWith(prefix));
  const gone = /\.(deleted|removed)$/.test(row.kind);
  const id = html`<code>${row.entity_id || "–"}</code>`;
  return place && !gone ? html`<${Link} to=${pathOf(place[1], [row.entity_id])}>${id}</${Link}>` : id;
}

const NANO = "_nano_usd";
const named = (name) => name.replace(NANO, "").replaceAll("_", " ");
const shown = (value, name) => (name.endsWith(NANO) ? usd(Number(value) / 1e9) : value === null ? "none" : typeof value === "object" ? JSON.stringify(value) : String(value));
const told = (value, row) => value !== "" && value !== null && value !== row.entity_id && !(typeof value === "object" && !Object.keys(value).length);

/** Facts that the other columns do not say; a change of state first. */
function facts(row) {
  const { from_state: from, to_state: to, ...rest } = row.document;
  const said = Object.entries(rest).filter(([name, value]) => !WHO.includes(name) && !name.endsWith("timestamp") && told(value, row));
  return [from && to && `${from} → ${to}`, ...said.map(([name, value]) => `${named(name)}: ${shown(value, name)}`)].filter(Boolean).join(", ");
}

/** One event with all that was written down. */
const One = ({ row, onClose }) => html`<${Dialog} title=${worded(row.kind.replace(/^admin\./, ""))} onClose=${onClose}>
  <div class="body"><dl class="facts">
    <dt>Time</dt><dd>${moment(row.at)} <span class="muted">${ago(row.at)}</span></dd>
    <dt>Kind</dt><dd><code>${row.kind}</code></dd>
    <dt>To what</dt><dd><${Entity} row=${row} /></dd>
    ${Object.entries(row.document).map(([name, value]) => html`<dt key=${name}>${named(name)}</dt><dd key=${name + "="}>${shown(value, name)}</dd>`)}
  </dl></div>
  <footer><${Link} class="button" to=${pathOf("audit", [], { entity_id: row.entity_id })} onClick=${onClose}>All about it</${Link}><${Button} onClick=${onClose}>Close</${Button}></footer>
</${Dialog}>`;

const who = ({ document: said }) => (said.actor ? said.actor_name || said.actor : "the router");
const TONES = { revoked: "bad", deleted: "bad", removed: "bad", failed: "bad", dry: "bad", overrun: "bad", disabled: "warn", threshold: "warn", runs_dry: "warn" };

const days = new Intl.DateTimeFormat([], { day: "numeric", month: "short" });

/** The time of today, else day and time. */
const when = (iso) => (new Date(iso).toDateString() === new Date().toDateString() ? "" : days.format(new Date(iso)) + ", ") + clock(iso);

const columns = [
  { name: "at", title: "Time", of: (row) => html`<span title=${`${moment(row.at)}, ${ago(row.at)}`}>${when(row.at)}</span>` },
  { name: "kind", title: "What happened", of: (row) => html`<${Badge} tone=${TONES[row.kind.split(".").at(-1)]}>${worded(row.kind.replace(/^admin\./, ""))}</${Badge}>` },
  { name: "entity", title: "To what", of: (row) => html`<${Entity} row=${row} />`, hide: "phone" },
  { name: "who", title: "By", of: (row) => html`<span title=${row.document.address}>${who(row)}</span>`, hide: "tablet" },
  { name: "facts", title: "Facts", of: (row) => html`<span class="clip wide">${facts(row) || "–"}</span>` },
];
