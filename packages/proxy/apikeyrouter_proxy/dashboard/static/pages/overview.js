// What happens now, at one glance: requests, errors, money, tokens, waiting; and the newest decisions.

import { html, useState } from "../lib/preact.js";
import { useApi, useLive } from "../lib/hooks.js";
import { Card, Loaded, Stat } from "../components/ui.js";
import { Chart } from "../components/chart.js";
import { count, plural, seconds, usd } from "../lib/format.js";

const KEPT = 180;

export default function Overview() {
  const state = useApi("/api/v1/state", { every: 5000 });
  const [ticks, setTicks] = useState([]);
  useLive("tick", (tick) => setTicks((those) => [...those.slice(1 - KEPT), tick]));
  return html`
    <${Loaded} of=${state}>${(now) => html`<${Numbers} now=${now} ticks=${ticks} />`}</${Loaded}>
    <div class="grid">
      <${Card} title="Requests a second"><${Requests} ticks=${ticks} /></${Card}>
      <${Card} title="Time to first token"><${Waiting} ticks=${ticks} /></${Card}>
    </div>`;
}

function Numbers({ now, ticks }) {
  const minute = ticks.slice(-60);
  const sum = (name) => minute.reduce((total, tick) => total + Number(tick[name]), 0);
  const failures = sum("failures");
  return html`
    ${now.simulated && html`<p class="badge warn">Simulated provider: answers are made up until a real key is registered</p>`}
    <dl class="stats">
      <${Stat} label="Requests, last minute" value=${count(sum("requests"))} note=${`${now.in_flight} in flight`} />
      <${Stat} label="Failures, last minute" value=${count(failures)} tone=${failures ? "bad" : undefined} />
      <${Stat} label="Keys usable" value=${`${now.keys.available} of ${now.keys.total}`} tone=${now.keys.available ? undefined : "bad"} />
      <${Stat} label="Spent since start" value=${usd(now.costs.total_spent)} note=${usd(sum("cost_usd")) + " in the last minute"} />
      <${Stat} label="Tokens, last minute" value=${count(sum("input_tokens") + sum("output_tokens"))} note=${`${count(sum("output_tokens"))} of them output`} />
    </dl>`;
}

const times = (ticks) => ticks.map((tick) => Date.parse(tick.at) / 1000);

function Requests({ ticks }) {
  const latest = ticks.at(-1);
  return html`<${Chart} times=${times(ticks)} format=${(n) => n.toFixed(n < 10 ? 1 : 0)}
    series=${[
      { label: "served", tone: "accent", fill: true, values: ticks.map((tick) => tick.requests - tick.failures) },
      { label: "failed", tone: "bad", values: ticks.map((tick) => tick.failures) },
    ]}
    summary=${latest ? `${plural(latest.requests, "request")} in the last second, ${latest.failures} failed` : "No request yet"} />`;
}

function Waiting({ ticks }) {
  const latest = ticks.findLast((tick) => tick.ttft_s);
  return html`<${Chart} times=${times(ticks)} format=${seconds}
    series=${[
      { label: "median", tone: "accent", values: ticks.map((tick) => tick.ttft_s?.p50 ?? null) },
      { label: "95 of 100", tone: "second", dash: true, values: ticks.map((tick) => tick.ttft_s?.p95 ?? null) },
    ]}
    summary=${latest ? `Median ${seconds(latest.ttft_s.p50)}, 95th percentile ${seconds(latest.ttft_s.p95)}` : "No reply yet"} />`;
}
