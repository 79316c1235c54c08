// One decision opened: who served and why, what each candidate would have cost, who was refused, what would flip it.

import { html } from "../lib/preact.js";
import { useApi } from "../lib/hooks.js";
import { Link, pathOf } from "../lib/route.js";
import { Badge, Card, Copy, Loaded } from "../components/ui.js";
import { Table } from "../components/table.js";
import { ModelChoice } from "./decision_model.js";
import { count, milliseconds, moment, percent, seconds, usd } from "../lib/format.js";

export function Decision({ id }) {
  const decision = useApi("/api/v1/decisions/" + encodeURIComponent(id));
  const keys = useApi("/api/v1/keys");
  const labels = Object.fromEntries((keys.data?.data ?? []).map((key) => [key.id, key.label]));
  const named = (key) => labels[key] ?? key;
  return html`<p><${Link} to=${pathOf("decisions")}>All requests</${Link}></p>
    <${Loaded} of=${decision} what="Loading the decision">${(told) => html`<${Told} told=${told} named=${named} />`}</${Loaded}>`;
}

function Told({ told, named }) {
  const routes = told.selected ? [{ ...told.selected, chosen: true }, ...told.alternatives_considered] : told.alternatives_considered;
  return html`
    <${Card} title="Why" actions=${html`<${Copy} text=${told.details} label="Copy as text" />`}>
      <p class="lead">${told.explanation}</p>
      ${told.flip && html`<p class="muted">What would change it: ${told.flip}</p>`}
      ${told.quota && html`<p class="muted">${outlook(told.quota)}</p>`}
    </${Card}>
    ${told.model_choice && html`<${ModelChoice} choice=${told.model_choice} cost=${told.cost_usd} />`}
    <div class="grid">
      <${Card} title="Attempts"><${Attempts} told=${told} named=${named} /></${Card}>
      <${Card} title="Facts"><${Facts} told=${told} /></${Card}>
    </div>
    ${routes.length > 0 && html`<${Card} title=${`Candidates: ${count(routes.length)} could serve`}><${Candidates} routes=${routes} named=${named} /></${Card}>`}
    ${told.rejections.length > 0 && html`<${Card} title=${`Rejected: ${count(told.rejections.length)}`}><${Rejections} rows=${told.rejections} named=${named} /></${Card}>`}`;
}

function outlook(quota) {
  const dry = quota.dry_p50_s == null ? "is not expected to run dry" : `runs dry in ${seconds(quota.dry_p50_s)} (${seconds(quota.dry_p10_s)} to ${quota.dry_p90_s == null ? "never" : seconds(quota.dry_p90_s)})`;
  return `Its quota pool ${quota.pool_id} was ${quota.state} and ${dry}.`;
}

/** Sends, one under the other, each as long as it took. */
function Attempts({ told, named }) {
  if (!told.attempts.length) return html`<p class="muted">Nothing was sent.</p>`;
  const longest = Math.max(...told.attempts.map((one) => one.duration_ms), 0.001);
  return html`<ol class="attempts">
    ${told.attempts.map((one, index) => html`<li key=${index}>
      <div class="row"><strong>${named(one.key_id)}</strong> <span class="muted">${one.provider_id}</span>
        <${Badge} tone=${one.outcome === "ok" ? "good" : "bad"}>${one.outcome}</${Badge}>${one.status && html`<span class="muted">HTTP ${one.status}</span>`}<span class="grow"></span>${milliseconds(one.duration_ms)}</div>
      <div class="span" role="img" aria-label=${`${milliseconds(one.duration_ms)}, first byte after ${milliseconds(one.ttft_ms)}`}>
        <i class=${one.outcome === "ok" ? "good" : "bad"} style=${{ width: (100 * one.duration_ms) / longest + "%" }}>
          ${one.ttft_ms != null && html`<b style=${{ width: Math.min(100, (100 * one.ttft_ms) / Math.max(one.duration_ms, 0.001)) + "%" }}></b>`}
        </i>
      </div>
      ${one.detail && html`<p class="muted">${one.detail}</p>`}
    </li>`)}
  </ol>`;
}

