// Vercel's AI SDK with tools: it runs them, and asks again with their results, until there is an answer.

import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";
import { noting } from "../tools.mjs";

export async function loop({ baseURL, apiKey, model }, { question, stream }) {
  const provider = createOpenAICompatible({ name: "archer", baseURL, apiKey, includeUsage: true });
  const { calls, getWeather, now } = noting();
  const asked = {
    model: provider(model),
    prompt: question,
    maxRetries: 0,
    stopWhen: stepCountIs(5),
    tools: {
      get_weather: tool({ description: "The weather in a city, now.", inputSchema: z.object({ city: z.string() }), execute: getWeather }),
      now: tool({ description: "The time.", inputSchema: z.object({}), execute: now }),
    },
  };
  if (!stream) return { answer: (await generateText(asked)).text, calls };
  let answer = "";
  const answering = streamText({ ...asked, onError() {} });
  for await (const part of answering.fullStream) {
    if (part.type === "text-delta") answer += part.text;
    if (part.type === "error") throw part.error;
  }
  return { answer, calls };
}
