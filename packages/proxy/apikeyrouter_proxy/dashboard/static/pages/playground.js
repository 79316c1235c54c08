// Playground: write a request, watch it being routed and streamed, see what it cost and why that key served it.
//
// Requests take the ordinary token path by /dashboard/v1/..., with the browser's session in place of a key. What models
// say is text, and is shown as text only.

import { html, useEffect, useMemo, useRef, useState } from "../lib/preact.js";
import { api, query, writeHeaders } from "../lib/api.js";
import { useAction, useApi, useKept } from "../lib/hooks.js";
import { Badge, Button, Card, Empty, ErrorNote, Field } from "../components/ui.js";
import { milliseconds } from "../lib/format.js";
import { Did, Would } from "./playground_told.js";
import { Snippets } from "./playground_snippets.js";
import { add, events, FORMATS } from "./playground_wire.js";

const OBJECTIVES = [["", "The default"], "fairness", "cost", "latency", "reliability", "quality", "balanced"];
const START = {
  format: "chat", model: "gpt-4o-mini", system: "", objective: "", max_tokens: "256", temperature: "", stream: true, tools: "",
  messages: [{ role: "user", content: "Say hello in three languages." }],
};
const SUGGESTED = 500;

export default function Playground({ route, session }) {
  const [kept, setForm] = useKept("akr-playground", START);
  const form = { ...START, ...kept };
  const set = (name) => (value) => setForm({ ...form, [name]: value });
  useEffect(() => {
    if (route.query.model) setForm({ ...form, model: route.query.model });
  }, [route.query.model]);
  const tools = useMemo(() => parsed(form.tools), [form.tools]);
  const ready = form.model.trim() && form.messages.some((one) => one.content.trim()) && !tools.fault;
  const body = FORMATS[form.format].body({ ...form, tools: tools.value });
  const { run, send, stop } = useRun(form, body);
  const [told, setTold] = useState(null);
  const keys = useApi("/api/v1/keys");
  const labels = useMemo(() => Object.fromEntries((keys.data?.data ?? []).map((one) => [one.id, one.label])), [keys.data]);
  const go = () => ready && run.phase !== "running" && (setTold(null), send());
  const pressed = (event) => event.key === "Enter" && (event.ctrlKey || event.metaKey) && (event.preventDefault(), go());
  const answer = () => setForm({ ...form, messages: [...form.messages, { role: "assistant", content: run.reply.text }, { role: "user", content: "" }] });
  return html`<div class="grid halves" onKeyDown=${pressed}>
    <${Card} label="Request">
      <${Request} form=${form} set=${set} fault=${tools.fault} />
      <div class="row">
        ${run.phase === "running"
          ? html`<${Button} kind="danger" onClick=${stop}>Stop</${Button}>`
          : html`<${Button} kind="primary" disabled=${!ready} onClick=${go} title="Ctrl and Enter">Send</${Button}>`}
        <span class="grow"></span>
        <${Button} onClick=${() => setForm({ ...START })}>Start anew</${Button}>
      </div>
    </${Card}>
    <div>
      <${Reply} run=${run} answer=${answer} />
      ${run.phase !== "running" && run.decisionId && html`<${Did} run=${run} />`}
      <${DryRun} form=${form} keys=${keys.data?.data ?? []} show=${setTold} />
      ${told && html`<${Would} told=${told} labels=${labels} />`}
      <${Snippets} format=${form.format} body=${body} objective=${form.objective} openMode=${session.open_mode} />
    </div>
  </div>`;
}

function parsed(text) {
  if (!text.trim()) return { value: undefined };
  try {
    const value = JSON.parse(text);
    return Array.isArray(value) ? { value } : { fault: "Tools are a list: [ … ]." };
  } catch (fault) {
    return { fault: `This is no JSON: ${fault.message}` };
  }
}

