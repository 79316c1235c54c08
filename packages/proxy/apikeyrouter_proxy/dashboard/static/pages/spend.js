// Spend: what was spent on what, when and by whom; and how well costs were estimated beforehand.

import { html, useMemo, useRef } from "../lib/preact.js";
import { query } from "../lib/api.js";
import { useApi, useLive } from "../lib/hooks.js";
import { MEASURES, nameOf, stacked, stepOf, ZONE } from "../lib/spend.js";
import { go, Link, pathOf } from "../lib/route.js";
import { Badge, Card, Empty, Field, Loaded, Stat } from "../components/ui.js";
import { Bars } from "../components/bars.js";
import { Table } from "../components/table.js";
import { count, percent, plural, usd } from "../lib/format.js";

const NOT_BEFORE_MS = 4000;
const RANGES = [["today", "Today"], ["yesterday", "Yesterday"], ["24h", "Last 24 hours"], ["week", "This week"], ["7d", "Last 7 days"], ["month", "This month"], ["30d", "Last 30 days"], ["90d", "Last 90 days"], ["dates", "From … to …"]];
const GROUPS = [["model", "Model"], ["provider", "Provider"], ["key", "Key"], ["virtual-key", "Client"], ["team", "Team"], ["tag", "Tag"]];

export default function Spend({ route }) {
  const { range = "7d", by = "model", show = "cost", from = "", to = "" } = route.query;
  const choose = (name) => (value) => go(pathOf("spend", [], { ...route.query, [name]: value }), { replace: true });
  const asked = intervalOf(range, from, to);
  const base = { ...asked, time_zone: ZONE };
  const totals = useApi("/api/v1/spend" + query({ ...base, by, limit: 10000 }));
  const step = totals.data && stepOf(totals.data.since, totals.data.until);
  const series = useApi(step && "/api/v1/spend" + query({ ...base, by: `${step},${by}`, limit: 10000 }));
  useTraffic(() => (totals.reload(), series.reload()));
  const title = GROUPS.find(([group]) => group === by)?.[1] ?? by;
  return html`
    <${Card} label="Choose">
      <div class="filters" role="search">
        <${Field} label="When" value=${range} onInput=${choose("range")} options=${RANGES} />
        ${range === "dates" && html`<${Field} label="From" type="date" value=${from} onInput=${choose("from")} /><${Field} label="To, not included" type="date" value=${to} onInput=${choose("to")} />`}
        <${Field} label="By" value=${by} onInput=${choose("by")} options=${GROUPS} />
        <${Field} label="Show" value=${show} onInput=${choose("show")} options=${Object.entries(MEASURES).map(([name, one]) => [name, one.title])} />
        <span class="grow"></span>
        <a class="button" id="spend-csv" href=${"/api/v1/spend" + query({ ...base, by: step ? `${step},${by}` : by, format: "csv" })} download="spend.csv">Download CSV</a>
      </div>
    </${Card}>
    <${Loaded} of=${totals} what="Adding up">${(told) => html`<${Told} told=${told} series=${series} step=${step} by=${by} show=${show} title=${title} />`}</${Loaded}>
    <${Reconciliation} />`;
}

/** Calls `listener` when requests have ended, every few seconds at most. */
function useTraffic(listener) {
  const last = useRef(Date.now());
  const due = useRef(false);
  useLive("tick", (tick) => {
    due.current ||= tick.requests > 0;
    if (!due.current || Date.now() - last.current < NOT_BEFORE_MS) return;
    [last.current, due.current] = [Date.now(), false];
    listener();
  });
}

/** What the API is asked for; without dates yet: the last week. */
function intervalOf(range, from, to) {
  if (range === "dates") return { since: from || "7d", until: to || "now" };
  return range === "yesterday" ? { since: "yesterday", until: "today" } : { since: range, until: "now" };
}

function Told({ told, series, step, by, show, title }) {
  if (!told.total) {
    return html`<${Card} label="Spend"><${Empty} title="Nothing was spent then"><p>Choose a longer time, or send a request: it is here within a second.</p></${Empty}></${Card}>`;
  }
  const { sum } = told;
  return html`
    <dl class="stats">
      <${Stat} label="Spent" value=${usd(sum.cost)} note=${Number(sum.presumed) ? usd(sum.presumed) + " of it presumed" : `since ${new Date(told.since).toLocaleDateString()}`} />
      <${Stat} label="Requests" value=${count(sum.requests)} note=${sum.requests ? usd(Number(sum.cost) / sum.requests) + " each" : undefined} />
      <${Stat} label="Failed sends" value=${count(sum.failures)} tone=${sum.failures ? "warn" : undefined} note="others may have taken over" />
      <${Stat} label="Input tokens" value=${count(sum.input_tokens)} note=${percent(sum.cached_input_tokens / Math.max(1, sum.input_tokens), 0) + " from the cache"} />
      <${Stat} label="Output tokens" value=${count(sum.output_tokens)} />
    </dl>
    <${Card} title=${`${MEASURES[show].title} by ${step} and ${title.toLowerCase()}`}>
      <${Loaded} of=${series} what="Drawing">${(report) => html`<${Stack} report=${report} step=${step} by=${by} show=${show} sum=${sum} />`}</${Loaded}>
    </${Card}>
    <${Card} title=${`By ${title.toLowerCase()}`}><${Rows} told=${told} by=${by} title=${title} /></${Card}>`;
}

