// Every finished request, newest first: a snapshot that stays still while it is read, with what came since on demand.

import { html, useCallback, useEffect, useRef, useState } from "../lib/preact.js";
import { api, query } from "../lib/api.js";
import { useLive } from "../lib/hooks.js";
import { go, pathOf } from "../lib/route.js";
import { Badge, Button, Card, Empty, ErrorNote, Field, Loading } from "../components/ui.js";
import { Table } from "../components/table.js";
import { clock, count, plural, seconds, usd } from "../lib/format.js";
import { Decision } from "./decision.js";

const PAGE_ROWS = 200;
const FILTERS = ["outcome", "model", "provider_id", "key_id", "caller"];

export default function Decisions({ route }) {
  return route.rest[0] ? html`<${Decision} id=${route.rest[0]} />` : html`<${List} wanted=${route.query} />`;
}

const columns = [
  { name: "at", title: "Time", of: (row) => html`<span class="mono">${clock(row.at)}</span>`, sort: (row) => row.at },
  { name: "outcome", title: "Outcome", of: (row) => html`<${Badge} tone=${row.outcome === "ok" ? "good" : "bad"}>${row.outcome}</${Badge}>`, sort: (row) => row.outcome },
  { name: "model", title: "Model", of: (row) => html`<span class="short" title=${row.model}>${row.model}</span>`, sort: (row) => row.model },
  { name: "key", title: "Key", of: (row) => (row.key_label ? `${row.provider_id} · ${row.key_label}` : "nobody"), kind: "text", hide: "phone" },
  { name: "caller", title: "Caller", of: (row) => html`<span class="clip" title=${row.caller}>${row.caller_name ?? (row.caller || "–")}</span>`, sort: (row) => row.caller_name ?? row.caller, hide: "tablet" },
  { name: "attempts", title: "Attempts", of: (row) => row.attempts, kind: "number", hide: "narrow" },
  { name: "tokens", title: "Tokens", of: (row) => (row.output_tokens == null ? "–" : `${count(row.input_tokens)} + ${count(row.output_tokens)}`), sort: (row) => row.output_tokens, kind: "number", hide: "tablet" },
  { name: "ttft", title: "First byte", of: (row) => seconds(row.ttft_s), sort: (row) => row.ttft_s, kind: "number", hide: "tablet" },
  { name: "duration", title: "Took", of: (row) => seconds(row.duration_s), sort: (row) => row.duration_s, kind: "number", hide: "phone" },
  { name: "cost", title: "Cost", of: (row) => usd(row.cost_usd), sort: (row) => Number(row.cost_usd), kind: "number", hide: "phone" },
];

function List({ wanted }) {
  const filters = Object.fromEntries(FILTERS.map((name) => [name, wanted[name] ?? ""]));
  const search = query(filters);
  const { rows, next, busy, error, load } = useRows(search);
  const fresh = useNewer(filters, rows);
  const choose = (name) => (value) => go(pathOf("decisions", [], { ...filters, [name]: value }), { replace: true });
  const filtered = FILTERS.some((name) => filters[name]);
  return html`<${Card} label="Requests">
    <div class="filters" role="search">
      <${Field} label="Outcome" value=${filters.outcome} onInput=${choose("outcome")} options=${[["", "All"], ["ok", "Served"], ["failed", "Failed"]]} />
      <${Field} label="Model" value=${filters.model} onInput=${choose("model")} placeholder="part of a name" />
      <${Field} label="Provider" value=${filters.provider_id} onInput=${choose("provider_id")} placeholder="openai" />
      <${Field} label="Key id" value=${filters.key_id} onInput=${choose("key_id")} placeholder="key_…" />
      <${Field} label="Caller" value=${filters.caller} onInput=${choose("caller")} placeholder="name or vk_…" />
      ${filtered && html`<${Button} onClick=${() => go(pathOf("decisions"), { replace: true })}>Clear</${Button}>`}
      <span class="grow"></span>
      <${Button} kind=${fresh ? "primary" : "plain"} onClick=${() => load(null)} aria-live="polite">${fresh ? `Show ${plural(fresh, "new request")}` : "Refresh"}</${Button}>
    </div>
    <${ErrorNote} error=${error} retry=${() => load(null)} />
    ${rows === null && !error && html`<${Loading} what="Loading requests" />`}
    ${rows?.length === 0 && !next && html`<${Nothing} filtered=${filtered} />`}
    ${rows?.length > 0 && html`<${Table} label="Requests" columns=${columns} rows=${rows} id=${(row) => row.id} onOpen=${(row) => go(pathOf("decisions", [row.id]))} />`}
    ${next !== null && html`<p class="row more"><${Button} busy=${busy} onClick=${() => load(next)}>Show older</${Button}</p>`}
  </${Card}>`;
}

const Nothing = ({ filtered }) =>
  filtered
    ? html`<${Empty} title="No request matches"><p>Clear the filters, or wait: what comes is counted above.</p></${Empty}>`
    : html`<${Empty} title="No request yet"><p>Send one: point any OpenAI SDK at <code>${location.origin}/v1</code>, or try the playground.</p></${Empty}>`;

/** The rows of a search, page by page. `load(before)`: the page before a time; null: the newest again. */
function useRows(search) {
  const [state, setState] = useState({ rows: null, next: null, busy: false, error: null });
  const latest = useRef(search);
  latest.current = search;
  const load = useCallback(async (before) => {
    setState((now) => ({ ...now, busy: true, error: null }));
    try {
      const page = await api.get("/api/v1/requests" + search + query({ limit: PAGE_ROWS, before }).replace("?", search ? "&" : "?"));
      if (latest.current !== search) return;
      setState((now) => ({ rows: before === null ? page.data : [...now.rows, ...page.data], next: page.next_before, busy: false, error: null }));
    } catch (error) {
      if (latest.current === search) setState((now) => ({ ...now, busy: false, error }));
    }
  }, [search]);
  useEffect(() => {
    const timer = setTimeout(() => load(null), search ? 200 : 0);
    return () => clearTimeout(timer);
  }, [search]);
  return { ...state, load };
}

/** How many finished requests match that came after the snapshot was taken. */
function useNewer(filters, rows) {
  const [newer, setNewer] = useState(0);
  useEffect(() => setNewer(0), [rows?.[0]?.id, JSON.stringify(filters)]);
  const known = useRef(new Set());
  known.current = new Set(rows?.slice(0, PAGE_ROWS).map((row) => row.id));
  useLive("decisions", ({ items, more }) => {
    const matching = items.filter((row) => !known.current.has(row.id) && matches(row, filters));
    if (matching.length) setNewer((before) => before + matching.length + more);
  });
  return newer;
}

const matches = (row, { outcome, model, provider_id: provider, caller }) =>
  (!outcome || row.outcome === outcome || (outcome === "failed" && row.outcome !== "ok")) &&
  (!model || row.model.toLowerCase().includes(model.toLowerCase())) &&
  (!provider || row.provider_id === provider) &&
  (!caller || row.caller === caller || row.caller_name === caller);
