// What happens now, at one glance: requests, errors, money, waiting; keys that run dry soonest; the newest requests. Until
// the first real success, how to get there.

import { html, useEffect, useState } from "../lib/preact.js";
import { query } from "../lib/api.js";
import { useApi, useLive } from "../lib/hooks.js";
import { brief, tightest, usedShare } from "../lib/quota.js";
import { go, Link, pathOf } from "../lib/route.js";
import { Badge, Card, Empty, Loaded, Meter, Stat } from "../components/ui.js";
import { Chart } from "../components/chart.js";
import { Table } from "../components/table.js";
import { ago, clock, count, percent, plural, seconds, usd } from "../lib/format.js";
import { Guide } from "./overview_guide.js";

const KEPT_S = 180;
const NEWEST = 10;
const SOONEST = 5;
const SIMULATED = "simulated";

export default function Overview({ session }) {
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const state = useApi("/api/v1/state", { every: 5000 });
  const today = useApi("/api/v1/spend" + query({ since: "today", by: "provider", time_zone: zone }), { every: 10000 });
  const month = useApi("/api/v1/spend" + query({ since: "30d", by: "provider" }));
  const past = useApi(`/api/v1/recent/seconds?seconds=${KEPT_S}`);
  const [ticks, setTicks] = useState([]);
  const [served, setServed] = useState(false);
  useLive("tick", (tick) => setTicks((those) => [...those.slice(1 - KEPT_S), tick]));
  useEffect(() => past.data && setTicks((those) => [...whole(past.data.data, those[0]?.at), ...those].slice(-KEPT_S)), [past.data]);
  useLive("decisions", ({ items }) => served || setServed(items.some((row) => row.outcome === "ok" && row.provider_id !== SIMULATED)));
  const before = month.data?.data.some((row) => row.provider !== SIMULATED && row.requests > 0 && Number(row.output_tokens) > 0);
  const started = served || before || (month.error && !month.data);
  return html`
    <${Loaded} of=${state}>${(now) => html`
      ${month.data && !started && html`<${Guide} state=${now} session=${session} reload=${state.reload} />`}
      <${Numbers} now=${now} today=${today.data} ticks=${ticks} />`}</${Loaded}>
    <div class="grid">
      <${Card} title="Requests a second"><${Requests} ticks=${ticks} /></${Card}>
      <${Card} title="Time to first byte"><${Waiting} ticks=${ticks} /></${Card}>
      <${Card} title="Keys that run dry soonest" actions=${html`<${Link} to=${pathOf("keys")}>All keys</${Link}>`}><${Soonest} /></${Card}>
      <${Card} title="Errors, last hour" actions=${html`<${Link} to=${pathOf("decisions", [], { outcome: "failed" })}>All that failed</${Link}>`}><${Errors} /></${Card}>
    </div>
    <${Card} title="Newest requests" actions=${html`<${Link} to=${pathOf("decisions")}>All requests</${Link}>`}><${Newest} /></${Card}>`;
}

const NOTHING = { requests: 0, failures: 0, input_tokens: 0, output_tokens: 0, cost_usd: "0", ttft_s: null };

/** Every second of what was remembered, those in which nothing ended too, up to the first that was seen live. */
function whole(seconds, until) {
  const end = until ? Date.parse(until) - 500 : Date.now();
  const known = new Map(seconds.map((one) => [Date.parse(one.at), one]));
  const found = [];
  for (let at = Math.floor(end / 1000) * 1000 - (KEPT_S - 1) * 1000; at <= end; at += 1000) {
    found.push(known.get(at) ?? { ...NOTHING, at: new Date(at).toISOString() });
  }
  return found;
}

