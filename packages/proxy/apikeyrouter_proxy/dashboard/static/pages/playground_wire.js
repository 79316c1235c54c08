// The three client formats of the playground: where each goes, how a request is written, and how a reply is read.
//
// `FORMATS[name]`: { title, path, body(form), whole(reply), event(data) }. `whole` and `event` give pieces:
// { text } or { tool: { name?, args? } } or { error }, in the order in which they came.

const given = (entries) => Object.fromEntries(entries.filter(([, value]) => value !== undefined && value !== ""));
const number = (text) => (text === "" ? undefined : Number(text));
const spoken = (form) => form.messages.filter((one) => one.content.trim());

const chat = {
  title: "OpenAI Chat Completions",
  path: "chat/completions",
  body: (form) => given([
    ["model", form.model],
    ["messages", [...(form.system.trim() ? [{ role: "system", content: form.system }] : []), ...spoken(form)]],
    ["max_tokens", number(form.max_tokens)],
    ["temperature", number(form.temperature)],
    ["tools", form.tools],
    ["stream", form.stream || undefined],
    ["stream_options", form.stream ? { include_usage: true } : undefined],
  ]),
  whole: ({ choices = [] }) => said(choices[0]?.message ?? {}),
  event: ({ error, choices = [] }) => (error ? [{ error: error.message }] : said(choices[0]?.delta ?? {})),
};

const said = ({ content, refusal, tool_calls: calls = [] }) => [
  ...(content || refusal ? [{ text: content || refusal }] : []),
  ...(calls ?? []).map(({ function: called = {} }) => ({ tool: { name: called.name, args: called.arguments } })),
];

const ANTHROPIC_DEFAULT_TOKENS = 1024; // Anthropic's format demands a limit

const messages = {
  title: "Anthropic Messages",
  path: "messages",
  body: (form) => given([
    ["model", form.model],
    ["max_tokens", number(form.max_tokens) ?? ANTHROPIC_DEFAULT_TOKENS],
    ["system", form.system.trim() ? form.system : undefined],
    ["messages", spoken(form)],
    ["temperature", number(form.temperature)],
    ["tools", form.tools],
    ["stream", form.stream || undefined],
  ]),
  whole: ({ content = [] }) => content.map((one) =>
    one.type === "tool_use" ? { tool: { name: one.name, args: JSON.stringify(one.input) } } : { text: one.text ?? "" }),
  event: ({ type, error, delta = {}, content_block: block = {} }) => {
    if (type === "error") return [{ error: error?.message ?? "The provider broke off." }];
    if (type === "content_block_start" && block.type === "tool_use") return [{ tool: { name: block.name } }];
    if (type !== "content_block_delta") return [];
    return delta.text ? [{ text: delta.text }] : delta.partial_json ? [{ tool: { args: delta.partial_json } }] : [];
  },
};

const responses = {
  title: "OpenAI Responses",
  path: "responses",
  body: (form) => given([
    ["model", form.model],
    ["instructions", form.system.trim() ? form.system : undefined],
    ["input", spoken(form)],
    ["max_output_tokens", number(form.max_tokens)],
    ["temperature", number(form.temperature)],
    ["tools", form.tools],
    ["stream", form.stream || undefined],
  ]),
  whole: ({ output = [] }) => output.flatMap((one) =>
    one.type === "function_call" ? [{ tool: { name: one.name, args: one.arguments } }]
      : (one.content ?? []).filter((part) => part.text).map((part) => ({ text: part.text }))),
  event: ({ type, delta, item = {}, response = {}, message }) => {
    if (type === "response.output_text.delta") return [{ text: delta }];
    if (type === "response.output_item.added" && item.type === "function_call") return [{ tool: { name: item.name } }];
    if (type === "response.function_call_arguments.delta") return [{ tool: { args: delta } }];
    if (type === "response.failed") return [{ error: response.error?.message ?? "The provider failed." }];
    return type === "error" ? [{ error: message ?? "The provider broke off." }] : [];
  },
};

export const FORMATS = { chat, messages, responses };

/** Adds a piece to what was said so far: `{ text, tools: [{ name, args }] }`. A nameless piece continues the last tool. */
export function add(reply, { text, tool }) {
  if (text) return { ...reply, text: reply.text + text };
  if (!tool) return reply;
  const last = reply.tools.at(-1);
  if (tool.name || !last) return { ...reply, tools: [...reply.tools, { name: tool.name ?? "", args: tool.args ?? "" }] };
  return { ...reply, tools: [...reply.tools.slice(0, -1), { ...last, args: last.args + (tool.args ?? "") }] };
}

/** The events of a stream as objects, as they come. */
export async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    rest += value.replaceAll("\r", "");
    const blocks = rest.split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const data = block.split("\n").filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trimStart()).join("\n");
      if (!data || data === "[DONE]") continue;
      try {
        yield JSON.parse(data);
      } catch {
        // What is no JSON is no part of the reply: comments and the like.
      }
    }
  }
}
