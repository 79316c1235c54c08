// Configuration: what counts and where it comes from, the file's text to change and try, and the documents that the file
// and this page share: policies and deployments.

import { html, useMemo, useState } from "../lib/preact.js";
import { useApi } from "../lib/hooks.js";
import { go, Link, pathOf } from "../lib/route.js";
import { Badge, Card, Empty, Field, Loaded } from "../components/ui.js";
import { Table } from "../components/table.js";
import { plural } from "../lib/format.js";
import { Documents } from "./configuration_documents.js";
import { File } from "./configuration_file.js";
import { Import } from "./configuration_import.js";

const TABS = [["", "Settings"], ["file", "File"], ["policies", "Policies"], ["deployments", "Deployments"], ["import", "Move here"]];

export default function Configuration({ route }) {
  const tab = route.rest[0] ?? "";
  return html`
    <div class="tabs" role="navigation" aria-label="Parts of the configuration">${TABS.map(([name, title]) => html`<${Link} key=${name} to=${pathOf("config", [name])} aria-current=${name === tab ? "page" : undefined}>${title}</${Link}>`)}</div>
    ${tab === "file" ? html`<${File} />` : tab === "import" ? html`<${Import} />` : tab === "policies" || tab === "deployments" ? html`<${Documents} key=${tab} kind=${tab} />` : html`<${Settings} wanted=${route.query} />`}`;
}

const SOURCES = { argument: "good", environment: "good", ".env": "good", file: "good", default: "plain" };

const shown = (value) => {
  if (value === null || value === "" || (Array.isArray(value) && !value.length)) return html`<span class="muted">–</span>`;
  return html`<code>${typeof value === "object" ? JSON.stringify(value) : String(value)}</code>`;
};

const columns = [
  { name: "where", title: "Setting", of: (row) => html`<strong class="short" title=${row.where}>${row.where}</strong>`, sort: (row) => row.where },
  { name: "value", title: "Value", of: (row) => html`<span class="clip wide" title=${typeof row.value === "object" ? JSON.stringify(row.value) : String(row.value)}>${shown(row.value)}</span>` },
  { name: "source", title: "From", of: (row) => html`<${Badge} tone=${SOURCES[row.source]}>${row.source}</${Badge}>`, sort: (row) => row.source },
  { name: "at", title: "Where", of: (row) => row.at || "–", sort: (row) => row.at, hide: "tablet" },
];
const SHADOWED = { name: "shadowed", title: "Without effect", of: (row) => row.shadowed || "", hide: "phone" };
const columnsOf = (rows) => (rows.some((row) => row.shadowed) ? [...columns, SHADOWED] : columns);

function Settings({ wanted }) {
  const config = useApi("/api/v1/config");
  const choose = (name) => (value) => go(pathOf("config", [], { ...wanted, [name]: value }), { replace: true });
  return html`<${Loaded} of=${config} what="Loading the configuration">${(told) => html`
    ${told.warnings.length > 0 && html`<${Card} title=${plural(told.warnings.length, "warning")}><ul>${told.warnings.map((one) => html`<li key=${one}>${one}</li>`)}</ul></${Card}>`}
    ${told.restart.length > 0 && html`<${Card} title="Waiting for a restart"><p>${told.restart.join(", ")} were changed and count after the next start.</p></${Card}>`}
    <${Effective} told=${told} wanted=${wanted} choose=${choose} />
    ${told.objects.length > 0 && html`<${Card} title="Objects of the file"><${Table} label="Objects of the file" columns=${columns} rows=${told.objects} id=${(row) => row.where} /></${Card}>`}`}</${Loaded}>`;
}

function Effective({ told, wanted, choose }) {
  const [text, source] = [(wanted.find ?? "").toLowerCase(), wanted.source ?? ""];
  const rows = useMemo(
    () => told.settings.filter((row) => row.where.includes(text) && (!source || (source === "set" ? row.source !== "default" : row.source === source))),
    [told, text, source]);
  return html`<${Card} title="What counts">
    <p class="muted">${told.path ? html`The file is <code>${told.path}</code>${told.files.length > 1 && `, with ${plural(told.files.length - 1, "file")} that it includes`}. ` : "There is no configuration file. "}An argument goes before the environment, that before the file, that before the default.</p>
    <div class="filters" role="search">
      <${Field} label="Find" value=${wanted.find ?? ""} onInput=${choose("find")} placeholder="part of a name" />
      <${Field} label="From" value=${source} onInput=${choose("source")} options=${[["", "Anywhere"], ["set", "Not the default"], "argument", "environment", ".env", "file", "default"]} />
    </div>
    ${rows.length ? html`<${Table} label="Settings" columns=${columnsOf(rows)} rows=${rows} id=${(row) => row.where} />` : html`<${Empty} title="No setting matches"><p>Change the filters.</p></${Empty}>`}
  </${Card}>`;
}
