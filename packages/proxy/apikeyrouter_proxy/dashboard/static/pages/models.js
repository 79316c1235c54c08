// Models and providers: who answers and how well, and for each model who serves it, at what price, and how it did.

import { html, useCallback, useEffect, useRef, useState } from "../lib/preact.js";
import { api, query } from "../lib/api.js";
import { useApi, useLive } from "../lib/hooks.js";
import { go, pathOf } from "../lib/route.js";
import { Badge, Button, Card, Empty, ErrorNote, Field, Loading } from "../components/ui.js";
import { Table } from "../components/table.js";
import { count, percent, plural, seconds, usd } from "../lib/format.js";
import { Model } from "./models_one.js";
import { Provider, Providers } from "./providers.js";

const PAGE_ROWS = 100;
const FRESH_MS = 10000;

export default function Models({ route }) {
  const [kind, id] = route.rest;
  if (kind === "provider" && id) return html`<${Provider} key=${id} id=${id} />`;
  if (kind === "model" && id) return html`<${Model} key=${id} id=${id} />`;
  return html`<${Providers} /><${List} wanted=${route.query} />`;
}

const prices = (row, name) => row.providers.map((one) => one[name]).filter((value) => value !== null);

/** The cheapest price, and that there are others. */
function price(row, name) {
  const found = prices(row, name);
  if (!found.length) return "–";
  const least = found.reduce((a, b) => (Number(b) < Number(a) ? b : a));
  const own = row.providers.some((one) => one.own_price && one[name] === least);
  return html`${usd(least)}${found.some((value) => value !== least) && html`<span class="muted"> and up</span>`}${own && html` <${Badge}>own</${Badge}>`}`;
}

const least = (row, name) => (prices(row, name).length ? Math.min(...prices(row, name).map(Number)) : null);

export const abilities = (row) =>
  [row.tools && "tools", row.vision && "vision", row.json_schema && "JSON", row.reasoning && "reasoning"].filter(Boolean);

/** The end of a model: past ends are worse than coming ones. */
export function Ending({ row, brief = false }) {
  if (!row.ends) return null;
  const past = Date.parse(row.ends) < Date.now();
  return html` <span title=${`${row.ends}${row.successor ? `, ask for ${row.successor} instead` : ""}`}><${Badge} tone=${past ? "bad" : "warn"}>${past ? "ended" : "ends"}${brief ? "" : " " + row.ends}</${Badge}></span>`;
}

const columns = [
  { name: "id", title: "Model", of: (row) => html`<strong class="short" title=${row.id}>${row.id}</strong>${row.deployment && html` <${Badge}>group</${Badge}>`}<${Ending} row=${row} brief />`, sort: (row) => row.id },
  { name: "providers", title: "Served by", of: (row) => html`<${Served} row=${row} />`, sort: (row) => row.providers.length, hide: "tablet" },
  { name: "input", title: "In / 1M", of: (row) => price(row, "input"), sort: (row) => least(row, "input"), kind: "number" },
  { name: "output", title: "Out / 1M", of: (row) => price(row, "output"), sort: (row) => least(row, "output"), kind: "number" },
  { name: "context", title: "Context", of: (row) => count(row.context_tokens), sort: (row) => row.context_tokens, kind: "number", hide: "phone" },
  { name: "can", title: "Can", of: (row) => html`<small>${abilities(row).join(", ") || "–"}</small>`, hide: "tablet" },
  { name: "requests", title: "Requests", of: (row) => count(row.recent?.requests ?? 0), sort: (row) => row.recent?.requests ?? 0, kind: "number", hide: "tablet" },
  { name: "success", title: "Served", of: (row) => percent(row.recent?.success), sort: (row) => row.recent?.success, kind: "number", hide: "phone" },
  { name: "ttft", title: "First byte", of: (row) => (row.recent?.ttft_p50_s == null ? "–" : html`${seconds(row.recent.ttft_p50_s)}<span class="hide-narrow muted"> · ${seconds(row.recent.ttft_p95_s)}</span>`), sort: (row) => row.recent?.ttft_p50_s, kind: "number", hide: "tablet" },
  { name: "cost", title: "Cost", of: (row) => (row.recent ? usd(row.recent.cost) : "–"), sort: (row) => (row.recent ? Number(row.recent.cost) : null), kind: "number", hide: "narrow" },
];

