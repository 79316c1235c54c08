// How the model of a request for `auto` was chosen: why, among which, who was left out, and which answers were asked for.

import { html } from "../lib/preact.js";
import { Link, pathOf } from "../lib/route.js";
import { Badge, Card, Meter } from "../components/ui.js";
import { Table } from "../components/table.js";
import { percent, usd } from "../lib/format.js";

export function ModelChoice({ choice, cost }) {
  const rows = [
    ...choice.options.map((one) => ({ ...one, chosen: one.model === choice.model, would: one.model === choice.would })),
    ...Object.entries(choice.rejected).map(([model, reason]) => ({ model, reason, chosen: false })),
  ];
  const given = !choice.legs.some((leg) => leg.accepted) && !choice.instead; // this decision's own, after all others
  const answers = [...choice.legs, ...(given ? [{ model: choice.model, given, verdict: "none before it was", cost_usd: cost }] : [])].map((leg, index) => ({ ...leg, index }));
  return html`<${Card} title="Choice of the model" actions=${html`<${Link} class="button small" to=${pathOf("model-routing")}>Model choice</${Link}>`}>
    <p>${choice.explanation}</p>
    ${choice.instead && html`<p><${Link} to=${pathOf("decisions", [choice.instead])}>The decision whose answer was given</${Link}></p>`}
    <dl class="facts" style=${{ margin: "12px 0" }}>${factsOf(choice).filter(([, shown]) => shown).map(([name, shown]) => html`<dt>${name}</dt><dd>${shown}</dd>`)}</dl>
    ${rows.length > 0 && html`<${Table} label="Models that were weighed" columns=${columnsOf(choice)} rows=${rows} id=${(row) => row.model} />`}
    ${answers.length > 1 && html`<h3 style=${{ margin: "16px 0 4px" }}>Answers, in order</h3><${Table} label="Answers of the cascade" columns=${legs} rows=${answers} id=${(row) => row.index} />`}
  </${Card}>`;
}

const factsOf = (choice) => [
  ["Asked for", html`<code>${choice.asked}</code>`],
  ["Mode", choice.mode === "shadow" && html`<${Badge}>shadow</${Badge}> <span class="muted">served as asked</span>`],
  ["Group, strategy", `${choice.group}, ${choice.strategy.replaceAll("_", " ")}`],
  ["Prompt", choice.task && `${choice.task}${choice.complexity == null ? "" : `, complexity ${choice.complexity.toFixed(2)} of 1`}`],
  ["A strong model wins", choice.gain != null && html`${percent(choice.gain, 0)} <span class="muted">expected${choice.raw_gain != null && Math.abs(choice.raw_gain - choice.gain) >= 0.005 ? `; ${percent(choice.raw_gain, 0)} before feedback` : ""}</span>`],
  ["Loss put up with", judged(choice) && percent(Math.max(0, choice.tolerance), 0)],
  [savedTitle(choice), choice.saved_usd != null && html`<${Saved} choice=${choice} />`],
  ["At most", choice.max_cost_usd != null && usd(choice.max_cost_usd)],
];

/** Strategies that hold each model's feared loss against a tolerance; the others weigh it or do not look. */
const judged = (choice) => choice.tolerance != null && ["cost_optimized", "hybrid", "latency"].includes(choice.strategy);

function savedTitle({ mode, saved_usd: saved }) {
  if (mode === "shadow") return saved < 0 ? "Would have cost" : "Would have saved";
  return saved < 0 ? "Spent" : "Saved";
}

function Saved({ choice }) {
  const less = Number(choice.saved_usd) >= 0;
  return html`${less ? usd(choice.saved_usd) : html`<${Badge} tone="warn">${usd(-Number(choice.saved_usd))} more</${Badge}>`} <span class="muted">${less ? "against" : "than"} ${choice.reference} (${usd(choice.reference_usd)})</span>`;
}

const columnsOf = (choice) => [
  { name: "model", title: "Model", of: (row) => html`${row.model}${row.chosen && html` <${Badge} tone="good">chosen</${Badge}>`}${row.would && html` <${Badge}>would be chosen</${Badge}>`}${row.model === choice.reference && html` <${Badge}>reference</${Badge}>`}` },
  { name: "quality", title: "Quality", of: (row) => (row.quality == null ? "–" : row.quality.toFixed(2)), kind: "number", hide: "phone" },
  { name: "loss", title: "Feared loss", of: (row) => (row.loss == null ? "–" : html`<${Loss} loss=${row.loss} tolerance=${judged(choice) ? choice.tolerance : null} />`), sort: (row) => row.loss },
  { name: "cost", title: "Expected cost", of: (row) => usd(row.expected_usd), sort: (row) => row.expected_usd, kind: "number" },
  ...(Object.keys(choice.rejected).length ? [{ name: "why", title: "Left out", of: (row) => row.reason ?? "", wrap: true }] : []),
];

function Loss({ loss, tolerance }) {
  const over = tolerance != null && loss > tolerance;
  const words = tolerance == null ? "" : over ? "too much" : "within";
  return html`<span class="gauge"><${Meter} share=${loss} tone=${over ? "warn" : "plain"} label=${`feared loss ${percent(loss, 0)} ${words}`} /><span>${percent(loss, 0)} <span class="muted">${words}</span></span></span>`;
}

const legs = [
  { name: "model", title: "Model", of: (leg) => (leg.decision_id ? html`<${Link} to=${pathOf("decisions", [leg.decision_id])}>${leg.model}</${Link}>` : leg.model) },
  { name: "verdict", title: "Verdict", of: (leg) => html`<${Badge} tone=${leg.accepted ? "good" : leg.sample || leg.given ? "plain" : "warn"}>${leg.accepted ? "accepted" : leg.given ? "given" : leg.sample ? "compared" : "not accepted"}</${Badge}>` },
  { name: "why", title: "Because", of: (leg) => leg.verdict, wrap: true },
  { name: "cost", title: "Cost", of: (leg) => usd(leg.cost_usd), kind: "number", hide: "phone" },
];
