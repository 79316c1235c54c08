// What can be done with clients: add one (its key is shown once), change it, revoke it; and how to use a key.

import { html, useState } from "../lib/preact.js";
import { api } from "../lib/api.js";
import { useAction, useApi, useKept } from "../lib/hooks.js";
import { Button, Confirm, Copy, Dialog, ErrorNote, Field, toast, useId } from "../components/ui.js";
import { go, pathOf } from "../lib/route.js";
import { moment } from "../lib/format.js";

const path = (key) => "/api/v1/virtual-keys/" + encodeURIComponent(key.id);
const number = (text) => (String(text).trim() === "" ? null : Number(text));
const words = (text) => text.split(",").map((word) => word.trim()).filter(Boolean);
const ENDS = [["", "Never"], ["1", "In a day"], ["7", "In a week"], ["30", "In 30 days"], ["90", "In 90 days"], ["365", "In a year"]];

function tagsOf(text) {
  const tags = words(text).map((tag) => tag.split("=").map((part) => part.trim()));
  if (tags.some((parts) => parts.length !== 2 || !parts[0] || !parts[1])) throw new Error("A tag is name=value, such as feature=search; several are separated by commas.");
  return Object.fromEntries(tags);
}

const limitsOf = (form) => ({ rpm: number(form.rpm), tpm: number(form.tpm), parallel: number(form.parallel), weight: number(form.weight) ?? 1 });
const inDays = (days) => new Date(Date.now() + days * 86400e3).toISOString();

function bodyOf(form) {
  const body = { name: form.name.trim(), role: form.role, ...limitsOf(form), tags: tagsOf(form.tags) };
  if (words(form.models).length) body.models = words(form.models);
  if (words(form.providers).length) body.providers = words(form.providers);
  if (form.team.trim()) body.team = form.team.trim();
  if (form.days) body.expires_at = inDays(form.days);
  return body;
}

/** What is known of teams, as suggestions. */
function Team({ value, onInput }) {
  const others = useApi("/api/v1/virtual-keys");
  const list = useId();
  const teams = [...new Set((others.data?.data ?? []).map((key) => key.team).filter(Boolean))].sort();
  return html`<${Field} label="Team" value=${value} onInput=${onInput} list=${list} hint="Whose budgets and reports count it. May be empty." />
    <datalist id=${list}>${teams.map((team) => html`<option key=${team} value=${team}></option>`)}</datalist>`;
}

const Models = ({ form, set }) =>
  html`<${Field} label="Models" value=${form.models} onInput=${set("models")} placeholder="gpt-4o*, claude-*" hint="Names or patterns, separated by commas. Empty: all." />`;

const Others = ({ form, set }) => html`
  <${Field} label="Providers" value=${form.providers} onInput=${set("providers")} placeholder="openai, anthropic" hint="Ids, separated by commas. Empty: all." />
  <${Field} label="Tags" value=${form.tags} onInput=${set("tags")} placeholder="feature=search, env=prod" hint="Each of its requests carries them; budgets and reports can count them." />`;

