// From zero to the first real reply, in three steps; each is ticked off when it is done.

import { html, useState } from "../lib/preact.js";
import { Link, pathOf } from "../lib/route.js";
import { Button, Card, Copy, Field } from "../components/ui.js";
import { AddKey } from "./key_actions.js";
import { snippet } from "./playground_snippets.js";

const HELLO = { model: "gpt-4o-mini", messages: [{ role: "user", content: "Hello!" }] };
const LANGUAGES = [["python", "Python"], ["node", "Node"], ["curl", "curl"], ["env", "Environment"]];

function code(language, key) {
  if (language === "env") return `export OPENAI_BASE_URL=${location.origin}/v1\nexport OPENAI_API_KEY=${key}\n`;
  return snippet(language, { format: "chat", body: HELLO, objective: "", key });
}

export function Guide({ state, session, reload }) {
  const [adding, setAdding] = useState(false);
  const [language, setLanguage] = useState("python");
  const hasKey = !state.simulated && state.keys.total > 0;
  const text = code(language, session.open_mode ? "unused" : "YOUR_VIRTUAL_KEY");
  return html`<${Card} title="Three steps to the first reply" label="Setting up">
    <ol class="steps" id="guide">
      <li class=${hasKey ? "done" : ""}>
        <h3>Add a provider's key</h3>
        <p class="muted">${hasKey ? "Done. More keys share the load, and stand in for each other." : "It is stored encrypted. Until then a simulated provider answers, so that you can try everything."}</p>
        <${Button} kind=${hasKey ? "plain" : "primary"} onClick=${() => setAdding(true)}>${hasKey ? "Add another key" : "Add a key"}</${Button}>
        ${!hasKey && html` <${Link} class="button" to=${pathOf("config", ["import"])}>Move from LiteLLM or LLM-API-Key-Proxy</${Link}>`}
      </li>
      <li>
        <h3>Point your SDK here</h3>
        <p class="muted">Only the base URL changes.${!session.open_mode && html` The key is a <${Link} to=${pathOf("clients")}>virtual key</${Link}> of your own making.`}</p>
        <div class="filters"><${Field} label="Language" value=${language} onInput=${setLanguage} options=${LANGUAGES} /><${Copy} text=${text} label="Copy the code" /></div>
        <pre class="code" tabindex="0" aria-label="Code of a first request">${text}</pre>
      </li>
      <li>
        <h3>Watch a request being routed</h3>
        <p class="muted">Send one from the playground: who served it, why, and what it cost is shown beside the reply.</p>
        <${Link} class="button" to=${pathOf("playground")}>Open the playground</${Link}>
      </li>
    </ol>
    ${adding && html`<${AddKey} onClose=${() => setAdding(false)} done=${reload} />`}
  </${Card}>`;
}