function Request({ form, set, fault }) {
  const suggested = useApi("/api/v1/models" + query({ limit: SUGGESTED }));
  return html`
    <${Field} label="Client format" value=${form.format} onInput=${set("format")} options=${Object.entries(FORMATS).map(([name, one]) => [name, one.title])} hint="Any model can be asked in any of them; the router translates." />
    <${Field} label="Model" value=${form.model} onInput=${set("model")} list="playground-models" autocomplete="off" spellcheck=${false} />
    <datalist id="playground-models">${(suggested.data?.data ?? []).map((one) => html`<option key=${one.id} value=${one.id}></option>`)}</datalist>
    <${Field} label="System prompt" rows="2" value=${form.system} onInput=${set("system")} />
    <${Messages} rows=${form.messages} change=${set("messages")} />
    <div class="filters">
      <${Field} label="Objective" value=${form.objective} onInput=${set("objective")} options=${OBJECTIVES} />
      <${Field} label="Most tokens" type="number" min="1" value=${form.max_tokens} onInput=${set("max_tokens")} />
      <${Field} label="Temperature" type="number" min="0" max="2" step="0.1" value=${form.temperature} onInput=${set("temperature")} placeholder="default" />
    </div>
    <${Field} label="Stream the reply" type="checkbox" value=${form.stream} onInput=${set("stream")} />
    <details open=${form.tools ? true : undefined}><summary>Tools</summary>
      <${Field} label="Tools as JSON" rows="5" value=${form.tools} onInput=${set("tools")} error=${fault} spellcheck=${false} hint=${`A list, in the words of ${FORMATS[form.format].title}.`} />
    </details>`;
}

function Messages({ rows, change }) {
  const edit = (index, part) => change(rows.map((one, place) => (place === index ? { ...one, ...part } : one)));
  return html`<fieldset class="plain"><legend>Messages</legend>
    ${rows.map((one, index) => html`<div key=${index} class="message">
      <div class="row">
        <${Field} label=${`Role of message ${index + 1}`} value=${one.role} onInput=${(role) => edit(index, { role })} options=${["user", "assistant"]} />
        <span class="grow"></span>
        ${rows.length > 1 && html`<${Button} kind="small" aria-label=${`Remove message ${index + 1}`} onClick=${() => change(rows.filter((_, place) => place !== index))}>Remove</${Button}>`}
      </div>
      <${Field} label=${`Message ${index + 1}`} rows="3" value=${one.content} onInput=${(content) => edit(index, { content })} />
    </div>`)}
    <${Button} kind="small" onClick=${() => change([...rows, { role: rows.at(-1)?.role === "user" ? "assistant" : "user", content: "" }])}>Add a message</${Button}>
  </fieldset>`;
}

const IDLE = { phase: "idle", reply: { text: "", tools: [] } };

/** One request at a time. `run`: { phase, reply, error?, status?, decisionId?, key?, provider?, firstMs?, tookMs? }. */
function useRun(form, body) {
  const [run, setRun] = useState(IDLE);
  const control = useRef(null);
  useEffect(() => () => control.current?.abort(), []);
  const send = async () => {
    control.current?.abort();
    const mine = (control.current = new AbortController());
    const began = performance.now();
    const now = { ...IDLE, phase: "running" };
    let drawn = 0;
    const show = (more) => {
      Object.assign(now, more);
      if (control.current !== mine) return;
      drawn ||= requestAnimationFrame(() => (drawn = 0, control.current === mine && setRun({ ...now })));
    };
    show({});
    try {
      await exchange(form, body, mine.signal, { began, now, show });
      show({ phase: now.error ? "failed" : "done", tookMs: performance.now() - began });
    } catch (fault) {
      const stopped = fault.name === "AbortError";
      show({ phase: stopped ? "stopped" : "failed", tookMs: performance.now() - began,
             error: stopped ? undefined : `The proxy does not answer: ${fault.message}.` });
    }
  };
  return { run, send, stop: () => control.current?.abort() };
}