export function AddClient({ onClose, done }) {
  const [form, setForm] = useState({ name: "", role: "client", team: "", models: "", providers: "", tags: "", days: "", rpm: "", tpm: "", parallel: "", weight: "" });
  const [made, setMade] = useState(null);
  const set = (name) => (value) => setForm((now) => ({ ...now, [name]: value }));
  const [submit, busy, error] = useAction(async () => {
    setMade(await api.post("/api/v1/virtual-keys", bodyOf(form)));
    done();
  });
  if (made) return html`<${Issued} made=${made} onClose=${onClose} />`;
  return html`<${Dialog} title="Add a client" onClose=${onClose}>
    <form onSubmit=${(event) => (event.preventDefault(), submit())}>
      <div class="body">
        <${Field} label="Name" value=${form.name} onInput=${set("name")} required maxlength="64" placeholder="web-app" hint="Who or what it is for." />
        <div class="pair">
          <div><${Team} value=${form.team} onInput=${set("team")} /></div>
          <${Field} label="Expires" value=${form.days} onInput=${set("days")} options=${ENDS} />
        </div>
        <${Models} form=${form} set=${set} />
        <details><summary>Limits</summary><${Limits} form=${form} set=${set} /></details>
        <details><summary>Role, providers and tags</summary>
          <${Field} label="Role" value=${form.role} onInput=${set("role")} options=${[["client", "Client: requests only"], ["admin", "Admin: the management API and this dashboard too"]]} />
          <${Others} form=${form} set=${set} />
        </details>
        <${ErrorNote} error=${error} />
      </div>
      <footer><${Button} onClick=${onClose}>Cancel</${Button}><button class="button primary" disabled=${busy || !form.name.trim()}>Add</button></footer>
    </form>
  </${Dialog}>`;
}

const Limits = ({ form, set }) => html`<div class="pair">
  <${Field} label="Requests a minute" type="number" min="1" value=${form.rpm} onInput=${set("rpm")} hint="Empty: no limit." />
  <${Field} label="Tokens a minute" type="number" min="1" value=${form.tpm} onInput=${set("tpm")} hint="Input and output together." />
  <${Field} label="Requests at once" type="number" min="1" value=${form.parallel} onInput=${set("parallel")} />
  <${Field} label="Weight" type="number" min="0" step="any" value=${form.weight} onInput=${set("weight")} hint="Its share while requests wait; 1 when empty." />
</div>`;

/** The only moment at which the key is known: it lives in this dialog and is gone with it. */
function Issued({ made, onClose }) {
  const close = () => {
    onClose();
    go(pathOf("clients", [made.id]));
  };
  return html`<${Dialog} title=${`The key of ${made.name}`} onClose=${close}>
    <div class="body">
      <p><strong>Copy it now.</strong> It is stored as a hash and cannot be shown again.</p>
      <div class="once"><code id="issued-key">${made.key}</code><${Copy} text=${made.key} label="Copy the key" /></div>
      ${made.closes_open_mode && html`<p>This is the first key, so open mode is over: from now on everybody needs a key for <code>/v1</code>.</p>`}
      <h3>Ready to paste</h3>
      <${Snippets} value=${made.key} model=${made.models?.[0]} />
    </div>
    <footer><${Button} kind="primary" onClick=${close}>I have it</${Button}></footer>
  </${Dialog}>`;
}

