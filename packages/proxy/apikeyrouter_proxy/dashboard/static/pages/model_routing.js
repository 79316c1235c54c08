// Model choice: what became of requests that left their model to the router (`auto`), group by group; and the newest of them.

import { html } from "../lib/preact.js";
import { useApi } from "../lib/hooks.js";
import { query } from "../lib/api.js";
import { go, Link, pathOf } from "../lib/route.js";
import { Badge, Card, Copy, Empty, Field, Loaded, Meter, Stat } from "../components/ui.js";
import { Table } from "../components/table.js";
import { clock, count, percent, plural, usd } from "../lib/format.js";

const EVERY_MS = 5000;
const NEWEST = 20;

export default function ModelRouting({ route, session }) {
  const groups = useApi("/api/v1/model-routing", { every: EVERY_MS });
  return html`<${Loaded} of=${groups} what="Loading groups of models">${({ data }) => html`<${Shown} groups=${data} wanted=${route.query} open=${session.open_mode} />`}</${Loaded}>`;
}

const total = (groups, name) => groups.reduce((sum, one) => sum + one[name], 0);

function Shown({ groups, wanted, open }) {
  const used = groups.some((one) => one.routed || one.shadowed || one.feedback);
  return html`
    ${used ? html`<${Sums} groups=${groups} />` : html`<${Card} label="How to begin"><${Start} any=${groups.length > 0} open=${open} /></${Card}>`}
    ${groups.map((one) => html`<${Group} key=${one.group} group=${one} />`)}
    ${used && html`<${Choices} groups=${groups} wanted=${wanted} />`}`;
}

/** What `auto` is, and the request that starts it. */
function Start({ any, open }) {
  const request = `curl ${location.origin}/v1/chat/completions -H 'Content-Type: application/json' \\
${open ? "" : '  -H "Authorization: Bearer $YOUR_KEY" \\\n'}  -d '{"model": "auto", "messages": [{"role": "user", "content": "Hello!"}]}'`;
  return html`<${Empty} title="No request has left its model to the router yet">
      <p>A request for the model <code>auto</code> gets one that fits its prompt: a cheap one where that is enough, a strong one where it pays.</p>
      <p>Requests that name a model are always served by that model.</p>
    </${Empty}>
    ${any
      ? html`<div class="snippet"><pre class="code">${request}</pre><${Copy} text=${request} /></div>
        <p class="muted">Or <${Link} to=${pathOf("playground", [], { model: "auto" })}>try it in the playground</${Link}>. What it may choose from is below.</p>`
      : html`<p class="muted">There is no model to choose from yet: <${Link} to=${pathOf("keys")}>add a key</${Link}> first.</p>`}`;
}

function Sums({ groups }) {
  const [routed, shadowed, marks] = ["routed", "shadowed", "feedback"].map((name) => total(groups, name));
  const strong = groups.reduce((sum, one) => sum + (one.strong_share ?? 0) * one.routed, 0);
  const saved = total(groups, "expected_saved_usd");
  const liked = groups.reduce((sum, one) => sum + (one.mean_mark ?? 0) * one.feedback, 0);
  return html`<dl class="stats">
    <${Stat} label="Requests for auto" value=${count(routed)} note="since the start" />
    <${Stat} label="Strong calls" value=${routed ? percent(strong / routed) : "–"} note=${routed ? `${count(Math.round(strong))} of ${count(routed)}` : "none yet"} />
    <${Stat} label=${saved < 0 ? "Spent more, expected" : "Saved, expected"} value=${usd(Math.abs(saved))} tone=${saved < 0 ? "warn" : undefined} note="against the reference" />
    <${Stat} label="Quality by marks" value=${marks ? percent(liked / marks) : "–"} note=${marks ? plural(Math.round(marks), "mark") : "nobody gave a mark yet"} />
    ${shadowed > 0 && html`<${Stat} label="Would save, shadow" value=${usd(total(groups, "shadow_saved_usd"))} note=${plural(shadowed, "request") + " looked at"} />`}
  </dl>`;
}

const nameOf = (group) => (group === "default" ? "auto" : "auto/" + group);