async function exchange(form, body, signal, { began, now, show }) {
  const format = FORMATS[form.format];
  const headers = { "content-type": "application/json", ...writeHeaders() };
  if (form.objective) headers["x-akr-objective"] = form.objective;
  const answer = await fetch("/dashboard/v1/" + format.path, { method: "POST", headers, body: JSON.stringify(body), signal });
  const told = (name) => answer.headers.get(name) ?? undefined;
  show({ status: answer.status, decisionId: told("x-akr-decision"), key: told("x-akr-key"), provider: told("x-akr-provider"), firstMs: performance.now() - began });
  if (!answer.ok) {
    const text = await answer.text();
    show({ error: wordsOf(text) ?? `The proxy answered ${answer.status}.` });
  } else if (!answer.headers.get("content-type")?.includes("event-stream")) {
    const reply = await answer.json();
    show({ reply: format.whole(reply).reduce(add, now.reply) });
  } else {
    for await (const event of events(answer.body)) {
      for (const piece of format.event(event)) show(piece.error ? { error: piece.error } : { reply: add(now.reply, piece) });
    }
  }
}

function wordsOf(text) {
  try {
    const { error } = JSON.parse(text);
    return error.message + (error.code ? ` (${error.code})` : "");
  } catch {
    return text || null;
  }
}

const SAID = { running: ["warn", "under way"], done: ["good", "done"], stopped: ["plain", "stopped by you"], failed: ["bad", "failed"] };

function Reply({ run, answer }) {
  const [tone, word] = SAID[run.phase] ?? [];
  const { text, tools } = run.reply;
  const badge = word && html`<${Badge} tone=${tone}>${word}</${Badge}>`;
  return html`<${Card} title="Reply" actions=${badge}>
    ${run.error && html`<${ErrorNote} error=${{ message: (run.status && run.status >= 400 ? `${run.status}: ` : "") + run.error }} />`}
    ${run.phase === "idle"
      ? html`<${Empty} title="Nothing was sent yet"><p>What comes back is shown here as it arrives, with who served it, and why.</p></${Empty}>`
      : html`<pre class="reply" id="playground-reply" role="log" aria-label="Reply" aria-busy=${run.phase === "running"}>${text}</pre>`}
    ${tools.map((one, index) => html`<p key=${index}>Calls <strong>${one.name}</strong></p><pre class="code">${one.args}</pre>`)}
    ${run.phase === "done" && text && html`<div class="row"><${Button} kind="small" onClick=${answer}>Continue the conversation</${Button}><span class="muted">${milliseconds(run.tookMs)}</span></div>`}
  </${Card}>`;
}

const NONE = "";

function DryRun({ form, keys, show }) {
  const [without, setWithout] = useState(NONE);
  const [objective, setObjective] = useState("");
  const [ask, busy, error] = useAction(async () => {
    const { model, messages, max_tokens: most } = FORMATS.chat.body({ ...form, tools: undefined, stream: false });
    const wish = { objective: objective || form.objective || undefined, without: without ? [without] : undefined };
    show(await api.post("/api/v1/route", { model, messages: messages.length ? messages : undefined, max_tokens: most, ...wish }));
  });
  return html`<${Card} title="Who would serve it?">
    <div class="filters wide-fields">
      <${Field} label="With objective" value=${objective} onInput=${setObjective} options=${[["", "As in the request"], ...OBJECTIVES.slice(1)]} />
      <${Field} label="Without the key" value=${without} onInput=${setWithout} options=${[[NONE, "All keys may serve"], ...keys.map((one) => [one.label, `${one.label} (${one.provider_id})`])]} />
      <${Button} busy=${busy} disabled=${!form.model.trim()} onClick=${ask}>Dry run</${Button}>
    </div>
    <p class="muted">Nothing is sent, held or counted.</p>
    <${ErrorNote} error=${error} retry=${ask} />
  </${Card}>`;
}
