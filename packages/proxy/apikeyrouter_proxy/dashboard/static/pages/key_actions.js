// What can be done to a key. Material is typed, sent and forgotten: it is kept in no state after the dialog closes.

import { html, useState } from "../lib/preact.js";
import { api } from "../lib/api.js";
import { useAction, useApi } from "../lib/hooks.js";
import { Button, Confirm, Dialog, ErrorNote, Field, toast } from "../components/ui.js";
import { plural } from "../lib/format.js";

const path = (key) => "/api/v1/keys/" + encodeURIComponent(key.id);
const number = (text) => (text.trim() === "" ? undefined : Number(text));

export function AddKey({ onClose, done }) {
  const providers = useApi("/api/v1/providers");
  const [form, setForm] = useState({ provider_id: "openai", key_material: "", label: "", rpm: "", tpm: "", weight: "", tags: "" });
  const set = (name) => (value) => setForm((now) => ({ ...now, [name]: value }));
  const [submit, busy, error] = useAction(async () => {
    const tags = form.tags.split(",").map((tag) => tag.trim()).filter(Boolean);
    const metadata = Object.fromEntries(
      Object.entries({ rpm: number(form.rpm), tpm: number(form.tpm), weight: number(form.weight), tags: tags.length ? tags : undefined })
        .filter(([, value]) => value !== undefined));
    const body = { provider_id: form.provider_id, key_material: form.key_material, metadata };
    if (form.label.trim()) body.label = form.label.trim();
    const key = await api.post("/api/v1/keys", body);
    toast(`${key.label} was added and may serve.`);
    onClose();
    done?.(key);
  });
  const known = providers.data?.data.map((one) => one.id).filter((id) => id !== "simulated") ?? ["openai"];
  return html`<${Dialog} title="Add a key" onClose=${onClose}>
    <form onSubmit=${(event) => (event.preventDefault(), submit())}>
      <div class="body">
        <${Field} label="Provider" value=${form.provider_id} onInput=${set("provider_id")} options=${known} hint="Another one? Add it under Models and providers." />
        <${Field} label="Key" type="password" value=${form.key_material} onInput=${set("key_material")} required autocomplete="off" hint="Stored encrypted. Nobody can read it back." />
        <${Field} label="Label" value=${form.label} onInput=${set("label")} hint="A short name that is safe to show. Left empty: provider and number." />
        <details><summary>Limits and weight</summary>
          <${Field} label="Requests a minute" type="number" min="1" value=${form.rpm} onInput=${set("rpm")} hint="Only where the provider does not tell; what it tells counts first." />
          <${Field} label="Tokens a minute" type="number" min="1" value=${form.tpm} onInput=${set("tpm")} />
          <${Field} label="Weight" type="number" min="0" step="any" value=${form.weight} onInput=${set("weight")} hint="Its share of traffic beside others; 1 when empty." />
          <${Field} label="Tags" value=${form.tags} onInput=${set("tags")} hint="Separated by commas; policies and objectives can name them." />
        </details>
        <${ErrorNote} error=${error} />
      </div>
      <footer><${Button} onClick=${onClose}>Cancel</${Button}><button class="button primary" disabled=${busy || !form.key_material.trim()}>Add</button></footer>
    </form>
  </${Dialog}>`;
}

export function RotateKey({ subject, onClose, done }) {
  const [material, setMaterial] = useState("");
  const [overlap, setOverlap] = useState("");
  const [submit, busy, error] = useAction(async () => {
    await api.post(path(subject) + "/rotate", { key_material: material, overlap_s: number(overlap) });
    toast(`${subject.label} has new material.`);
    onClose();
    done();
  });
  return html`<${Dialog} title=${`Replace the material of ${subject.label}`} onClose=${onClose}>
    <form onSubmit=${(event) => (event.preventDefault(), submit())}>
      <div class="body">
        <${Field} label="New key" type="password" value=${material} onInput=${setMaterial} required autocomplete="off" hint="Used from now on. Label, limits and history stay." />
        <${Field} label="Keep the old one as a way back, seconds" type="number" min="0" max="86400" value=${overlap} onInput=${setOverlap} hint="Left empty: the router's setting." />
        <${ErrorNote} error=${error} />
      </div>
      <footer><${Button} onClick=${onClose}>Cancel</${Button}><button class="button primary" disabled=${busy || !material.trim()}>Replace</button></footer>
    </form>
  </${Dialog}>`;
}

