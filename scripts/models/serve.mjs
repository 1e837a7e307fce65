// One small model behind POST /v1/chat/completions, for tests that want a real one: node scripts/models/serve.mjs CACHE
//
// Prints `{"url": "http://127.0.0.1:PORT/v1"}` when it can answer, and ends when its stdin does. One request at a time. It speaks
// messages, max_tokens, temperature, response_format of type json_schema (as a grammar) and usage, whole or streamed; no tools: a
// model of this size cannot use them.

import { createServer } from "node:http";
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const BODY_BYTES_MAX = 1 << 20;
const CONTEXT_TOKENS = 2048;
const MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf";

const cache = process.argv[2];
const entry = createRequire(join(cache, "package.json")).resolve("node-llama-cpp");
const { getLlama, LlamaChat } = await import(pathToFileURL(entry).href);

const llama = await getLlama({ gpu: false, build: "never", logLevel: "error" });
const model = await llama.loadModel({ modelPath: join(cache, MODEL) });
const context = await model.createContext({ contextSize: CONTEXT_TOKENS, threads: 1 });
const sequence = context.getSequence();
const chat = new LlamaChat({ contextSequence: sequence });

let last = Promise.resolve();

const server = createServer((request, response) => {
  last = last.then(() => answer(request, response)).catch((error) => refuse(response, 500, String(error)));
});

async function answer(request, response) {
  if (request.method !== "POST" || request.url !== "/v1/chat/completions") return refuse(response, 404, "no such path");
  const asked = JSON.parse(await read(request));
  if (asked.tools?.length) return refuse(response, 400, "this model takes no tools");
  const gone = new AbortController();
  response.on("close", () => gone.abort());
  const schema = asked.response_format?.json_schema?.schema;
  const before = sequence.tokenMeter.getState();
  const send = asked.stream ? open(response) : () => {};
  const { response: text, metadata } = await chat.generateResponse(history(asked.messages), {
    maxTokens: asked.max_tokens ?? 256,
    temperature: asked.temperature ?? 0,
    grammar: schema ? await llama.createGrammarForJsonSchema(schema) : undefined,
    onTextChunk: (content) => send(chunk({ content })),
    signal: gone.signal,
    stopOnAbortSignal: true,
  });
  const used = sequence.tokenMeter.diff(before);
  const usage = {
    prompt_tokens: used.usedInputTokens,
    completion_tokens: used.usedOutputTokens,
    total_tokens: used.usedInputTokens + used.usedOutputTokens,
  };
  await sequence.clearHistory();
  const finish = metadata.stopReason === "maxTokens" ? "length" : "stop";
  if (asked.stream) {
    send(chunk({}, finish));
    send({ object: "chat.completion.chunk", choices: [], usage });
    response.end("data: [DONE]\n\n");
    return;
  }
  const message = { role: "assistant", content: text };
  const whole = { object: "chat.completion", choices: [{ index: 0, message, finish_reason: finish }], usage };
  response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(whole));
}

function history(messages) {
  const turns = messages.map(({ role, content }) => {
    if (role === "assistant") return { type: "model", response: [content ?? ""] };
    return { type: role === "user" ? "user" : "system", text: content ?? "" };
  });
  return [...turns, { type: "model", response: [] }];
}

function chunk(delta, finish = null) {
  return { object: "chat.completion.chunk", choices: [{ index: 0, delta, finish_reason: finish }] };
}

function open(response) {
  response.writeHead(200, { "content-type": "text/event-stream" });
  return (part) => response.write(`data: ${JSON.stringify(part)}\n\n`);
}

async function read(request) {
  let text = "";
  for await (const part of request) {
    text += part;
    if (text.length > BODY_BYTES_MAX) throw new Error("the request is too large");
  }
  return text;
}

function refuse(response, status, message) {
  if (!response.headersSent) response.writeHead(status, { "content-type": "application/json" });
  response.end(JSON.stringify({ error: { message } }));
}

server.listen(0, "127.0.0.1", () => console.log(JSON.stringify({ url: `http://127.0.0.1:${server.address().port}/v1` })));
process.stdin.resume().on("end", () => process.exit(0));
