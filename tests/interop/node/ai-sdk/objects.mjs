// Vercel's AI SDK where an object is wanted: by a schema or as any JSON, streamed, a list of them, and beside a tool.

import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateObject, generateText, Output, stepCountIs, streamObject, tool } from "ai";
import { z } from "zod";

globalThis.AI_SDK_LOG_WARNINGS = false; // they go to standard output

const city = z.object({
  name: z.string(),
  people: z.number().int().min(0).describe("How many live there."),
  districts: z.array(z.object({ name: z.string() })),
  river: z.string().nullable(),
});
const count_people = tool({
  description: "How many people live in a city.",
  inputSchema: z.object({ city: z.string() }),
  execute: ({ city }) => (city === "Oslo" ? "717710" : "0"),
});

async function streamed(asked) {
  let failed;
  const answering = streamObject({ ...asked, onError: ({ error }) => (failed = error) });
  for await (const _ of answering.partialObjectStream);
  if (failed) throw failed;
  return answering.object;
}

const beside = { tools: { count_people }, stopWhen: stepCountIs(5), output: Output.object({ schema: city }) };
const flows = {
  generateObject: async (asked) => (await generateObject({ ...asked, schema: city })).object,
  streamObject: (asked) => streamed({ ...asked, schema: city }),
  "generateObject, a list": async (asked) => (await generateObject({ ...asked, schema: city, output: "array" })).object[0],
  "generateText with an output": async (asked) => (await generateText({ ...asked, output: beside.output })).output,
  "generateText with an output beside a tool": async (asked) => (await generateText({ ...asked, ...beside })).output,
};

/** The outcome of a flow; `, as JSON` behind its name is for a server of which the SDK knows no schemas. */
export async function outcome({ baseURL, apiKey }, { flow, model, question }) {
  const [, name, asJson] = /^(.*?)(, as JSON)?$/.exec(flow);
  const provider = createOpenAICompatible({ name: "archer", baseURL, apiKey, supportsStructuredOutputs: !asJson });
  try {
    return { object: await flows[name]({ model: provider(model), prompt: question, maxRetries: 0 }) };
  } catch (error) {
    return { error: error.name, message: error.message };
  }
}