const plainModel = (model) => (model && !/[*?[]/.test(model) ? model : "gpt-4o-mini");
const SNIPPETS = {
  Python: (key, model, base) => `from openai import OpenAI

client = OpenAI(
    base_url="${base}/v1",
    api_key="${key}",
)
reply = client.chat.completions.create(
    model="${model}",
    messages=[{"role": "user", "content": "Hello!"}],
)
print(reply.choices[0].message.content)`,
  Node: (key, model, base) => `import OpenAI from "openai";

const client = new OpenAI({
  baseURL: "${base}/v1",
  apiKey: "${key}",
});
const reply = await client.chat.completions.create({
  model: "${model}",
  messages: [{ role: "user", content: "Hello!" }],
});
console.log(reply.choices[0].message.content);`,
  curl: (key, model, base) => `curl ${base}/v1/chat/completions \\
  -H "Authorization: Bearer ${key}" \\
  -H "Content-Type: application/json" \\
  -d '{"model": "${model}", "messages": [{"role": "user", "content": "Hello!"}]}'`,
  "Claude Code": (key, _, base) => `export ANTHROPIC_BASE_URL=${base}
export ANTHROPIC_AUTH_TOKEN=${key}
claude`,
  Environment: (key, _, base) => `export OPENAI_BASE_URL=${base}/v1
export OPENAI_API_KEY=${key}`,
};

/** How programs use a key, one way at a time. */
export function Snippets({ value, model }) {
  const [shown, setShown] = useKept("akr-snippet", "Python");
  const name = shown in SNIPPETS ? shown : "Python";
  const text = SNIPPETS[name](value, plainModel(model), location.origin);
  return html`<${Field} label="For" value=${name} onInput=${setShown} options=${Object.keys(SNIPPETS)} />
    <div class="snippet"><pre tabindex="0" aria-label=${name}>${text}</pre><${Copy} text=${text} /></div>`;
}

const KEEP = "keep";

/** Everything that can be changed of a client; only what was changed is sent. */
export function EditClient({ subject, onClose, done }) {
  const shown = (value) => (value == null ? "" : Array.isArray(value) ? value.join(", ") : String(value));
  const [form, setForm] = useState(() => ({
    name: subject.name, team: shown(subject.team), models: shown(subject.models), providers: shown(subject.providers), ends: KEEP,
    tags: Object.entries(subject.tags).map(([name, value]) => `${name}=${value}`).join(", "),
    rpm: shown(subject.rpm), tpm: shown(subject.tpm), parallel: shown(subject.parallel), weight: shown(subject.weight),
  }));
  const set = (name) => (value) => setForm((now) => ({ ...now, [name]: value }));
  const [submit, busy, error] = useAction(async () => {
    const list = (text) => (words(text).length ? words(text) : null);
    const now = { name: form.name.trim(), team: form.team.trim() || null, models: list(form.models), providers: list(form.providers), tags: tagsOf(form.tags), ...limitsOf(form) };
    if (form.ends !== KEEP) now.expires_at = form.ends ? inDays(form.ends) : null;
    const body = Object.fromEntries(Object.entries(now).filter(([name, value]) => JSON.stringify(value) !== JSON.stringify(subject[name] ?? null)));
    if (Object.keys(body).length) await api.patch(path(subject), body);
    toast(Object.keys(body).length ? "Saved; it holds from now on." : "Nothing was changed.");
    onClose();
    done();
  });
  const until = subject.expires_at ? `As it is: ${moment(subject.expires_at)}` : "As it is: never";
  return html`<${Dialog} title=${`Change ${subject.name}`} onClose=${onClose}>
    <form onSubmit=${(event) => (event.preventDefault(), submit())}>
      <div class="body">
        <${Field} label="Name" value=${form.name} onInput=${set("name")} required maxlength="64" />
        <div class="pair">
          <div><${Team} value=${form.team} onInput=${set("team")} /></div>
          <${Field} label="Expires" value=${form.ends} onInput=${set("ends")} options=${[[KEEP, until], ...(subject.expires_at ? ENDS : ENDS.slice(1))]} />
        </div>
        <${Models} form=${form} set=${set} />
        <${Limits} form=${form} set=${set} />
        <details><summary>Providers and tags</summary><${Others} form=${form} set=${set} /></details>
        <p class="muted">It holds at once, in every process. What was used stays used; the key and its role stay the same.</p>
        <${ErrorNote} error=${error} />
      </div>
      <footer><${Button} onClick=${onClose}>Cancel</${Button}><button class="button primary" disabled=${busy || !form.name.trim()}>Save</button></footer>
    </form>
  </${Dialog}>`;
}

export const RevokeClient = ({ subject, onClose, done }) => {
  const [typed, setTyped] = useState("");
  return html`<${Confirm} title=${`Revoke the key of ${subject.name} for good?`} verb="Revoke" onClose=${onClose}
      action=${async () => {
        if (typed !== subject.name) throw new Error(`Type ${subject.name} to confirm.`);
        await api.remove(path(subject));
        toast(`${subject.name} is revoked.`);
        done();
      }}>
    <p>Whoever uses it is refused from now on, in every process. It cannot be taken back: issue another key instead.</p>
    <${Field} label=${`Type ${subject.name} to confirm`} value=${typed} onInput=${setTyped} autocomplete="off" />
  </${Confirm}>`;
};
