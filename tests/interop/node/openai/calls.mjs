// OpenAI's official SDK for Node, as the tests in Python call it: what came, and what was thrown, as plain values.

import OpenAI from "openai";

const HELLO = [{ role: "user", content: "hello" }];

function client({ baseURL, apiKey = "sk-anything", maxRetries = 0 }) {
  return new OpenAI({ baseURL, apiKey, maxRetries, timeout: 60_000 });
}

/** An error by the SDK's own name for it, with the fields that its users look at. */
function told(error) {
  if (!(error instanceof OpenAI.APIError)) throw error;
  const name = Object.keys(OpenAI).find((key) => OpenAI[key] === error.constructor) ?? error.constructor.name;
  const { status, code, param, type, message, requestID } = error;
  return { name, status, code, param, type, message, requestID };
}

async function attempt(work) {
  try {
    return { value: await work() };
  } catch (error) {
    return { error: told(error) };
  }
}

export const complete = (server, fields) =>
  attempt(() => client(server).chat.completions.create({ model: "llama3.2", messages: HELLO, ...fields }));

/** Reads a stream to its end; `chunks` are those that came, also before an error. */
export async function chunks(server, fields) {
  const seen = [];
  const answer = await attempt(async () => {
    const body = { model: "llama3.2", messages: HELLO, ...fields, stream: true };
    for await (const chunk of await client(server).chat.completions.create(body)) seen.push(chunk);
  });
  return { ...answer, chunks: seen };
}

/** Leaves a stream after its first text: by `break`, by the stream's controller, or by an AbortSignal of the caller's. */
export async function leave(server, how, fields) {
  const caller = new AbortController();
  const body = { model: "llama3.2", messages: HELLO, ...fields, stream: true };
  const stream = await client(server).chat.completions.create(body, { signal: caller.signal });
  let text = "";
  for await (const chunk of stream) {
    text = chunk.choices[0]?.delta.content ?? "";
    if (!text) continue;
    if (how === "break") break;
    if (how === "controller") stream.controller.abort();
    else caller.abort();
  }
  return text;
}

export const models = (server) =>
  attempt(async () => {
    const all = [];
    for await (const model of client(server).models.list()) all.push(model);
    return all;
  });

export const model = (server, id) => attempt(() => client(server).models.retrieve(id));

/** The SDK's helper that puts a stream together. */
export const accumulated = (server, fields) =>
  attempt(() => client(server).chat.completions.stream({ model: "llama3.2", messages: HELLO, ...fields }).finalChatCompletion());
