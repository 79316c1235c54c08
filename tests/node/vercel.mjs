// Vercel's AI SDK against a running proxy, asking for MODEL by each of its three providers that speak a format of ours:
// openai (Responses), anthropic (Messages), openai-compatible (chat completions). Prints "ok <name>" per check; fails with
// a non-zero status.
import assert from "node:assert/strict";
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, generateObject, generateText, jsonSchema, stepCountIs, streamText, tool } from "ai";

globalThis.AI_SDK_LOG_WARNINGS = false;
const at = { baseURL: process.env.BASE_URL, apiKey: "any", headers: { "x-akr-drop-params": "true" } };
const model = process.env.MODEL;
const maxRetries = 0;
const providers = {
  openai: createOpenAI(at),
  anthropic: createAnthropic(at),
  compatible: createOpenAICompatible({ ...at, name: "apikeyrouter", includeUsage: true, supportsStructuredOutputs: true }),
};
const tools = {
  get_weather: tool({
    description: "Weather of a city",
    inputSchema: jsonSchema({ type: "object", properties: { city: { type: "string" } }, required: ["city"] }),
    execute: async ({ city }) => `It rains in ${city}.`,
  }),
};

const checks = {
  async text(ask) {
    const reply = await generateText({ model: ask(model), prompt: "Hello!", maxRetries });
    assert.match(reply.text, /Simulated answer/);
    assert.equal(reply.finishReason, "stop");
    assert.ok(reply.usage.inputTokens > 0 && reply.usage.outputTokens > 0);
  },
  async stream(ask) {
    const reply = streamText({ model: ask(model), prompt: "Hello!", maxRetries });
    let text = "";
    for await (const piece of reply.textStream) text += piece;
    assert.match(text, /Simulated answer/);
    assert.equal(await reply.finishReason, "stop");
    assert.ok((await reply.usage).outputTokens > 0);
  },
  async tools(ask) {
    const prompt = "How is the weather in Paris and Oslo?";
    const stopWhen = stepCountIs(3);
    const reply = await generateText({ model: ask(model), prompt, tools, stopWhen, maxRetries });
    assert.deepEqual(reply.steps[0].toolCalls.map((call) => call.input.city), ["Paris", "Oslo"]);
    assert.match(reply.text, /It rains in Oslo/);
    const streamed = streamText({ model: ask(model), prompt, tools, stopWhen, maxRetries });
    await streamed.consumeStream();
    const steps = await streamed.steps;
    assert.deepEqual(steps[0].toolCalls.map((call) => call.input.city), ["Paris", "Oslo"]);
    assert.equal(steps[0].finishReason, "tool-calls");
    assert.match(await streamed.text, /It rains in Oslo/);
  },
  async object(ask) {
    const properties = { name: { type: "string" } };
    const schema = jsonSchema({ type: "object", properties, required: ["name"], additionalProperties: false });
    const reply = await generateObject({ model: ask(model), prompt: "A person, as JSON", schema, maxRetries });
    assert.equal(typeof reply.object.name, "string");
  },
  async notFound(ask) {
    const name = `${model.split("/")[0]}/no-such-model`;
    const refused = generateText({ model: ask(name), prompt: "Hello!", maxRetries });
    await assert.rejects(refused, (error) => {
      assert.ok(APICallError.isInstance(error), String(error));
      assert.equal(error.statusCode, 404);
      assert.match(error.message, /no-such-model/);
      return true;
    });
  },
  async cancel(ask) {
    const stop = new AbortController();
    const reply = streamText({ model: ask(model), prompt: "Hello!", abortSignal: stop.signal, maxRetries, onError() {} });
    for await (const piece of reply.fullStream) {
      if (piece.type === "text-delta") stop.abort();
    }
  },
};

for (const [provider, ask] of Object.entries(providers)) {
  for (const [name, check] of Object.entries(checks)) {
    await check(ask);
    console.log(`ok ${provider} ${name}`);
  }
}
