// One budget: how its running period came about, where it is going, and its ledger.

import { html, useEffect, useMemo, useState } from "../lib/preact.js";
import { api } from "../lib/api.js";
import { useAction, useApi, useLive } from "../lib/hooks.js";
import { covers, heldShareOf, isEarly, limitReached, limitText, MODE_HINTS, modeOf, nameOf, outlookOf, outlookSentence, periodOf, refusesSoon, shareOf, statusOf } from "../lib/budget.js";
import { go, Link, pathOf } from "../lib/route.js";
import { Badge, Button, Card, Empty, ErrorNote, Loaded, Meter, Stat } from "../components/ui.js";
import { Chart } from "../components/chart.js";
import { Table } from "../components/table.js";
import { ago, moment, percent, usd } from "../lib/format.js";
import { DeleteBudget, EditBudget } from "./budgets_actions.js";

const EVERY_MS = 5000;
const ENTRIES = 20;

export function Budget({ id }) {
  const path = "/api/v1/budgets/" + encodeURIComponent(id);
  const course = useApi(path + "/course", { every: EVERY_MS });
  useLive("changed", ({ what }) => what.includes("budget") && course.reload());
  return html`<p><${Link} to=${pathOf("budgets")}>All budgets</${Link}></p>
    <${Loaded} of=${course} what="Loading the budget">${(told) => html`<${Told} told=${told} path=${path} reload=${course.reload} />`}</${Loaded}>`;
}

