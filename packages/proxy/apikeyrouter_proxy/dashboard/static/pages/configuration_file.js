// The configuration file: its text, secrets masked; changes are tried here, written by whoever owns the file, and read
// again from here. A text is tried while it is typed: faults with line and column, or what would differ from what runs.

import { html, useEffect, useRef, useState } from "../lib/preact.js";
import { api } from "../lib/api.js";
import { useAction, useApi } from "../lib/hooks.js";
import { Badge, Button, Card, Copy, ErrorNote, Field, Loaded, toast } from "../components/ui.js";
import { plural } from "../lib/format.js";

const WAIT_MS = 500;
const EXAMPLE = `# Try a configuration here before you start with one: apikeyrouter serve --config apikeyrouter.yaml
providers:
  openai: {}
keys:
  first: {provider: openai, secret: "\${OPENAI_API_KEY}"}
budgets:
  daily: {limit: 5, period: daily}
`;

export function File() {
  const file = useApi("/api/v1/config/file");
  return html`<${Loaded} of=${file} what="Loading the file">${(told) => html`<${Editor} key=${told.path} told=${told} again=${file.reload} />`}</${Loaded}>`;
}

function Editor({ told, again }) {
  const start = told.text ?? EXAMPLE;
  const [text, setText] = useState(start);
  const checked = useChecked(text);
  const area = useRef(null);
  useEffect(() => setText(start), [told.text]);
  const show = ({ line, column }) => {
    const input = area.current.querySelector("textarea");
    const lines = text.split("\n");
    const at = lines.slice(0, line - 1).reduce((sum, one) => sum + one.length + 1, 0) + column - 1;
    input.focus();
    input.setSelectionRange(at, at + Math.max(1, (lines[line - 1] ?? "").length - column + 1));
  };
  const open = async (event) => {
    const [chosen] = event.target.files;
    if (chosen) setText(await chosen.text());
    event.target.value = "";
  };
  return html`<div class="grid halves">
    <${Card} title=${told.path ?? "A text to try"} actions=${html`<${Copy} text=${text} label="Copy the text" />`}>
      ${told.why_not && html`<p class="muted">${told.why_not}</p>`}
      ${told.text !== null && html`<p class="muted">Secrets are shown as <code>${told.mask}</code>, and count as those that run. Nothing is written: put the text into the file, then read it again.</p>`}
      <div ref=${area}><${Field} label="Text" rows="24" value=${text} onInput=${setText} spellcheck=${false} wrap="off" /></div>
      <div class="row">
        <${Button} disabled=${text === start} onClick=${() => setText(start)}>${told.text === null ? "Back to the example" : "Back to the file"}</${Button}>
        <label class="button file">Open a file<input type="file" accept=".yaml,.yml,.json,text/plain" onChange=${open} /></label>
      </div>
    </${Card}>
    <div>
      <${Checked} state=${checked} show=${show} same=${text === start && told.text !== null} />
      ${told.path && html`<${Reload} again=${again} />`}
    </div>
  </div>`;
}

/** What the server says of a text, soon after it was typed. */
function useChecked(text) {
  const [state, setState] = useState({ busy: true, told: null, error: null });
  useEffect(() => {
    const control = new AbortController();
    setState((now) => ({ ...now, busy: true }));
    const timer = setTimeout(() => {
      api.post("/api/v1/config/check", { text }, { signal: control.signal }).then(
        (told) => setState({ busy: false, told, error: null }),
        (error) => control.signal.aborted || setState({ busy: false, told: null, error }));
    }, WAIT_MS);
    return () => (clearTimeout(timer), control.abort());
  }, [text]);
  return state;
}

function Checked({ state, show, same }) {
  const { busy, told, error } = state;
  const word = busy ? ["plain", "checking"] : told?.ok ? ["good", "usable"] : ["bad", told ? plural(told.faults.length, "fault") : "not checked"];
  return html`<${Card} title="Check" actions=${html`<span role="status"><${Badge} tone=${word[0]}>${word[1]}</${Badge}></span>`}>
    <${ErrorNote} error=${error} />
    ${told?.faults.length > 0 && html`<ol class="faults" id="config-faults">${told.faults.map((one, index) => html`<li key=${index}>
      ${one.line !== null && html`<${Button} kind="small" onClick=${() => show(one)}>Line ${one.line}, column ${one.column}</${Button}> `}
      ${one.where && html`<code>${one.where}</code> `}${one.message}${one.hint && html`<br /><span class="muted">${one.hint}</span>`}
    </li>`)}</ol>`}
    ${told?.ok && html`<${Changes} told=${told} nothing=${same ? "The file and what runs are the same." : "Nothing would differ from what runs."} title="would differ from what runs" />`}
  </${Card}>`;
}

const TONES = { added: "good", removed: "bad", changed: "warn" };

function Changes({ told, nothing, title }) {
  return html`
    ${told.changes.length ? html`<p>${plural(told.changes.length, "member")} ${title}:</p>` : html`<p class="muted">${nothing}</p>`}
    <ul class="changes" id="config-changes">${told.changes.map((one) => html`<li key=${one.where + one.what}>
      <${Badge} tone=${TONES[one.what]}>${one.what}</${Badge}> <code>${one.where}</code>
      ${one.what === "changed" ? html` <span class="muted">${one.before || "nothing"} → ${one.after || "nothing"}</span>` : one.after && html` <span class="muted">${one.after}</span>`}
      ${told.restart.includes(one.where) && html` <${Badge} tone="warn">after a restart</${Badge}>`}
    </li>`)}</ul>
    ${told.notes.map((one) => html`<p key=${one} class="muted">${one}</p>`)}`;
}

function Reload({ again }) {
  const [done, setDone] = useState(null);
  const [run, busy, error] = useAction(async () => {
    setDone(null);
    setDone(await api.post("/api/v1/config/reload"));
    toast("The file was read again.");
    again();
  });
  return html`<${Card} title="Read the file again" actions=${html`<${Button} kind="primary" busy=${busy} onClick=${run}>Reload</${Button}>`}>
    <p class="muted">What stands in the file on disk is applied whole, in every process, or not at all.</p>
    <${ErrorNote} error=${error} retry=${run} />
    ${done && html`<${Changes} told=${done} nothing="Nothing was different." title="applied" />${done.done.map((one) => html`<p key=${one}>${one}</p>`)}`}
  </${Card}>`;
}
