// What the router did with a request of the playground, and what it would do: the decision in short, inline.

import { html, useEffect, useState } from "../lib/preact.js";
import { api } from "../lib/api.js";
import { Link, pathOf } from "../lib/route.js";
import { Badge, Card } from "../components/ui.js";
import { Table } from "../components/table.js";
import { count, milliseconds, percent, plural, usd } from "../lib/format.js";

const TRIES = 6;
const TRY_AGAIN_MS = 250;

/** The decision of a finished request: it is written down when the reply has ended, a moment after its last byte. */
function useDecision(id) {
  const [decision, setDecision] = useState(null);
  useEffect(() => {
    let timer = 0;
    setDecision(null);
    const load = (left) =>
      api.get("/api/v1/decisions/" + encodeURIComponent(id)).then(setDecision, () => {
        if (left) timer = setTimeout(load, TRY_AGAIN_MS, left - 1);
      });
    if (id) load(TRIES);
    return () => clearTimeout(timer);
  }, [id]);
  return decision;
}

/** `run`: { decisionId, key, provider, firstMs, tookMs } of a request that has ended. */
export function Did({ run }) {
  const decision = useDecision(run.decisionId);
  if (!run.decisionId) return null;
  const attempts = decision?.attempts ?? [];
  const more = attempts.length > 1 ? `${plural(attempts.length, "attempt")}` : "first attempt";
  return html`<${Card} title="What the router did" actions=${html`<${Link} class="button" to=${pathOf("decisions", [run.decisionId])}>Open the decision</${Link}>`}>
    ${decision && html`<p class="lead">${decision.explanation}</p>`}
    <dl class="facts" id="playground-did">
      <dt>Served by</dt><dd><strong>${run.key ?? "nobody"}</strong>${run.provider && html` <span class="muted">at ${run.provider}, ${more}</span>`}</dd>
      <dt>First byte</dt><dd>${milliseconds(run.firstMs)}<span class="muted">, whole in ${milliseconds(run.tookMs)}, as this browser saw it</span></dd>
      <dt>Tokens</dt><dd>${decision?.output_tokens == null ? "–" : `${count(decision.input_tokens)} in, ${count(decision.output_tokens)} out`}</dd>
      <dt>Cost</dt><dd>${usd(decision?.cost_usd)}${decision?.price_source && html` <span class="muted">by ${decision.price_source}</span>`}</dd>
    </dl>
    ${decision?.flip && html`<p class="muted after">What would change it: ${decision.flip}</p>`}
    ${attempts.length > 1 && html`<ol>${attempts.map((one, index) => html`<li key=${index}>${one.provider_id} <${Badge} tone=${one.outcome === "ok" ? "good" : "bad"}>${one.outcome}</${Badge}> ${milliseconds(one.duration_ms)} <span class="muted">${one.detail}</span></li>`)}</ol>`}
  </${Card}>`;
}

/** A dry run: who would serve, who else could, who could not, and what the wishes change. */
export function Would({ told, labels }) {
  const named = (id) => labels[id] ?? id;
  const rows = [
    ...(told.selected ? [{ ...told.selected, chosen: true }] : []),
    ...told.alternatives_considered,
    ...told.rejections.map((one) => ({ ...one, refused: true })),
  ];
  const columns = [
    { name: "key", title: "Key", of: (row) => html`${named(row.key_id)}${row.chosen && html` <${Badge} tone="good">would serve</${Badge}>`}${row.refused && html` <${Badge}>${row.code}</${Badge}>`}` },
    { name: "provider", title: "Provider", of: (row) => row.provider_id, hide: "narrow" },
    { name: "cost", title: "Expected cost", of: (row) => (row.refused ? "–" : usd(row.expected_cost_usd)), kind: "number" },
    { name: "risk", title: "Fails with", of: (row) => (row.refused ? "–" : percent(row.p_failure)), kind: "number", hide: "narrow" },
    { name: "why", title: "Why not", of: (row) => html`<span title=${row.reason_not_selected ?? row.reason}>${row.reason_not_selected ?? row.reason ?? ""}</span>` },
  ];
  return html`<${Card} title="Dry run: nothing was sent">
    <div id="playground-would">
      <p class="lead">${told.explanation}</p>
      ${told.compared && html`<p>${!told.compared.same && html`<strong>Without these wishes ${told.compared.selected_key_id ? named(told.compared.selected_key_id) : "nobody"} would serve.</strong> `}${told.compared.explanation}</p>`}
      ${told.flip && html`<p class="muted">What would change it: ${told.flip}</p>`}
      <p class="muted">${count(told.considered)} of ${plural(told.candidates, "key")} looked at, objective ${told.objective}.</p>
    </div>
    ${rows.length > 0 && html`<${Table} label="Candidates of the dry run" columns=${columns} rows=${rows} id=${(row) => row.key_id + row.provider_id + (row.code ?? "")} />`}
  </${Card}>`;
}
