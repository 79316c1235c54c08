// Budgets: what may be spent on what, how much of it is gone, and whether it will last.

import { html, useMemo, useState } from "../lib/preact.js";
import { useApi, useLive } from "../lib/hooks.js";
import { covers, heldShareOf, limitText, modeOf, nameOf, outlookOf, periodOf, shareOf, statusOf } from "../lib/budget.js";
import { go, Link, pathOf } from "../lib/route.js";
import { Badge, Button, Card, Empty, Field, Loaded, Meter, Stat } from "../components/ui.js";
import { Table } from "../components/table.js";
import { count, percent, usd } from "../lib/format.js";
import { AddBudget, TryRequest } from "./budgets_actions.js";
import { Budget } from "./budgets_one.js";

const EVERY_MS = 10000;

export default function Budgets({ route }) {
  return route.rest[0] ? html`<${Budget} key=${route.rest[0]} id=${route.rest[0]} />` : html`<${List} wanted=${route.query} />`;
}

const FULL = ["used up", "over its limit", "almost full"];
const DIALOGS = { add: AddBudget, try: TryRequest };

function List({ wanted }) {
  const budgets = useApi("/api/v1/budgets", { every: EVERY_MS });
  const [open, setOpen] = useState(null);
  useLive("changed", ({ what }) => what.includes("budget") && budgets.reload());
  const View = DIALOGS[open];
  const add = html`<${Button} kind="primary" id="add-budget" onClick=${() => setOpen("add")}>Add a budget</${Button}>`;
  const test = html`<${Button} id="try-request" onClick=${() => setOpen("try")}>Try a request</${Button}>`;
  return html`
    <${Loaded} of=${budgets} what="Loading budgets">${({ data }) => (data.length
      ? html`<${Shown} budgets=${data} wanted=${wanted} actions=${html`${test}${add}`} />`
      : html`<${Card} label="Budgets"><${Empty} title="No budget yet">
          <p>A budget caps what may be spent: in all, or on a team, a client, a model, a provider, a key or a tag.<br />
          What was spent so far is under <${Link} to=${pathOf("spend")}>Spend</${Link}>.</p>${add}</${Empty}></${Card}>`)}</${Loaded}>
    ${View && html`<${View} onClose=${() => setOpen(null)} done=${(made) => (made ? go(pathOf("budgets", [made.id])) : budgets.reload())} />`}`;
}

function Shown({ budgets, wanted, actions }) {
  const choose = (name) => (value) => go(pathOf("budgets", [], { ...wanted, [name]: value }), { replace: true });
  const text = (wanted.find ?? "").toLowerCase();
  const rows = useMemo(() => budgets.filter((one) =>
    (!wanted.status || statusOf(one)[1] === wanted.status) &&
    (!text || `${one.name} ${covers(one)} ${one.id}`.toLowerCase().includes(text))), [budgets, wanted.status, text]);
  const states = budgets.map((one) => statusOf(one)[1]);
  const full = states.filter((state) => FULL.includes(state)).length;
  const short = states.filter((state) => state === "will run out" || state === "nearly used").length;
  const held = budgets.filter((one) => Number(one.held) > 0).length;
  return html`
    <dl class="stats">
      <${Stat} label="Budgets" value=${count(budgets.length)} note=${`${count(budgets.filter((one) => one.enforcement_mode === "hard").length)} of them refuse`} />
      <${Stat} label="Full, or almost" value=${count(full)} tone=${full ? "bad" : undefined} />
      <${Stat} label="Will run out, or nearly used" value=${count(short)} tone=${short ? "warn" : undefined} />
      <${Stat} label="With requests under way" value=${count(held)} note="money is set aside for them" />
    </dl>
    <${Card} label="Budgets">
      <div class="filters" role="search">
        <${Field} label="Find" value=${wanted.find ?? ""} onInput=${choose("find")} placeholder="name or what it covers" />
        <${Field} label="Status" value=${wanted.status ?? ""} onInput=${choose("status")} options=${[["", "All"], ...[...new Set(states)].sort()]} />
        <span class="grow"></span>${actions}
      </div>
      ${rows.length
        ? html`<${Table} label="Budgets" columns=${columns} rows=${rows} id=${(row) => row.id} onOpen=${(row) => go(pathOf("budgets", [row.id]))} />`
        : html`<${Empty} title="No budget matches"><p>Change the filters.</p></${Empty}>`}
    </${Card}>`;
}

const columns = [
  { name: "name", title: "Budget", of: (row) => html`<${Link} class="clip name" to=${pathOf("budgets", [row.id])}><strong>${nameOf(row)}</strong></${Link}>${row.name && row.scope !== "global" && html`<span class="muted hide-phone"> ${covers(row)}</span>`}`, sort: (row) => nameOf(row).toLowerCase() },
  { name: "spent", title: "Spent of limit", of: (row) => html`<${Gauge} budget=${row} />`, sort: shareOf, kind: "number" },
  { name: "status", title: "Status", of: (row) => html`<${Status} budget=${row} />`, sort: (row) => statusOf(row)[1], hide: "phone" },
  { name: "outlook", title: "Outlook", of: outlookOf, sort: (row) => row.projection.runs_out_at ?? "9", hide: "tablet" },
  { name: "period", title: "Period, at the limit", of: (row) => `${periodOf(row, false)}, ${modeOf(row)}`, kind: "text", hide: "tablet" },
];

export const Status = ({ budget }) => {
  const [tone, word] = statusOf(budget);
  return html`<${Badge} tone=${tone}>${word}</${Badge}>`;
};

function Gauge({ budget }) {
  const share = shareOf(budget);
  const label = `${percent(share)} of the limit spent${Number(budget.held) ? ", " + percent(heldShareOf(budget)) + " held" : ""}`;
  return html`<div class="gauge"><${Meter} share=${share} held=${heldShareOf(budget)} label=${label} tone=${statusOf(budget)[0]} /><span class="muted narrow">${percent(share, 0)}</span><span class="muted hide-tablet">${usd(budget.current_spend)} of ${limitText(budget)}</span></div>`;
}