function Group({ group }) {
  const actions = html`
    ${group.shadow && html`<${Badge}>shadow mode</${Badge}>`}
    <${Badge}>${group.strategy_in_force.replaceAll("_", " ")}${group.strategy ? "" : " (default)"}</${Badge}>
    <${Link} class="button small" to=${pathOf("playground", [], { model: nameOf(group.group) })}>Try it</${Link}>`;
  return html`<${Card} title=${nameOf(group.group)} label=${"Group " + nameOf(group.group)} actions=${actions}>
    <div class="grid halves" style=${{ marginBottom: 0 }}>
      <dl class="facts">${facts(group).filter(([, shown]) => shown).map(([name, shown]) => html`<dt>${name}</dt><dd>${shown}</dd>`)}</dl>
      <${Table} label=${"Models of " + nameOf(group.group)} columns=${candidates} rows=${group.candidates} id=${(row) => row.model} />
    </div>
  </${Card}>`;
}

const facts = (group) => [
  ["Requests", html`${count(group.routed)}${group.max_cost != null && html`<span class="muted">, each at most ${usd(group.max_cost)}</span>`}`],
  ["Strong calls", html`<${Strong} group=${group} />`],
  [group.expected_saved_usd < 0 ? "Spent" : "Saved", group.routed > 0 && html`<${Saved} group=${group} />`],
  ["Discarded", group.discarded_usd > 0 && html`${usd(group.discarded_usd)} <span class="muted">for answers that nobody got</span>`],
  ["Quality", html`<${Quality} group=${group} />`],
  ["Drift", html`<${Drift} group=${group} />`],
  ["Shadow", (group.shadow || group.shadowed > 0) && html`<${Shadow} group=${group} />`],
];

/** The share of strong calls beside its target. */
function Strong({ group }) {
  const [share, target] = [group.strong_share, group.strong_share_target];
  const aim = target != null ? `target ${percent(target, 0)}` : group.target_quality != null ? "as quality allows" : "no target";
  if (share == null) return html`<span class="muted">none yet, ${aim}</span>`;
  return html`<div class="row"><span class="share"><${Meter} share=${share} tone="plain" label=${`${percent(share)} strong calls, ${aim}`} /></span>
    ${percent(share)} <span class="muted">${aim}</span></div>`;
}

function Saved({ group }) {
  const saved = group.expected_saved_usd;
  if (!group.reference) return html`<span class="muted">not known: no model has a price</span>`;
  return html`${saved < 0 ? html`<${Badge} tone="warn">${usd(-saved)} more</${Badge}>` : usd(saved)} <span class="muted">expected, ${saved < 0 ? "than" : "against"} ${group.reference}</span>`;
}

function Quality({ group }) {
  const target = group.target_quality;
  const aim = target == null ? "no target" : `target ${percent(target, 0)}`;
  if (group.mean_mark == null) return html`<span class="muted">no marks yet, ${aim}; clients give them by </span><code>POST /api/v1/feedback</code>`;
  return html`<div class="row">${percent(group.mean_mark)} <span class="muted">of ${plural(Math.round(group.feedback), "mark")}, ${aim}</span>
    ${target != null && html`<${Held} group=${group} />`}</div>`;
}

/** Whether the last marks keep the target, as alerts judge it. */
function Held({ group }) {
  if (group.alerts.includes("quality")) return html`<${Badge} tone="bad">below target</${Badge}>`;
  if (group.mean_score == null) return html`<${Badge}>too few yet</${Badge}>`;
  return group.mean_score < group.target_quality ? html`<${Badge} tone="warn">a little below</${Badge}>` : html`<${Badge} tone="good">on target</${Badge}>`;
}

/** How much prompts have changed, in words, with the index and where its alert begins. */
function Drift({ group }) {
  const { drift, drift_alert: alert, drift_over: over, prompts, prompts_from: from } = group;
  if (prompts < from) return html`<div class="row"><${Badge}>learning</${Badge}><span class="muted">${count(prompts)} of ${count(from)} prompts weighed</span></div>`;
  const [tone, word] = drift > alert || group.alerts.includes("drift") ? ["bad", "prompts have changed"] : drift > over ? ["warn", "prompts are changing"] : ["good", "prompts as before"];
  return html`<div class="row"><${Badge} tone=${tone}>${word}</${Badge}><span class="muted">${drift.toFixed(2)}, alert above ${alert.toFixed(2)}</span></div>`;
}

