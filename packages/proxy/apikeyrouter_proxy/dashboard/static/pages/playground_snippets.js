// The same request as code: curl, Python and Node, for each client format. Whoever copies it gets what the page sent.

import { html, useState } from "../lib/preact.js";
import { Card, Copy, Field } from "../components/ui.js";
import { FORMATS } from "./playground_wire.js";

const NAMES = [["curl", "curl"], ["python", "Python"], ["node", "Node"]];
const MADE = { chat: "chat.completions", messages: "messages", responses: "responses" };

export function Snippets({ format, body, objective, openMode }) {
  const [language, setLanguage] = useState("curl");
  const text = snippet(language, { format, body, objective, key: openMode ? "unused" : "YOUR_VIRTUAL_KEY" });
  return html`<${Card} title="The same as code" actions=${html`<${Copy} text=${text} label=${`Copy ${NAMES.find(([name]) => name === language)[1]}`} />`}>
    <${Field} label="Language" value=${language} onInput=${setLanguage} options=${NAMES} />
    <pre class="code" tabindex="0" aria-label="Code of this request">${text}</pre>
  </${Card}>`;
}

export function snippet(language, asked) {
  return { curl, python, node }[language](asked);
}

function curl({ format, body, objective, key }) {
  const quoted = (text) => "'" + text.replaceAll("'", "'\\''") + "'";
  const lines = [`curl ${location.origin}/v1/${FORMATS[format].path}`, "-H 'Content-Type: application/json'"];
  if (key !== "unused") lines.push(`-H 'Authorization: Bearer ${key}'`);
  if (objective) lines.push(`-H 'x-akr-objective: ${objective}'`);
  lines.push("-d " + quoted(JSON.stringify(body, null, 2)));
  return (body.stream ? lines[0].replace("curl", "curl -N") : lines[0]) + " \\\n  " + lines.slice(1).join(" \\\n  ") + "\n";
}

/** A JSON value as Python writes it. */
function literal(value, indent = "    ") {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (Array.isArray(value)) return value.length ? `[\n${value.map((one) => `${indent}    ${literal(one, indent + "    ")},\n`).join("")}${indent}]` : "[]";
  if (typeof value === "object") return "{" + Object.entries(value).map(([name, one]) => `${JSON.stringify(name)}: ${literal(one, indent)}`).join(", ") + "}";
  return JSON.stringify(value);
}

function python({ format, body, objective, key }) {
  const anthropic = format === "messages";
  const { stream, stream_options: _, ...rest } = body;
  const fields = Object.entries(rest).map(([name, value]) => `    ${name}=${literal(value)},\n`);
  if (objective) fields.push(`    extra_headers={"x-akr-objective": ${JSON.stringify(objective)}},\n`);
  const name = anthropic ? "Anthropic" : "OpenAI";
  const head = `from ${name.toLowerCase()} import ${name}\n\nclient = ${name}(base_url="${location.origin}${anthropic ? "" : "/v1"}", api_key="${key}")\n`;
  if (!stream) {
    const shown = { chat: "reply.choices[0].message.content", messages: "reply.content[0].text", responses: "reply.output_text" }[format];
    return `${head}reply = client.${MADE[format]}.create(\n${fields.join("")})\nprint(${shown})\n`;
  }
  const loop = {
    chat: "    if chunk.choices:\n        print(chunk.choices[0].delta.content or \"\", end=\"\", flush=True)",
    messages: "    if chunk.type == \"content_block_delta\" and chunk.delta.type == \"text_delta\":\n        print(chunk.delta.text, end=\"\", flush=True)",
    responses: "    if chunk.type == \"response.output_text.delta\":\n        print(chunk.delta, end=\"\", flush=True)",
  }[format];
  return `${head}stream = client.${MADE[format]}.create(\n${fields.join("")}    stream=True,\n)\nfor chunk in stream:\n${loop}\n`;
}

function node({ format, body, objective, key }) {
  const anthropic = format === "messages";
  const { stream_options: _, ...rest } = body;
  const [name, file] = anthropic ? ["Anthropic", "@anthropic-ai/sdk"] : ["OpenAI", "openai"];
  const extra = objective ? `, { headers: { "x-akr-objective": ${JSON.stringify(objective)} } }` : "";
  const head = `import ${name} from "${file}";\n\nconst client = new ${name}({ baseURL: "${location.origin}${anthropic ? "" : "/v1"}", apiKey: "${key}" });\n`;
  const call = `await client.${MADE[format]}.create(${JSON.stringify(rest, null, 2)}${extra});`;
  if (!body.stream) {
    const shown = { chat: "reply.choices[0].message.content", messages: "reply.content[0].text", responses: "reply.output_text" }[format];
    return `${head}const reply = ${call}\nconsole.log(${shown});\n`;
  }
  const piece = {
    chat: "chunk.choices[0]?.delta?.content ?? \"\"",
    messages: "chunk.type === \"content_block_delta\" ? chunk.delta.text ?? \"\" : \"\"",
    responses: "chunk.type === \"response.output_text.delta\" ? chunk.delta : \"\"",
  }[format];
  return `${head}const stream = ${call}\nfor await (const chunk of stream) process.stdout.write(${piece});\n`;
}
