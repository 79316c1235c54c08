// What can be done with budgets: add, change, delete, and try whether a request would fit.

import { html, useEffect, useRef, useState } from "../lib/preact.js";
import { api } from "../lib/api.js";
import { useAction, useApi } from "../lib/hooks.js";
import { limitText, MODE_HINTS, modeOf, nameOf, PERIOD_HINTS, periodOf, PERIODS, SCOPES } from "../lib/budget.js";
import { Badge, Button, Confirm, Dialog, ErrorNote, Field, toast, useId } from "../components/ui.js";
import { count, usd } from "../lib/format.js";

const path = (budget) => "/api/v1/budgets/" + encodeURIComponent(budget.id);
const HERE = Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";
const MODES = [["hard", "Refuse requests that might not fit"], ["soft", "Only tell me"]];
const AT_FIELDS = ["limit", "scope_id", "time_zone"];

/** `start`: what is filled in already. */
export function AddBudget({ onClose, done, start = {} }) {
  const [form, setForm] = useState({ name: "", scope: "global", scope_id: "", limit: "", period: "daily", rolling: "", time_zone: HERE, enforcement_mode: "hard", ...start });
  const set = (name) => (value) => setForm((now) => ({ ...now, [name]: value, ...(name === "scope" ? { scope_id: "" } : {}) }));
  const endless = form.period === "total";
  const rolling = !endless && form.rolling === "yes";
  const [submit, busy, error] = useAction(async () => {
    const body = { ...form, rolling, name: form.name.trim(), scope_id: form.scope === "global" ? null : form.scope_id };
    if (rolling || endless) delete body.time_zone;
    const budget = await api.post("/api/v1/budgets", body);
    toast(`${nameOf(budget)}: ${limitText(budget)} ${periodOf(budget)}.`);
    onClose();
    done(budget);
  });
  const fault = (name) => (error?.param === name ? error.message : undefined);
  const body = useRef(null);
  useEffect(() => body.current.querySelector("[aria-invalid=true]")?.focus(), [error]);
  return html`<${Dialog} title="Add a budget" onClose=${onClose}>
    <form onSubmit=${(event) => (event.preventDefault(), submit())}>
      <div class="body" ref=${body}>
        <div class="pair">
          <${Field} label="Covers" value=${form.scope} onInput=${set("scope")} options=${SCOPES} />
          <${Subject} scope=${form.scope} value=${form.scope_id} onInput=${set("scope_id")} error=${fault("scope_id")} />
        </div>
        <div class="pair">
          <${Field} label="Limit, US dollars" value=${form.limit} onInput=${set("limit")} required inputmode="decimal" placeholder="5.00" error=${fault("limit")} />
          <${Field} label="For each" value=${form.period} onInput=${set("period")} options=${PERIODS} />
        </div>
        ${!endless && html`<${Field} label="The period" value=${form.rolling} onInput=${set("rolling")} options=${[["", "follows the calendar"], ["yes", "rolls: always the last one"]]}
          hint=${rolling ? PERIOD_HINTS.rolling : PERIOD_HINTS.calendar} />`}
        ${!endless && !rolling && form.period !== "hourly" && html`<${Zone} value=${form.time_zone} onInput=${set("time_zone")} error=${fault("time_zone")} />`}
        <${Field} label="At its limit" value=${form.enforcement_mode} onInput=${set("enforcement_mode")} options=${MODES} hint=${MODE_HINTS[form.enforcement_mode]} />
        <${Field} label="Name" value=${form.name} onInput=${set("name")} maxlength="128" hint="For you. Left empty: what it covers." />
        <details><summary>Try a request</summary><${Trial} limit=${Number(form.limit.replace(/^\$/, "")) || null} /></details>
        <${ErrorNote} error=${AT_FIELDS.includes(error?.param) ? null : error} />
      </div>
      <footer><${Button} onClick=${onClose}>Cancel</${Button}><button class="button primary" disabled=${busy || !form.limit.trim() || (form.scope !== "global" && !form.scope_id.trim())}>Add</button></footer>
    </form>
  </${Dialog}>`;
}

/** What exactly a budget covers: chosen from what there is, where that is known. */
function Subject({ scope, value, onInput, error }) {
  const list = { per_provider: "/api/v1/providers", per_key: "/api/v1/keys", per_virtual_key: "/api/v1/virtual-keys?active=true", per_team: "/api/v1/virtual-keys?active=true" }[scope] ?? null;
  const known = useApi(list);
  const id = useId();
  if (scope === "global") return null;
  const rows = known.data?.data ?? [];
  if (scope === "per_team") {
    const teams = [...new Set(rows.map((row) => row.team).filter(Boolean))].sort();
    return html`<${Field} label="Which team" value=${value} onInput=${onInput} required list=${id} error=${error} hint="As the clients' keys have it." />
      <datalist id=${id}>${teams.map((team) => html`<option key=${team} value=${team}></option>`)}</datalist>`;
  }
  if (scope === "per_tag") return html`<${Field} label="Which tag" value=${value} onInput=${onInput} required placeholder="feature=search" error=${error} hint="name=value" />`;
  if (scope === "per_route") return html`<${Field} label="Which model" value=${value} onInput=${onInput} required placeholder="gpt-4o" error=${error} hint="Its exact name." />`;
  const options = rows.map((row) => [row.id, row.label ?? row.name ?? row.id]);
  return html`<${Field} label="Which" value=${value} onInput=${onInput} options=${[["", known.data ? "Choose" : "Loading"], ...options]} error=${error ?? known.error?.message} />`;
}

