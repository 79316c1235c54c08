// One key: its state and how it came to it, its limits with source and age, and when each runs dry.

import { html, useEffect, useRef, useState } from "../lib/preact.js";
import { useApi, useLive } from "../lib/hooks.js";
import { nameOf, tightest, usedShare } from "../lib/quota.js";
import { go, Link, pathOf } from "../lib/route.js";
import { Badge, Button, Card, Empty, Loaded, Meter, Stat } from "../components/ui.js";
import { Chart } from "../components/chart.js";
import { Table } from "../components/table.js";
import { ago, count, moment, percent, seconds } from "../lib/format.js";
import { DisableKey, EditKey, EnableKey, RevokeKey, RotateKey, TryKey } from "./key_actions.js";

const QUOTA_EVERY_MS = 2000;
const PAST_KEPT = 150;

export function Key({ id }) {
  const key = useApi("/api/v1/keys/" + encodeURIComponent(id), { every: 5000 });
  const history = useApi(`/api/v1/keys/${encodeURIComponent(id)}/history`);
  const reload = () => (key.reload(), history.reload());
  useLive("key", (event) => event.key_id === id && reload());
  return html`<p><${Link} to=${pathOf("keys")}>All keys</${Link}></p>
    <${Loaded} of=${key} what="Loading the key">${(told) => html`<${Told} told=${told} reload=${reload} />`}</${Loaded}>
    <${Pool} id=${id} />
    <${Card} title="History"><${Loaded} of=${history}>${({ data }) => html`<${History} rows=${data} />`}</${Loaded}></${Card}>`;
}

const DIALOGS = { rotate: RotateKey, edit: EditKey, disable: DisableKey, revoke: RevokeKey };

function Told({ told, reload }) {
  const [open, setOpen] = useState(null);
  const View = DIALOGS[open];
  const retired = told.state === "retired";
  const actions = !retired && html`
    <${TryKey} subject=${told} done=${reload} />
    ${told.state === "available" || told.state === "recovering" ? html`<${Button} onClick=${() => setOpen("disable")}>Disable</${Button}>` : html`<${EnableKey} subject=${told} done=${reload} />`}
    <${Button} onClick=${() => setOpen("edit")}>Change</${Button}>
    <${Button} onClick=${() => setOpen("rotate")}>Rotate</${Button}>
    <${Button} kind="danger" onClick=${() => setOpen("revoke")}>Revoke</${Button}>`;
  return html`
    <${Card} title=${told.label} actions=${actions}>
      <dl class="facts">
        <dt>State</dt><dd><${Badge}>${told.state}</${Badge}> ${told.state_reason} <span class="muted">${ago(told.state_updated_at)}</span>${told.cooldown_until && html`, until ${moment(told.cooldown_until)}`}</dd>
        <dt>Provider</dt><dd>${told.provider_id}</dd>
        ${Object.keys(told.limited_models).length > 0 && html`<dt>Resting models</dt><dd>${Object.entries(told.limited_models).map(([model, until]) => `${model} until ${moment(until)}`).join(", ")}</dd>`}
        <dt>Facts</dt><dd>${Object.entries(told.metadata).map(([name, value]) => `${name}: ${typeof value === "object" ? JSON.stringify(value) : value}`).join(", ") || "–"}</dd>
        <dt>Id</dt><dd><code>${told.id}</code></dd>
      </dl>
    </${Card}>
    <dl class="stats">
      <${Stat} label="Used" value=${count(told.usage_count)} note=${"last " + ago(told.last_used_at)} />
      <${Stat} label="Failed" value=${count(told.failure_count)} tone=${told.failure_count ? "warn" : undefined} />
      <${Stat} label="Under way" value=${count(told.in_flight)} />
      <${Stat} label="Material" value=${"version " + told.version} note=${told.draining_until ? "the old one until " + moment(told.draining_until) : "registered " + ago(told.created_at)} />
    </dl>
    ${View && html`<${View} subject=${told} onClose=${() => setOpen(null)} done=${() => (open === "revoke" ? go(pathOf("keys")) : reload())} />`}`;
}

