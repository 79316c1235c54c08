// Moving here: a configuration of LiteLLM or LLM-API-Key-Proxy is pasted or chosen, and becomes one of ours, with what was
// left out and what to do next. The text is translated as text: nothing of it is kept, and nothing is applied.

import { html, useEffect, useRef, useState } from "../lib/preact.js";
import { api } from "../lib/api.js";
import { useAction } from "../lib/hooks.js";
import { Badge, Button, Card, Copy, Empty, ErrorNote, Field } from "../components/ui.js";
import { plural } from "../lib/format.js";

const KINDS = [["auto", "Find out"], ["litellm", "LiteLLM: config.yaml"], ["llm-api-key-proxy", "LLM-API-Key-Proxy: .env"], ["llm-api-key-proxy-js", "LLM-API-Key-Proxy: config.js"]];
const NAMES = Object.fromEntries(KINDS);
const HINT = "model_list:\n  - model_name: gpt-4o\n    litellm_params:\n      model: openai/gpt-4o\n      api_key: os.environ/OPENAI_API_KEY";

export function Import() {
  const [text, setText] = useState("");
  const [kind, setKind] = useState("auto");
  const [made, setMade] = useState(null);
  const [run, busy, error] = useAction(async () => {
    setMade(null);
    setMade(await api.post("/api/v1/config/import", { text, kind }));
  });
  const open = async (event) => {
    const [chosen] = event.target.files;
    if (chosen) setText(await chosen.text());
    event.target.value = "";
  };
  const result = useRef(null);
  useEffect(() => void (made && result.current?.focus()), [made]);
  return html`<div class="grid halves">
    <${Card} title="Bring your configuration">
      <p class="muted">From LiteLLM or LLM-API-Key-Proxy. It is translated as text: references to variables stay references, secrets are not repeated, and nothing is kept or applied.</p>
      <form onSubmit=${(event) => (event.preventDefault(), run())}>
        <${Field} label="Its text" rows="18" value=${text} onInput=${setText} spellcheck=${false} wrap="off" placeholder=${HINT} autocomplete="off" />
        <${Field} label="What it is" value=${kind} onInput=${setKind} options=${KINDS} />
        <${ErrorNote} error=${error} />
        <div class="row">
          <button class="button primary" disabled=${busy || !text.trim()} aria-busy=${busy}>Translate</button>
          <label class="button file">Open a file<input type="file" accept=".yaml,.yml,.env,.js,.cjs,.mjs,text/plain" onChange=${open} /></label>
          <${Button} disabled=${!text && !made} onClick=${() => (setText(""), setMade(null))}>Clear</${Button}>
        </div>
      </form>
    </${Card}>
    <div ref=${result} tabindex="-1" class="result" aria-live="polite">
      ${made ? (made.ok ? html`<${Made} made=${made} />` : html`<${Broken} made=${made} />`)
        : html`<${Card} label="Result"><${Empty} title="Your apikeyrouter.yaml"><p>appears here, with everything that could not be taken over.</p></${Empty}></${Card}>`}
    </div>
  </div>`;
}

const Broken = ({ made }) => html`<${Card} title=${`Not readable as ${NAMES[made.kind]}`}>
  <ol class="faults" id="import-faults">${made.faults.map((one, index) => html`<li key=${index}>
    ${one.line !== null && html`<strong>Line ${one.line}, column ${one.column}:</strong> `}${one.message}${one.hint && html`<br /><span class="muted">${one.hint}</span>`}</li>`)}</ol>
</${Card}>`;

const COUNTED = { providers: ["provider"], keys: ["key"], deployments: ["deployment"], budgets: ["budget"] };

function Made({ made }) {
  const counted = Object.entries(made.counts).map(([name, n]) => plural(n, ...COUNTED[name]));
  return html`
    <${Card} title="Your apikeyrouter.yaml" actions=${html`<${Copy} text=${made.text} label="Copy" /><${Download} text=${made.text} />`}>
      <p><${Badge} tone="good">${NAMES[made.kind].split(":")[0]}</${Badge}> ${counted.join(", ") || "No object"} taken over.</p>
      <pre class="code" id="import-text" tabindex="0" aria-label="apikeyrouter.yaml">${made.text}</pre>
    </${Card}>
    <${Card} title=${made.unmapped.length ? `Not taken over: ${made.unmapped.length}` : "Everything was taken over"}>
      ${made.unmapped.length > 0 && html`<ul class="faults" id="import-unmapped">${made.unmapped.map((line) => html`<li key=${line}>${line}</li>`)}</ul>`}
    </${Card}>
    <${Next} made=${made} />`;
}

/** A link to the text as a file, which lives as long as it is shown. */
function Download({ text }) {
  const [address, setAddress] = useState(null);
  useEffect(() => {
    const made = URL.createObjectURL(new Blob([text], { type: "text/yaml" }));
    setAddress(made);
    return () => URL.revokeObjectURL(made);
  }, [text]);
  return address && html`<a class="button small" href=${address} download="apikeyrouter.yaml">Download</a>`;
}

function Next({ made }) {
  const [replaced, named] = [made.variables.filter((one) => one.replaced), made.variables.filter((one) => !one.replaced)];
  const list = (those) => html`<ul class="plain">${those.map((one) => html`<li key=${one.name}><code>${one.name}</code> <span class="muted">for ${one.where}</span></li>`)}</ul>`;
  return html`<${Card} title="What to do next"><ol class="steps" id="import-next">
    ${replaced.length > 0 && html`<li><strong>Set ${plural(replaced.length, "variable")} to the secrets of your text.</strong> They stood in the clear and were not copied.${list(replaced)}</li>`}
    ${named.length > 0 && html`<li><strong>Keep ${plural(named.length, "variable")} set</strong> where the proxy runs, as your text named ${named.length === 1 ? "it" : "them"}.${list(named)}</li>`}
    <li><strong>Save the file as <code>apikeyrouter.yaml</code></strong> on the machine of the proxy, and check it: <code>apikeyrouter config check apikeyrouter.yaml</code></li>
    <li><strong>Start with it:</strong> <code>apikeyrouter serve --config apikeyrouter.yaml</code></li>
    <li><strong>Point clients at <code>${location.origin}/v1</code>.</strong> Names of models stay what they were.</li>
  </ol></${Card}>`;
}
