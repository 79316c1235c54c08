// The official OpenAI SDK for Node against a running proxy. Prints "ok <name>" per check; fails with a non-zero status.
import assert from "node:assert/strict";
import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.env.BASE_URL, apiKey: "any", maxRetries: 0 });
const model = "gpt-4o-mini";
const messages = [{ role: "user", content: "Hello!" }];
const tools = [
  {
    type: "function",
    function: {
      name: "get_weather",
      parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
    },
  },
];

const whole = {
  async storedResponses() {
    const reply = await client.responses.create({ model, input: "Hello!" });
    const next = await client.responses.create({ model, input: "And again?", previous_response_id: reply.id });
    assert.equal(next.previous_response_id, reply.id);
    assert.equal((await client.responses.retrieve(next.id)).id, next.id);
  },
  async images() {
    const reply = await client.images.generate({ model: "pictures/gpt-image-1", prompt: "A key" });
    assert.ok(reply.data[0].b64_json || reply.data[0].url);
  },
  async batches() {
    const line = { custom_id: "one", method: "POST", url: "/v1/chat/completions", body: { model, messages } };
    const file = await client.files.create({
      purpose: "batch",
      file: await OpenAI.toFile(Buffer.from(JSON.stringify(line) + "\n"), "batch.jsonl"),
    });
    const begun = await client.batches.create({
      input_file_id: file.id,
      endpoint: "/v1/chat/completions",
      completion_window: "24h",
    });
    const batch = await client.batches.retrieve(begun.id);
    assert.equal(batch.id, begun.id);
    assert.equal((await client.files.retrieve(file.id)).id, file.id);
  },
};

const checks = {
  async chat() {
    const reply = await client.chat.completions.create({ model, messages });
    assert.ok(reply.choices[0].message.content);
    assert.ok(reply.usage.total_tokens > 0);
  },
  async stream() {
    let text = "";
    for await (const chunk of await client.chat.completions.create({ model, messages, stream: true })) {
      assert.ok(chunk.choices.length > 0, "no usage chunk was asked for");
      text += chunk.choices[0].delta.content ?? "";
    }
    assert.ok(text);
  },
  async streamWithUsage() {
    const stream_options = { include_usage: true };
    let usage;
    for await (const chunk of await client.chat.completions.create({ model, messages, stream: true, stream_options })) {
      usage = chunk.usage ?? usage;
    }
    assert.ok(usage.total_tokens > 0);
  },
  async tools() {
    const reply = await client.chat.completions.create({ model, messages, tools, tool_choice: "required" });
    assert.equal(reply.choices[0].message.tool_calls[0].function.name, "get_weather");
  },
  async structuredOutput() {
    const response_format = {
      type: "json_schema",
      json_schema: {
        name: "person",
        schema: { type: "object", properties: { name: { type: "string" } }, required: ["name"] },
      },
    };
    const reply = await client.chat.completions.create({ model, messages, response_format });
    assert.equal(typeof JSON.parse(reply.choices[0].message.content).name, "string");
  },
  async embeddings() {
    const reply = await client.embeddings.create({ model: "text-embedding-3-small", input: ["one", "two"] });
    assert.equal(reply.data.length, 2);
    assert.equal(reply.data[0].embedding.length, 1536);
  },
  async responses() {
    const reply = await client.responses.create({ model, input: "Hello!" });
    assert.ok(reply.output_text);
    assert.ok(reply.usage.total_tokens > 0);
  },
  async responsesStream() {
    const seen = [];
    let text = "";
    for await (const event of await client.responses.create({ model, input: "Hello!", stream: true })) {
      seen.push(event.type);
      if (event.type === "response.output_text.delta") text += event.delta;
    }
    assert.ok(text);
    assert.equal(seen[0], "response.created");
    assert.equal(seen.at(-1), "response.completed");
  },
  async models() {
    const names = [];
    for await (const found of client.models.list()) names.push(found.id);
    assert.ok(names.includes(model));
  },
  async badRequest() {
    await assert.rejects(client.chat.completions.create({ model, messages, temperature: 99 }), OpenAI.BadRequestError);
  },
  async notFound() {
    await assert.rejects(client.chat.completions.create({ model: "no-such-model", messages }), OpenAI.NotFoundError);
  },
  async cancel() {
    const stream = await client.chat.completions.create({ model, messages, stream: true });
    for await (const chunk of stream) {
      assert.ok(chunk.id);
      stream.controller.abort();
      break;
    }
  },
};

for (const [name, check] of Object.entries(process.env.EVERYTHING ? whole : checks)) {
  await check();
  console.log(`ok ${name}`);
}