function Pool({ id }) {
  const quota = useApi("/api/v1/quota?key_id=" + encodeURIComponent(id), { every: QUOTA_EVERY_MS });
  const past = useRef([]);
  const pool = quota.data?.data[0];
  if (pool && past.current.at(-1)?.pool !== pool) past.current = [...past.current.slice(1 - PAST_KEPT), { at: Date.now() / 1000, pool }];
  const [chosen, setChosen] = useState(null);
  const known = pool?.limits.filter((limit) => limit.limit != null) ?? [];
  const worst = tightest(pool);
  useEffect(() => {
    if (!chosen && worst && usedShare(worst) > 0) setChosen(nameOf(worst));
  }, [worst]);
  if (!pool) return html`<${Card} title="Quota"><${Loaded} of=${quota}>${() => html`<p class="muted">Nothing is known of this key's limits yet.</p>`}</${Loaded}></${Card}>`;
  const shown = known.find((limit) => nameOf(limit) === chosen) ?? worst;
  return html`
    <${Card} title=${`Quota: ${pool.outlook}`} actions=${html`<${Badge}>${pool.capacity_state}</${Badge}>`}>
      ${pool.key_ids.length > 1 && html`<p class="muted">Shared with ${pool.key_labels.join(", ")}: limits are the account's.</p>`}
      ${shown ? html`<${Forecast} limit=${shown} past=${past.current} />` : html`<${Empty} title="No limit is known yet"><p>The provider's replies tell them; until then what is used is counted.</p></${Empty}>`}
      <${Limits} limits=${pool.limits} choose=${(limit) => setChosen(nameOf(limit))} />
    </${Card}>`;
}

/** What was left while this page was open, and what is foreseen: the median, and the band from p10 to p90. */
function Forecast({ limit, past }) {
  const name = nameOf(limit);
  const before = past.map(({ at, pool }) => [at, pool.limits.find((one) => nameOf(one) === name)?.remaining ?? null]);
  const now = before.at(-1)[0];
  const { p10_s: early, p50_s: middle, p90_s: late } = limit.prediction ?? {};
  const horizon = Math.min(6 * 3600, Math.max(60, (late ?? middle ?? early ?? 0) * 1.15, limit.resets_in_s ?? 0));
  const steps = Array.from({ length: 41 }, (_, index) => (index * horizon) / 40);
  const falling = (dry) => (dry == null ? () => limit.remaining : (s) => Math.max(0, limit.remaining * (1 - s / Math.max(dry, 1e-3))));
  const [low, mid, high] = [falling(early), falling(middle), falling(late)];
  const ahead = before.map(() => null);
  const times = [...before.map(([at]) => at), ...steps.map((s) => now + s)];
  const line = (of) => [...ahead, ...steps.map(of)];
  return html`<${Chart} times=${times} height=${220} format=${(value) => count(Math.round(value))} max=${limit.limit * 1.02}
    series=${[
      { label: "left", tone: "accent", values: [...before.map(([, value]) => value), ...steps.map(() => null)] },
      { label: "foreseen", tone: "second", dash: true, values: line(mid) },
      { label: "at best", tone: "second", fill: false, values: line(high), dash: true },
      { label: "at worst", tone: "second", values: line(low), dash: true },
    ]}
    bands=${[[2, 3]]}
    summary=${`${limit.name}: ${count(limit.remaining)} of ${count(limit.limit)} left. ${limit.prediction?.text ?? "Nothing is foreseen yet."}`} />
    <p class="muted">${nameOf(limit)}: ${limit.prediction?.text ?? "nothing is foreseen yet"}.</p>`;
}

const SOURCES = { header: "told by replies", learned: "learned from refusals", configured: "configured", tier: "the tier's preset", unknown: "not known" };

function Limits({ limits, choose }) {
  const columns = [
    { name: "name", title: "Limit", of: (row) => row.name },
    { name: "models", title: "Models", of: (row) => (row.models === "*" ? "all" : row.models), hide: "phone" },
    { name: "used", title: "Used", of: (row) => (row.limit == null ? count(row.used) : html`<${Meter} share=${usedShare(row)} held=${row.held / row.limit} label=${percent(usedShare(row), 0) + " used"} />`) },
    { name: "left", title: "Left", of: (row) => (row.limit == null ? "–" : `${count(row.remaining)} of ${count(row.limit)}`), sort: (row) => row.remaining, kind: "number" },
    { name: "outlook", title: "Outlook", of: (row) => row.prediction?.text ?? "–" },
    { name: "resets", title: "Comes back", of: (row) => (row.resets_in_s == null ? row.refill : "in " + seconds(row.resets_in_s)), hide: "tablet" },
    { name: "source", title: "Known from", of: (row) => `${SOURCES[row.source] ?? row.source}${row.age_s == null ? "" : ", " + seconds(row.age_s) + " old"}`, hide: "phone" },
    { name: "sure", title: "Sure", of: (row) => percent(row.confidence, 0), sort: (row) => row.confidence, kind: "number", hide: "tablet" },
  ];
  return html`<${Table} label="Limits of the quota pool" columns=${columns} rows=${limits} id=${nameOf} onOpen=${choose} />`;
}

function History({ rows }) {
  if (!rows.length) return html`<p class="muted">Nothing has happened to this key: it has been available since it was registered.</p>`;
  const columns = [
    { name: "at", title: "When", of: (row) => html`<span title=${moment(row.transition_timestamp)}>${ago(row.transition_timestamp)}</span>` },
    { name: "from", title: "From", of: (row) => html`<${Badge}>${row.from_state}</${Badge}>` },
    { name: "to", title: "To", of: (row) => html`<${Badge}>${row.to_state}</${Badge}>` },
    { name: "why", title: "Cause", of: (row) => [row.cause || row.trigger, row.evidence.status && `HTTP ${row.evidence.status}`, row.evidence.code].filter(Boolean).join(", ") },
    { name: "until", title: "Until", of: (row) => (row.until ? moment(row.until) : "–"), hide: "phone" },
    { name: "who", title: "By", of: (row) => row.actor, hide: "phone" },
  ];
  return html`<${Table} label="Changes of state" columns=${columns} rows=${rows.toReversed()} id=${(row) => rows.indexOf(row)} />`;
}