function Facts({ told }) {
  const facts = [
    ["Outcome", html`<${Badge} tone=${told.outcome === "ok" ? "good" : "bad"}>${told.outcome}</${Badge}>`],
    ["When", moment(told.decision_timestamp)],
    ["Model", told.model],
    ["Objective", told.objective],
    ["Cost", told.cost_usd == null ? "–" : `${usd(told.cost_usd)} (${told.cost_source})`],
    ["Presumed", Number(told.presumed_usd) ? usd(told.presumed_usd) : null],
    ["Tokens", told.output_tokens == null ? "–" : `${count(told.input_tokens)} in, ${count(told.output_tokens)} out`],
    ["Waited", told.waited_ms ? milliseconds(told.waited_ms) : null],
    ["Policies", told.policies.join(", ")],
    ["Fallbacks", told.fallbacks.join(" → ")],
    ["Asked beside", told.hedges.join(", ")],
    ["Reply shortened", told.output_limit && `to ${count(told.output_limit.given)} tokens by budget ${told.output_limit.budget_id}`],
    ["Shadow", told.shadow && (told.shadow.same ? `${told.shadow.objective} would have chosen the same` : `${told.shadow.objective} would have chosen ${told.shadow.label}`)],
    ["Request", html`<code>${told.request_id}</code>`],
    ["Decision", html`<code>${told.id}</code>`],
  ];
  return html`<dl class="facts">${facts.filter(([, value]) => value).map(([name, value]) => html`<dt>${name}</dt><dd>${value}</dd>`)}</dl>`;
}

const TONES = ["accent", "second", "warn", "bad", "good", "muted"];

/** Scores as bars: each term a piece of it, on one scale, so that lengths compare. */
function Candidates({ routes, named }) {
  const terms = [...new Set(routes.flatMap((route) => Object.keys(route.terms_usd)))];
  const largest = Math.max(...routes.map((route) => terms.reduce((sum, name) => sum + Math.max(0, Number(route.terms_usd[name] ?? 0)), 0)), 1e-15);
  const columns = [
    { name: "key", title: "Key", of: (route) => html`${route.chosen ? html`<${Badge} tone="good">chosen</${Badge}> ` : ""}${named(route.key_id)}` },
    { name: "provider", title: "Provider", of: (route) => route.provider_id, hide: "phone" },
    { name: "score", title: "Score, lower is better", of: (route) => html`<${Terms} terms=${terms} values=${route.terms_usd} largest=${largest} />` },
    { name: "usd", title: "Score", of: (route) => usd(route.score_usd), kind: "number" },
    { name: "cost", title: "Expected cost", of: (route) => usd(route.expected_cost_usd), kind: "number", hide: "tablet" },
    { name: "risk", title: "Fails with", of: (route) => percent(route.p_failure), kind: "number", hide: "tablet" },
    { name: "why", title: "Why not", of: (route) => route.reason_not_selected ?? "", wrap: true },
  ];
  return html`<${Table} label="Candidates" columns=${columns} rows=${routes} id=${(route) => route.key_id + route.provider_id} />
    <p class="row legend">${terms.map((name, index) => html`<span key=${name}><i class=${"swatch " + TONES[index % TONES.length]}></i>${name.replaceAll("_", " ")}</span>`)}</p>`;
}

function Terms({ terms, values, largest }) {
  const told = terms.filter((name) => Number(values[name] ?? 0)).map((name) => `${name.replaceAll("_", " ")} ${usd(values[name])}`);
  return html`<div class="terms" role="img" aria-label=${told.join(", ") || "nothing"} title=${told.join("\n")}>
    ${terms.map((name, index) => html`<i key=${name} class=${"swatch " + TONES[index % TONES.length]} style=${{ width: (100 * Math.max(0, Number(values[name] ?? 0))) / largest + "%" }}></i>`)}
  </div>`;
}

function Rejections({ rows, named }) {
  const columns = [
    { name: "key", title: "Key", of: (row) => named(row.key_id) },
    { name: "provider", title: "Provider", of: (row) => row.provider_id, hide: "phone" },
    { name: "code", title: "Code", of: (row) => html`<${Badge}>${row.code}</${Badge}>`, sort: (row) => row.code },
    { name: "reason", title: "Reason", of: (row) => row.reason, wrap: true },
  ];
  return html`<${Table} label="Rejected keys" columns=${columns} rows=${rows} id=${(row) => row.key_id + row.provider_id + row.code} />`;
}