export function EditKey({ subject, onClose, done }) {
  const [label, setLabel] = useState(subject.label);
  const [metadata, setMetadata] = useState(JSON.stringify(subject.metadata, null, 2));
  const [submit, busy, error] = useAction(async () => {
    let told;
    try {
      told = JSON.parse(metadata);
    } catch (fault) {
      throw new Error("The facts are no JSON: " + fault.message);
    }
    const gone = Object.fromEntries(Object.keys(subject.metadata).filter((name) => !(name in told)).map((name) => [name, null]));
    await api.patch(path(subject), { label, metadata: { ...gone, ...told } });
    toast(`${label} was changed.`);
    onClose();
    done();
  });
  return html`<${Dialog} title=${`Change ${subject.label}`} onClose=${onClose}>
    <form onSubmit=${(event) => (event.preventDefault(), submit())}>
      <div class="body">
        <${Field} label="Label" value=${label} onInput=${setLabel} required />
        <${Field} label="Facts" rows=${10} value=${metadata} onInput=${setMetadata} hint="weight, models, rpm, tpm, quota_pool, base_url, cost_per_1k, tags, and your own notes." />
        <${ErrorNote} error=${error} />
      </div>
      <footer><${Button} onClick=${onClose}>Cancel</${Button}><button class="button primary" disabled=${busy}>Save</button></footer>
    </form>
  </${Dialog}>`;
}

export const DisableKey = ({ subject, onClose, done }) => {
  const [reason, setReason] = useState("");
  return html`<${Confirm} title=${`Disable ${subject.label}?`} verb="Disable" onClose=${onClose}
      action=${async () => { await api.post(path(subject) + "/disable", { reason }); toast(`${subject.label} is disabled.`); done(); }}>
    <p>It serves nobody until it is enabled again. Requests under way are finished.</p>
    <${Field} label="Reason" value=${reason} onInput=${setReason} maxlength="200" />
  </${Confirm}>`;
};

export const RevokeKey = ({ subject, onClose, done }) => {
  const [typed, setTyped] = useState("");
  return html`<${Confirm} title=${`Revoke ${subject.label} for good?`} verb="Revoke" onClose=${onClose}
      action=${async () => {
        if (typed !== subject.label) throw new Error(`Type ${subject.label} to confirm.`);
        await api.remove(path(subject));
        toast(`${subject.label} is revoked, its material destroyed.`);
        done();
      }}>
    <p>Its material is destroyed here. At the provider it stays valid until you delete it there.</p>
    <${Field} label=${`Type ${subject.label} to confirm`} value=${typed} onInput=${setTyped} autocomplete="off" />
  </${Confirm}>`;
};

/** Asks the provider for its models with this key alone. */
export function TryKey({ subject, done }) {
  const [run, busy, error] = useAction(async () => {
    const checked = await api.post(path(subject) + "/check");
    toast(checked.ok ? `${subject.label} works: ${plural(checked.models ?? 0, "model")}.` : `${subject.label}: ${checked.detail}`);
    done();
  });
  return html`<${Button} busy=${busy} onClick=${run} title=${error?.message}>Try</${Button}>${error && html`<span class="fault" role="alert">${error.message}</span>`}`;
}

export function EnableKey({ subject, done }) {
  const [run, busy, error] = useAction(async () => {
    await api.post(path(subject) + "/enable");
    toast(`${subject.label} may serve again.`);
    done();
  });
  return html`<${Button} busy=${busy} onClick=${run}>Enable</${Button}>${error && html`<span class="fault" role="alert">${error.message}</span>`}`;
}