function Stack({ report, step, by, show, sum }) {
  const { columns, bands, others } = useMemo(() => stacked(report, step, by, show), [report, step, by, show]);
  const whole = report.total > report.data.length ? ` The picture has the first ${count(report.data.length)} of ${count(report.total)} rows; the CSV has all.` : "";
  return html`<${Bars} columns=${columns} bands=${bands} others=${others} format=${MEASURES[show].format}
      summary=${`${usd(sum.cost)} in ${plural(sum.requests, "request")}, most of it on ${bands.slice(0, 3).join(", ")}.`} />
    ${whole && html`<p class="muted">${whole}</p>`}${by === "tag" && html`<p class="muted">A request with several tags is in the bar of each of them.</p>`}`;
}

const LINKS = { key: (row) => row.key && pathOf("keys", [row.key]), "virtual-key": (row) => row.virtual_key && pathOf("clients", [row.virtual_key]), team: (row) => row.team && pathOf("clients", [], { team: row.team }) };

function Rows({ told, by, title }) {
  const total = Number(told.sum.cost);
  const columns = useMemo(() => [
    { name: "name", title, of: (row) => html`<${Named} row=${row} by=${by} />`, sort: (row) => nameOf(row, by).toLowerCase() },
    { name: "cost", title: "Cost", of: (row) => usd(row.cost), sort: (row) => Number(row.cost), kind: "number" },
    { name: "share", title: "Share", of: (row) => (total ? percent(Number(row.cost) / total) : "–"), sort: (row) => Number(row.cost), kind: "number" },
    { name: "requests", title: "Requests", of: (row) => count(row.requests), sort: (row) => row.requests, kind: "number" },
    { name: "failures", title: "Failed sends", of: (row) => count(row.failures), sort: (row) => row.failures, kind: "number", hide: "tablet" },
    { name: "input", title: "Input tokens", of: (row) => count(row.input_tokens), sort: (row) => row.input_tokens, kind: "number", hide: "tablet" },
    { name: "output", title: "Output tokens", of: (row) => count(row.output_tokens), sort: (row) => row.output_tokens, kind: "number", hide: "tablet" },
  ], [by, title, total]);
  return html`<${Table} label=${"Spend by " + title.toLowerCase()} columns=${columns} rows=${told.data} id=${(row) => [row.provider, row.key, row.model, row.virtual_key, row.team, row.tag].join(" ")} />`;
}

function Named({ row, by }) {
  const to = LINKS[by]?.(row);
  return to ? html`<${Link} to=${to}>${nameOf(row, by)}</${Link}>` : nameOf(row, by);
}

function Reconciliation() {
  const found = useApi("/api/v1/costs/reconciliation");
  useTraffic(found.reload);
  const columns = [
    { name: "model", title: "Model", of: (row) => html`${row.model} <span class="muted">${row.provider_id}</span>`, sort: (row) => row.model },
    { name: "requests", title: "Requests", of: (row) => count(row.requests), sort: (row) => row.requests, kind: "number", hide: "tablet" },
    { name: "estimated", title: "Estimated", of: (row) => usd(row.estimated), sort: (row) => Number(row.estimated), kind: "number" },
    { name: "actual", title: "Charged", of: (row) => usd(row.actual), sort: (row) => Number(row.actual), kind: "number" },
    { name: "error", title: "Mean error", of: (row) => percent(row.mean_absolute_error, 0), sort: (row) => row.mean_absolute_error, kind: "number", hide: "tablet" },
    { name: "q95", title: "Above the 95 % estimate", of: (row) => percent(row.above_q95), sort: (row) => row.above_q95, kind: "number", hide: "tablet" },
    { name: "bound", title: "Above the bound", of: (row) => html`<${Badge} tone=${row.above_bound ? "bad" : "good"}>${count(row.above_bound)}</${Badge}>`, sort: (row) => row.above_bound, kind: "number" },
  ];
  return html`<${Card} title="Estimates against charges">
    <p class="muted">Since this process started. Budgets hold the bound before a request is sent, so a charge above it means that a price is wrong or a provider did not keep to the limit. About 5 % above the 95 % estimate is right.</p>
    <${Loaded} of=${found}>${({ data }) => (data.length
      ? html`<${Table} label="Estimates against charges" columns=${columns} rows=${data} id=${(row) => row.provider_id + " " + row.model} />`
      : html`<${Empty} title="Nothing to compare yet"><p>The first priced request fills this table.</p></${Empty}>`)}</${Loaded}>
  </${Card}>`;
}