function Numbers({ now, today, ticks }) {
  const minute = ticks.slice(-60);
  const sum = (name) => minute.reduce((total, tick) => total + Number(tick[name]), 0);
  const [requests, failures] = [sum("requests"), sum("failures")];
  return html`
    ${now.simulated && html`<p class="notice">Simulated provider: answers are made up until a real key is registered</p>`}
    <dl class="stats">
      <${Stat} label="Requests, last minute" value=${count(requests)} note=${`${now.in_flight} under way`} />
      <${Stat} label="Failures, last minute" value=${count(failures)} tone=${failures ? "bad" : undefined} note=${requests ? `${percent(failures / requests)} of requests` : "no request"} />
      <${Stat} label="Keys usable" value=${`${now.keys.available} of ${now.keys.total}`} tone=${now.keys.available ? undefined : "bad"} note=${plural(now.providers.length, "provider")} />
      <${Stat} label="Spent today" value=${usd(today?.sum.cost)} note=${usd(sum("cost_usd")) + " in the last minute"} />
      <${Stat} label="Tokens, last minute" value=${count(sum("input_tokens") + sum("output_tokens"))} note=${`${count(sum("output_tokens"))} of them output`} />
    </dl>`;
}

const times = (ticks) => ticks.map((tick) => Date.parse(tick.at) / 1000);

function Requests({ ticks }) {
  const latest = ticks.at(-1);
  return html`<${Chart} times=${times(ticks)} span=${KEPT_S} floor=${1} format=${(n) => (Number.isInteger(n) ? count(n) : "")}
    series=${[
      { label: "served", tone: "accent", fill: true, values: ticks.map((tick) => tick.requests - tick.failures) },
      { label: "failed", tone: "bad", values: ticks.map((tick) => tick.failures) },
    ]}
    summary=${latest ? `${plural(latest.requests, "request")} in the last second, ${latest.failures} failed` : "No request yet"} />`;
}

function Waiting({ ticks }) {
  const latest = ticks.findLast((tick) => tick.ttft_s);
  return html`<${Chart} times=${times(ticks)} span=${KEPT_S} floor=${0.01} format=${(s) => (s === 0 ? "0" : seconds(s))}
    series=${[
      { label: "median", tone: "accent", values: ticks.map((tick) => tick.ttft_s?.p50 ?? null) },
      { label: "95 of 100", tone: "second", dash: true, values: ticks.map((tick) => tick.ttft_s?.p95 ?? null) },
    ]}
    summary=${latest ? `Median ${seconds(latest.ttft_s.p50)}, 95th percentile ${seconds(latest.ttft_s.p95)}` : "No reply yet"} />`;
}

const KEY_COLUMNS = [
  { name: "key", title: "Key", of: ({ pool }) => html`<strong>${pool.key_labels[0]}</strong>${pool.key_labels.length > 1 && html` <span class="muted">and ${pool.key_labels.length - 1} more</span>`}` },
  { name: "state", title: "Quota", of: ({ pool }) => html`<${Badge}>${pool.capacity_state}</${Badge}>` },
  { name: "left", title: "Used", of: ({ limit }) => (limit ? html`<${Meter} share=${usedShare(limit)} label=${`${percent(usedShare(limit), 0)} of ${limit.name} used`} />` : html`<span class="muted">not known</span>`), hide: "phone" },
  { name: "outlook", title: "Outlook", of: ({ pool }) => html`<span title=${[pool.outlook, pool.outlook_limit].filter(Boolean).join(": ")}>${brief(pool.outlook)}</span>`, wrap: true },
];

function Soonest() {
  const quota = useApi(`/api/v1/quota?order=urgency&limit=${SOONEST}`, { every: 3000 });
  return html`<${Loaded} of=${quota} what="Loading quotas">${({ data }) => (data.length
    ? html`<${Table} label="Keys that run dry soonest" columns=${KEY_COLUMNS} rows=${data.map((pool) => ({ pool, limit: tightest(pool) }))} id=${({ pool }) => pool.pool_id} onOpen=${({ pool }) => go(pathOf("keys", [pool.key_ids[0]]))} />`
    : html`<${Empty} title="No key yet"><p>What keys have left is foreseen as soon as they are used.</p></${Empty}>`)}</${Loaded}>`;
}