function Served({ row }) {
  if (!row.providers.length) return html`<span class="muted">nobody</span>`;
  const names = row.providers.map((one) => one.provider_id);
  const ill = row.providers.filter((one) => one.breaker !== "closed").length;
  return html`<span title=${names.join(", ")}>${names.slice(0, 2).join(", ")}${names.length > 2 && ` and ${names.length - 2} more`}</span>${ill > 0 && html` <${Badge} tone="bad">${plural(ill, "breaker")} open</${Badge}>`}`;
}

function List({ wanted }) {
  const providers = useApi("/api/v1/providers");
  const filters = { contains: wanted.find ?? "", provider_id: wanted.provider ?? "", used: wanted.used === "true" ? "true" : "" };
  const { rows, total, busy, error, load } = useRows(query(filters));
  const choose = (name) => (value) => go(pathOf("models", [], { ...wanted, [name]: value }), { replace: true });
  const ids = providers.data?.data.map((one) => one.id) ?? [];
  const filtered = filters.contains || filters.provider_id || filters.used;
  return html`<${Card} title=${total === null ? "Models" : `Models: ${count(total)}`}>
    <p class="muted">Prices are US dollars per million tokens. Requests, success, first byte (median · 95 of 100) and cost are of the last 24 hours, as far as memory goes.</p>
    <div class="filters" role="search">
      <${Field} label="Find" value=${filters.contains} onInput=${choose("find")} placeholder="part of a name" />
      <${Field} label="Served by" value=${filters.provider_id} onInput=${choose("provider")} options=${[["", "All"], ...ids]} />
      <${Field} label="Only those in use" type="checkbox" value=${filters.used === "true"} onInput=${(on) => choose("used")(on ? "true" : "")} />
    </div>
    <${ErrorNote} error=${error} retry=${() => load(0)} />
    ${rows === null && !error && html`<${Loading} what="Loading models" />`}
    ${rows?.length === 0 && html`<${Nothing} filtered=${filtered} />`}
    ${rows?.length > 0 && html`<${Table} label="Models" columns=${columns} rows=${rows} id=${(row) => row.id} onOpen=${(row) => go(pathOf("models", ["model", row.id]))} />`}
    ${rows && rows.length < total && html`<p class="row more"><span class="muted">${count(rows.length)} of ${count(total)} shown</span><${Button} busy=${busy} onClick=${() => load(rows.length)}>Show more</${Button}</p>`}
  </${Card}>`;
}

const Nothing = ({ filtered }) =>
  filtered
    ? html`<${Empty} title="No model matches"><p>Change the filters.</p></${Empty}>`
    : html`<${Empty} title="No model yet"><p>Providers are asked for their models as soon as they have a key.</p></${Empty}>`;

/** The models of a search, page by page; what is shown is read again now and then. */
function useRows(search) {
  const [state, setState] = useState({ rows: null, total: null, busy: false, error: null });
  const latest = useRef(search);
  latest.current = search;
  const shown = useRef(PAGE_ROWS);
  const load = useCallback(async (offset, limit = PAGE_ROWS) => {
    setState((now) => ({ ...now, busy: true, error: null }));
    try {
      const page = await api.get("/api/v1/models" + search + query({ offset, limit }).replace("?", search ? "&" : "?"));
      if (latest.current !== search) return;
      setState((now) => {
        const rows = offset ? [...now.rows, ...page.data] : page.data;
        shown.current = Math.max(rows.length, PAGE_ROWS);
        return { rows, total: page.total, busy: false, error: null };
      });
    } catch (error) {
      if (latest.current === search) setState((now) => ({ ...now, busy: false, error }));
    }
  }, [search]);
  useEffect(() => {
    const first = setTimeout(() => load(0), search ? 200 : 0);
    const again = setInterval(() => document.hidden || shown.current > PAGE_ROWS || load(0), FRESH_MS);
    return () => (clearTimeout(first), clearInterval(again));
  }, [search]);
  useLive("changed", ({ what }) => what.some((one) => ["price", "deployment", "setting", "key"].includes(one)) && load(0));
  return { ...state, load };
}