function Told({ told: { budget, points, exact_since: exact }, path, reload }) {
  const [open, setOpen] = useState(null);
  const View = { edit: EditBudget, remove: DeleteBudget }[open];
  const [tone, word] = statusOf(budget);
  const actions = html`<${Button} onClick=${() => setOpen("edit")}>Change</${Button}><${Button} kind="danger" onClick=${() => setOpen("remove")}>Delete</${Button}>`;
  return html`
    <${Card} title=${nameOf(budget)} actions=${actions}>
      <p class="lead"><${Badge} tone=${tone}>${word}</${Badge}> ${outlookSentence(budget)}</p>
      <dl class="facts">
        <dt>Covers</dt><dd>${covers(budget)}</dd>
        <dt>Limit</dt><dd>${limitText(budget)} ${periodOf(budget)}${budget.reset_at && html` <span class="muted">begins anew on ${moment(budget.reset_at)}</span>`}</dd>
        <dt>At its limit</dt><dd>${modeOf(budget)}. <span class="muted">${MODE_HINTS[budget.enforcement_mode]}</span></dd>
        <dt>Tells at</dt><dd>${budget.thresholds.map((at) => html`<${Badge} key=${at} tone=${budget.passed.includes(at) ? (at >= 95 ? "bad" : "warn") : "plain"}>${at} %${budget.passed.includes(at) ? " passed" : ""}</${Badge}> `)}</dd>
        <dt>Id</dt><dd><code>${budget.id}</code></dd>
      </dl>
    </${Card}>
    <dl class="stats">
      <${Stat} label="Spent" value=${usd(budget.current_spend)} note=${percent(budget.used_ratio) + " of the limit"} tone=${limitReached(budget) ? "bad" : undefined} />
      <${Stat} label="Held" value=${usd(budget.held)} note="for requests under way" />
      <${Stat} label="Left" value=${usd(budget.remaining)} note=${"of " + limitText(budget)} />
      <${Outlook} budget=${budget} tone=${tone} />
      ${Number(budget.overrun) > 0 && html`<${Stat} label="Overrun" value=${usd(budget.overrun)} note="beyond what was held" tone="warn" />`}
      ${Number(budget.presumed) > 0 && html`<${Stat} label="Presumed" value=${usd(budget.presumed)} note="nobody could tell if billed" />`}
    </dl>
    <${Card} title="This period">
      <div class="row budget-meter"><${Meter} share=${shareOf(budget)} held=${heldShareOf(budget)} label=${`${percent(shareOf(budget))} of the limit spent`} tone=${tone} /></div>
      <${Burn} budget=${budget} points=${points} />
      <p class="muted">Since ${moment(points[0].at)}.${exact && ` Before ${moment(exact)} the line follows the hourly sums of the spend report; the ledger's older lines are folded.`}</p>
    </${Card}>
    <${Card} title="Ledger"><${Entries} path=${path} spent=${budget.current_spend} /></${Card}>
    ${View && html`<${View} subject=${budget} onClose=${() => setOpen(null)} done=${() => (open === "remove" ? go(pathOf("budgets")) : reload())} />`}`;
}

/** When the limit is reached if it goes on like this, else how much is spent by the end. */
function Outlook({ budget, tone }) {
  const { spend_at_end: end, runs_out_at: out } = budget.projection;
  const label = "If it goes on like this";
  if (tone === "warn" && out) return html`<${Stat} label=${label} value=${ago(out)} note="the limit is reached" tone="warn" />`;
  return html`<${Stat} label=${label} value=${isEarly(budget) || end == null || limitReached(budget) || refusesSoon(budget) ? "–" : usd(end)} note=${outlookOf(budget)} />`;
}

const at = (iso) => Date.parse(iso) / 1000;

/** Spent so far as steps, the straight line to where it ends, and the limit, when it is near enough to be in the picture. */
function Burn({ budget, points }) {
  const shown = useMemo(() => lines(budget, points), [budget, points]);
  const { times, spent, ahead, limit, held, max, far } = shown;
  const series = [
    { label: "spent", tone: "accent", fill: true, values: spent },
    ...(ahead ? [{ label: "if it goes on like this", tone: "second", dash: true, values: ahead }] : []),
    ...(far ? [] : [{ label: "limit", tone: "bad", values: limit }]),
    ...(held ? [{ label: "spent and held", tone: "warn", dash: true, values: held }] : []),
  ];
  return html`<${Chart} times=${times} height=${240} format=${usd} max=${max} series=${series}
      summary=${`${usd(budget.current_spend)} of ${limitText(budget)} spent. ${outlookSentence(budget)}`} />
    ${far && html`<p class="muted">The limit, ${limitText(budget)}, is far above this picture.</p>`}`;
}

/** [time, spent] where the straight line ends: with the period, or where it would leave the picture too small. */
function ahead(budget, now, level) {
  const { at: until, spend_at_end: end, runs_out_at: out, based_on_s: basis } = budget.projection;
  if (out && budget.enforcement_mode === "hard") return [at(out), Number(budget.limit_amount)]; // it goes no further
  const last = until ? at(until) : Infinity;
  const far = now + Math.max(2 * basis, out ? 1.25 * (at(out) - now) : 0);
  const time = last - now <= 4 * basis ? last : Math.min(last, far);
  return [time, !until && !out ? level : time === last ? Number(end) : level + (level * (time - now)) / basis];
}

function lines(budget, points) {
  const steps = [];
  for (const point of points) {
    const last = steps.at(-1);
    if (last && at(point.at) - last[0] > 0.002) steps.push([at(point.at) - 0.001, last[1]]);
    if (!last || at(point.at) > steps.at(-1)[0]) steps.push([at(point.at), Number(point.spent)]);
    else steps.at(-1)[1] = Number(point.spent);
  }
  const [now, level] = steps.at(-1);
  const size = Number(budget.limit_amount);
  const target = isEarly(budget) || limitReached(budget) ? [now + budget.projection.based_on_s * 0.1 + 1, level] : ahead(budget, now, level);
  const top = Math.max(level, target[1]);
  const far = top < size / 8 && top > 0;
  const past = steps.map(() => null);
  return {
    times: [...steps.map(([time]) => time), Math.max(target[0], now + 1)],
    spent: [...steps.map(([, value]) => value), null],
    ahead: !isEarly(budget) && !limitReached(budget) && [...past.slice(1), level, target[1]],
    limit: [...steps.map(() => size), size],
    held: Number(budget.held) > 0 && [...steps.map(() => level + Number(budget.held)), null],
    max: far ? top * 1.15 : Math.min(Math.max(size * 1.1, top * 1.05), Math.max(size, level) * 2.5),
    far,
  };
}

const KINDS = { spent: "Spent", presumed: "Presumed", refunded: "Refunded", opening: "Older lines, folded" };
const columns = [
  { name: "at", title: "Time", of: (row) => html`<span class="mono">${moment(row.at)}</span>` },
  { name: "kind", title: "Kind", of: (row) => KINDS[row.kind] ?? row.kind },
  { name: "amount", title: "Amount", of: (row) => usd(row.amount), kind: "number", sort: (row) => Number(row.amount) },
  { name: "window", title: "Period from", of: (row) => (row.window ? moment(row.window) : "–"), hide: "phone" },
  { name: "worker", title: "Process", of: (row) => html`<code>${row.worker_id || "–"}</code>`, hide: "phone" },
];

const keyOf = (row) => [row.at, row.worker_id, row.window, row.kind, row.amount].join(" ");

/** What was charged, newest first. The first page follows what is spent until older ones are looked at. */
function Entries({ path, spent }) {
  const [older, setOlder] = useState([]);
  const [more, setMore] = useState(null);
  const first = useApi(`${path}/entries?limit=${ENTRIES}`);
  useEffect(() => void (older.length || first.reload()), [spent]);
  const [load, busy, error] = useAction(async () => {
    const shown = first.data.data.length + older.length;
    const page = await api.get(`${path}/entries?limit=${ENTRIES * 10}&offset=${shown}`);
    const known = new Set([...first.data.data, ...older].map(keyOf)); // newer lines move the older ones on
    setOlder([...older, ...page.data.filter((row) => !known.has(keyOf(row)))]);
    setMore(page.total > shown + page.data.length);
  });
  return html`<${Loaded} of=${first}>${({ data, total }) => (data.length
    ? html`<p class="muted">Each line is what one process charged in a moment; newest first.</p>
      <${Table} label="Ledger" columns=${columns} rows=${[...data, ...older]} id=${keyOf} />
      <${ErrorNote} error=${error} retry=${load} />
      ${(more ?? total > data.length) && html`<p class="row more"><${Button} busy=${busy} onClick=${load}>Show older</${Button}></p>`}`
    : html`<${Empty} title="Nothing charged yet"><p>The first request that it covers writes the first line.</p></${Empty}>`)}</${Loaded}>`;
}