function Shadow({ group }) {
  if (!group.shadowed) return html`<span class="muted">waits for requests that name ${group.reference ?? "its reference model"}</span>`;
  const saved = group.shadow_saved_usd;
  return html`would have ${saved < 0 ? "cost" : "saved"} <strong>${usd(Math.abs(saved))}</strong>${saved < 0 ? " more" : ""} <span class="muted">${`in ${plural(group.shadowed, "request")} that named ${group.reference}; ${percent(group.shadow_strong_share, 0)} would have gone to stronger models`}</span>${group.shadow ? "" : html`<span class="muted">; it is off now</span>`}`;
}

const strength = (row) =>
  row.quality == null ? "not served" : row.role ?? (row.quality === 1 ? "strong" : row.quality === 0 ? "weak" : "between");

const candidates = [
  { name: "model", title: "Model", of: (row) => html`<${Link} class="clip name" to=${pathOf("models", ["model", row.model.slice(row.model.indexOf("/") + 1)])}>${row.model}</${Link}>` },
  { name: "role", title: "Role", of: (row) => (row.quality == null ? html`<${Badge} tone="warn">not served</${Badge}>` : strength(row)) },
  { name: "quality", title: "Quality", of: (row) => (row.quality == null ? "–" : row.quality.toFixed(2)), kind: "number", hide: "phone" },
  { name: "price", title: "1M tokens in, out", of: (row) => (row.output == null ? "no price" : `${usd(row.input)}, ${usd(row.output)}`), sort: (row) => Number(row.output), kind: "number" },
];

/** The newest requests whose model was chosen; each opens its decision. */
function Choices({ groups, wanted }) {
  const chosen = useApi("/api/v1/model-routing/choices" + query({ limit: NEWEST, group: wanted.group ?? "" }), { every: EVERY_MS });
  const choose = (group) => go(pathOf("model-routing", [], { group }), { replace: true });
  const filter = groups.length > 1 && html`<${Field} label="Group" value=${wanted.group ?? ""} onInput=${choose} options=${[["", "All"], ...groups.map((one) => [one.group, nameOf(one.group)])]} />`;
  return html`<${Card} title="Newest choices" actions=${html`${filter}<${Link} class="button" to=${pathOf("decisions")}>All requests</${Link}>`}>
    <${Loaded} of=${chosen} what="Loading choices">${({ data }) => (data.length
      ? html`<${Table} label="Newest choices" columns=${choices} rows=${data} id=${(row) => row.decision_id} onOpen=${(row) => go(pathOf("decisions", [row.decision_id]))} />`
      : html`<${Empty} title="None here"><p>This process remembers no request of this group.</p></${Empty}>`)}</${Loaded}>
  </${Card}>`;
}

const picked = (row) => (row.mode === "shadow" ? row.would : row.model);
const Mark = ({ score }) => (score == null ? html`<span class="muted">–</span>` : html`<${Badge} tone=${score >= 0.5 ? "good" : "bad"}>${score === 1 ? "up" : score === 0 ? "down" : percent(score, 0)}</${Badge}>`);

const choices = [
  { name: "at", title: "Time", of: (row) => html`<span class="mono">${clock(row.at)}</span>`, sort: (row) => row.at },
  { name: "asked", title: "Asked for", of: (row) => row.asked, kind: "text", hide: "tablet" },
  { name: "model", title: "Chosen", of: (row) => html`<${Link} to=${pathOf("decisions", [row.decision_id])}>${picked(row)}</${Link}>${row.mode === "shadow" && html` <${Badge}>shadow</${Badge}>`}`, sort: picked },
  { name: "strategy", title: "Strategy", of: (row) => row.strategy.replaceAll("_", " "), kind: "text", hide: "tablet" },
  { name: "why", title: "Because", of: (row) => html`<span class="clip wide" title=${row.why}>${row.why}</span>`, hide: "narrow" },
  { name: "answers", title: "Answers", of: (row) => row.answers, kind: "number", hide: "narrow" },
  { name: "mark", title: "Mark", of: (row) => html`<${Mark} score=${row.score} />`, sort: (row) => row.score, hide: "phone" },
  { name: "cost", title: "Cost", of: (row) => usd(row.cost_usd), sort: (row) => Number(row.cost_usd), kind: "number", hide: "phone" },
  { name: "saved", title: "Saved", of: (row) => usd(row.saved_usd), sort: (row) => Number(row.saved_usd), kind: "number" },
];