const ERROR_COLUMNS = [
  { name: "reason", title: "Reason", of: (row) => html`<${Badge} tone=${row.failure ? "bad" : "plain"}>${row.outcome}</${Badge}>` },
  { name: "requests", title: "Requests", of: (row) => count(row.requests), sort: (row) => row.requests, kind: "number" },
  { name: "models", title: "Models", of: (row) => html`<span title=${row.models.join(", ")}>${row.models.slice(0, 2).join(", ")}${row.models.length > 2 && ` and ${row.models.length - 2} more`}</span>`, hide: "phone" },
  { name: "last", title: "Last", of: (row) => ago(row.last_at) },
];

function Errors() {
  const recent = useApi("/api/v1/recent?minutes=60", { every: 5000 });
  return html`<${Loaded} of=${recent} what="Loading errors">${({ outcomes, use }) => {
    const failed = outcomes.filter((one) => one.outcome !== "ok");
    if (failed.length) return html`<${Table} label="Errors by reason" columns=${ERROR_COLUMNS} rows=${failed} id=${(row) => row.outcome} onOpen=${(row) => go(pathOf("decisions", [], { outcome: row.outcome }))} />`;
    return html`<${Empty} title="No error">${use ? html`<p>${plural(use.requests, "request")} in the last hour, all served.</p>` : html`<p>No request in the last hour.</p>`}</${Empty}>`;
  }}</${Loaded}>`;
}

const ROW_COLUMNS = [
  { name: "at", title: "Time", of: (row) => html`<span class="mono">${clock(row.at)}</span>` },
  { name: "outcome", title: "Outcome", of: (row) => html`<${Badge} tone=${row.outcome === "ok" ? "good" : "bad"}>${row.outcome}</${Badge}>` },
  { name: "model", title: "Model", of: (row) => html`<span class="short" title=${row.model}>${row.model}</span>` },
  { name: "key", title: "Key", of: (row) => (row.key_label ? `${row.provider_id} · ${row.key_label}` : "nobody"), hide: "phone" },
  { name: "caller", title: "Caller", of: (row) => html`<span class="clip" title=${row.caller}>${row.caller_name ?? (row.caller || "–")}</span>`, hide: "tablet" },
  { name: "ttft", title: "First byte", of: (row) => seconds(row.ttft_s), sort: (row) => row.ttft_s, kind: "number", hide: "tablet" },
  { name: "duration", title: "Took", of: (row) => seconds(row.duration_s), sort: (row) => row.duration_s, kind: "number", hide: "tablet" },
  { name: "cost", title: "Cost", of: (row) => usd(row.cost_usd), sort: (row) => Number(row.cost_usd), kind: "number", hide: "tablet" },
];

/** The newest requests, as they end. */
function Newest() {
  const first = useApi(`/api/v1/requests?limit=${NEWEST}`);
  const [rows, setRows] = useState([]);
  const put = (newer) =>
    setRows((before) => {
      const known = new Set(newer.map((row) => row.id));
      return [...newer, ...before.filter((row) => !known.has(row.id))].sort((a, b) => Date.parse(b.at) - Date.parse(a.at)).slice(0, NEWEST);
    });
  useEffect(() => first.data && put(first.data.data), [first.data]);
  useLive("decisions", ({ items }) => put(items.toReversed()));
  return html`<${Loaded} of=${first} what="Loading requests">${() => (rows.length
    ? html`<${Table} label="Newest requests" columns=${ROW_COLUMNS} rows=${rows} id=${(row) => row.id} onOpen=${(row) => go(pathOf("decisions", [row.id]))} />`
    : html`<${Empty} title="No request yet"><p>Point any OpenAI SDK at <code>${location.origin}/v1</code>, or <${Link} to=${pathOf("playground")}>try the playground</${Link}>.</p></${Empty}>`)}</${Loaded}>`;
}
