// Teams: what the clients that carry a team's name used together, and the team's budgets.

import { html, useMemo } from "../lib/preact.js";
import { useApi, useLive } from "../lib/hooks.js";
import { heldShareOf, limitText, periodOf, shareOf } from "../lib/budget.js";
import { go, Link, pathOf } from "../lib/route.js";
import { Card, Empty, Loaded, Meter } from "../components/ui.js";
import { Table } from "../components/table.js";
import { count, percent, usd } from "../lib/format.js";

const EVERY_MS = 10000;

export function Teams() {
  const keys = useApi("/api/v1/virtual-keys");
  const spend = useApi("/api/v1/spend?by=team&since=30d", { every: EVERY_MS });
  const budgets = useApi("/api/v1/budgets?scope=per_team", { every: EVERY_MS });
  useLive("changed", () => (keys.reload(), budgets.reload()));
  const rows = useMemo(() => together(keys.data?.data ?? [], spend.data?.data ?? [], budgets.data?.data ?? []), [keys.data, spend.data, budgets.data]);
  return html`<${Card} label="Teams">
    <p class="muted">A team is a name that virtual keys carry. Budgets and reports count it; a new name makes a new team.</p>
    <${Loaded} of=${keys} what="Loading teams">${() => (rows.length
      ? html`<${Table} label="Teams" columns=${columns} rows=${rows} id=${(row) => row.team} onOpen=${(row) => go(pathOf("clients", [], { team: row.team }))} />`
      : html`<${Empty} title="No team yet"><p>Name one when you <${Link} to=${pathOf("clients")}>add a client</${Link}>.</p></${Empty}>`)}</${Loaded}>
  </${Card}>`;
}

function together(keys, spend, budgets) {
  const rows = new Map();
  const of = (team) => rows.get(team) ?? rows.set(team, { team, clients: 0, active: 0, spent: null, budgets: [] }).get(team);
  for (const key of keys) {
    if (!key.team) continue;
    const row = of(key.team);
    row.clients += 1;
    row.active += key.active ? 1 : 0;
  }
  for (const sums of spend) if (sums.team) of(sums.team).spent = sums;
  for (const budget of budgets) of(budget.scope_id).budgets.push(budget);
  return [...rows.values()].sort((a, b) => Number(b.spent?.cost ?? 0) - Number(a.spent?.cost ?? 0));
}

const columns = [
  { name: "team", title: "Team", of: (row) => html`<${Link} to=${pathOf("clients", [], { team: row.team })}><strong>${row.team}</strong></${Link}>`, sort: (row) => row.team },
  { name: "clients", title: "Clients", of: (row) => count(row.active), sort: (row) => row.active, kind: "number", hide: "phone" },
  { name: "requests", title: "Requests, 30 d", of: (row) => count(row.spent?.requests ?? 0), sort: (row) => row.spent?.requests ?? 0, kind: "number", hide: "phone" },
  { name: "tokens", title: "Tokens, 30 d", of: (row) => count((row.spent?.input_tokens ?? 0) + (row.spent?.output_tokens ?? 0)), sort: (row) => row.spent?.output_tokens ?? 0, kind: "number", hide: "phone" },
  { name: "cost", title: "Spent, 30 d", of: (row) => usd(row.spent?.cost ?? 0), sort: (row) => Number(row.spent?.cost ?? 0), kind: "number" },
  { name: "budget", title: "Budget", of: (row) => html`<${Tightest} budgets=${row.budgets} />`, sort: (row) => Math.max(-1, ...row.budgets.map(shareOf)), kind: "number" },
];

function Tightest({ budgets }) {
  const worst = budgets.toSorted((a, b) => shareOf(b) - shareOf(a))[0];
  if (!worst) return html`<span class="muted">none</span>`;
  return html`<${Link} to=${pathOf("budgets", [worst.id])} class="gauge"><${Meter} share=${shareOf(worst)} held=${heldShareOf(worst)} label=${percent(shareOf(worst)) + " spent"} /><span class="narrow">${percent(shareOf(worst), 0)}</span><span class="hide-tablet">${usd(worst.current_spend)} of ${limitText(worst)} ${periodOf(worst, false)}</span></${Link}>`;
}