function Zone(props) {
  const id = useId();
  return html`<${Field} label="Time zone" list=${id} ...${props} hint="Whose midnight counts, such as Europe/Berlin or UTC." />
    <datalist id=${id}>${(Intl.supportedValuesOf?.("timeZone") ?? []).map((zone) => html`<option key=${zone} value=${zone}></option>`)}</datalist>`;
}

export function EditBudget({ subject, onClose, done }) {
  const [form, setForm] = useState({ limit: subject.limit_amount, enforcement_mode: subject.enforcement_mode, name: subject.name });
  const set = (name) => (value) => setForm((now) => ({ ...now, [name]: value }));
  const [submit, busy, error] = useAction(async () => {
    await api.patch(path(subject), form);
    toast("The budget was changed.");
    onClose();
    done();
  });
  return html`<${Dialog} title=${`Change ${nameOf(subject)}`} onClose=${onClose}>
    <form onSubmit=${(event) => (event.preventDefault(), submit())}>
      <div class="body">
        <${Field} label="Limit, US dollars" value=${form.limit} onInput=${set("limit")} required inputmode="decimal" hint=${`${usd(subject.current_spend)} are spent; what was spent stays spent.`} />
        <${Field} label="At its limit" value=${form.enforcement_mode} onInput=${set("enforcement_mode")} options=${MODES} hint=${MODE_HINTS[form.enforcement_mode]} />
        <${Field} label="Name" value=${form.name} onInput=${set("name")} maxlength="128" />
        <p class="muted">What it covers, its period and its time zone stay: for others, add another budget.</p>
        <${ErrorNote} error=${error} />
      </div>
      <footer><${Button} onClick=${onClose}>Cancel</${Button}><button class="button primary" disabled=${busy || !form.limit.trim()}>Save</button></footer>
    </form>
  </${Dialog}>`;
}

export const DeleteBudget = ({ subject, onClose, done }) => html`<${Confirm} title=${`Delete ${nameOf(subject)}?`} verb="Delete" onClose=${onClose}
    action=${async () => { await api.remove(path(subject)); toast(`${nameOf(subject)} is deleted.`); done(); }}>
  <p>Nothing limits any more what it limited. Its ledger goes with it; spend reports stay.</p>
</${Confirm}>`;

export const TryRequest = ({ onClose }) => html`<${Dialog} title="Try a request against the budgets" onClose=${onClose}>
  <div class="body"><p class="muted">Nothing is sent, held or counted.</p><${Trial} /></div>
  <footer><${Button} onClick=${onClose}>Close</${Button}></footer>
</${Dialog}>`;

/** Asks whether a request would fit. `limit`: of a budget that is not made yet: how many such requests fit into it. */
function Trial({ limit = null }) {
  const clients = useApi("/api/v1/virtual-keys?active=true");
  const [form, setForm] = useState({ model: "gpt-4o-mini", text: "Summarise this page in three sentences.", output: "500", client: "" });
  const [told, setTold] = useState(null);
  const set = (name) => (value) => setForm((now) => ({ ...now, [name]: value }));
  const [run, busy, error] = useAction(async () => {
    const who = clients.data?.data.find((one) => one.id === form.client);
    const tags = who ? { ...who.tags, virtual_key: who.id, ...(who.team ? { team: who.team } : {}) } : {};
    const body = { model: form.model, messages: [{ role: "user", content: form.text }], tags };
    if (form.output.trim()) body.max_tokens = Number(form.output);
    setTold(await api.post("/api/v1/budgets/check", body));
  });
  return html`<div class="trial">
    <div class="pair">
      <${Field} label="Model" value=${form.model} onInput=${set("model")} />
      <${Field} label="Longest answer, tokens" type="number" min="1" value=${form.output} onInput=${set("output")} />
    </div>
    <${Field} label="Message" rows=${2} value=${form.text} onInput=${set("text")} />
    <${Field} label="Sent by" value=${form.client} onInput=${set("client")} options=${[["", "Nobody in particular"], ...(clients.data?.data ?? []).map((one) => [one.id, one.name])]} />
    <${Button} busy=${busy} disabled=${!form.model.trim() || !form.text} onClick=${run}>Check</${Button}>
    <${ErrorNote} error=${error} />
    ${told && html`<${Verdict} told=${told} limit=${limit} />`}
  </div>`;
}

const METHODS = { upper_bound: "at most", q95: "hardly ever more than", expected: "about" };

function Verdict({ told, limit }) {
  const cost = Number(told.estimate.amount);
  const fits = told.allowed ? ["good", "fits"] : told.would_wait ? ["warn", "waits"] : ["bad", "refused"];
  return html`<div class="verdict" role="status">
    <p><${Badge} tone=${fits[0]}>${fits[1]}</${Badge}> ${told.reason}</p>
    <p>It costs ${METHODS[told.estimate.estimation_method] ?? ""} <strong>${usd(told.estimate.amount)}</strong>${told.max_output_tokens != null ? `; at most ${count(told.max_output_tokens)} tokens of answer would fit` : ""}.
      ${limit !== null && cost > 0 && html` The new budget would have room for <strong>${count(Math.floor(limit / cost))}</strong> of them in each period.`}</p>
    ${told.budgets.length
      ? html`<ul>${told.budgets.map((one) => html`<li key=${one.id}>${nameOf(one)}: ${usd(one.remaining)} left of ${limitText(one)} ${periodOf(one)}, ${modeOf(one)}${told.violated.includes(one.id) ? html` <${Badge} tone="bad">no room</${Badge}>` : ""}</li>`)}</ul>`
      : html`<p class="muted">No budget covers it yet.</p>`}
  </div>`;
}
