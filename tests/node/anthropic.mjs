// Anthropic's official SDK for Node against a running proxy, asking for MODEL. Prints "ok <name>" per check; fails with a
// non-zero status.
import assert from "node:assert/strict";
import Anthropic from "@anthropic-ai/sdk";

const client = new Anthropic({ baseURL: process.env.ORIGIN, apiKey: "any", maxRetries: 0 });
const model = process.env.MODEL;
const max_tokens = 300;
const messages = [{ role: "user", content: "Hello!" }];
const weather = [{ role: "user", content: "How is the weather in Paris and Oslo?" }];
const tools = [
  {
    name: "get_weather",
    input_schema: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  },
];

const checks = {
  async message() {
    const reply = await client.messages.create({ model, max_tokens, messages, system: "Be brief." });
    assert.equal(reply.content[0].type, "text");
    assert.equal(reply.stop_reason, "end_turn");
    assert.ok(reply.usage.input_tokens > 0 && reply.usage.output_tokens > 0);
  },
  async stream() {
    const stream = client.messages.stream({ model, max_tokens, messages });
    let text = "";
    stream.on("text", (delta) => (text += delta));
    const reply = await stream.finalMessage();
    assert.equal(text, reply.content[0].text);
    assert.equal(reply.stop_reason, "end_turn");
    assert.ok(reply.usage.output_tokens > 1);
  },
  async tools() {
    const asked = { model, max_tokens, messages: weather, tools };
    const whole = await client.messages.create(asked);
    const streamed = await client.messages.stream(asked).finalMessage();
    for (const reply of [whole, streamed]) {
      const calls = reply.content.filter((block) => block.type === "tool_use");
      assert.equal(reply.stop_reason, "tool_use");
      assert.deepEqual(calls.map((call) => [call.name, call.input.city]), [["get_weather", "Paris"], ["get_weather", "Oslo"]]);
      assert.equal(new Set(calls.map((call) => call.id)).size, 2);
    }
    const content = whole.content
      .filter((block) => block.type === "tool_use")
      .map((call) => ({ type: "tool_result", tool_use_id: call.id, content: "It rains." }));
    const turns = [...weather, { role: "assistant", content: whole.content }, { role: "user", content }];
    const last = await client.messages.create({ ...asked, messages: turns });
    assert.match(last.content.at(-1).text, /It rains/);
  },
  async cut() {
    const reply = await client.messages.create({ model, max_tokens: 3, messages });
    assert.equal(reply.stop_reason, "max_tokens");
  },
  async countTokens() {
    const { input_tokens } = await client.messages.countTokens({ model, messages });
    assert.ok(input_tokens > 0);
  },
  async badRequest() {
    const refused = client.messages.create({ model, max_tokens, messages, temperature: 99 });
    await assert.rejects(refused, (error) => {
      assert.ok(error instanceof Anthropic.BadRequestError);
      assert.equal(error.error.type, "error");
      assert.equal(error.error.error.type, "invalid_request_error");
      return true;
    });
  },
  async notFound() {
    const name = `${model.split("/")[0]}/no-such-model`;
    await assert.rejects(client.messages.create({ model: name, max_tokens, messages }), Anthropic.NotFoundError);
  },
  async cancel() {
    const stream = await client.messages.create({ model, max_tokens, messages, stream: true });
    for await (const event of stream) {
      assert.equal(event.type, "message_start");
      stream.controller.abort();
      break;
    }
  },
};

for (const [name, check] of Object.entries(checks)) {
  await check();
  console.log(`ok ${name}`);
}
