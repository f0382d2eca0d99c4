// OpenAI's SDK for Node with tools: its own runner goes from the question over calls and results to the answer.

import OpenAI from "openai";
import { CITY, NOTHING, noting } from "../tools.mjs";

export async function loop({ baseURL, apiKey, model }, { question, stream }) {
  const client = new OpenAI({ baseURL, apiKey, maxRetries: 0, timeout: 60_000 });
  const { calls, getWeather, now } = noting();
  const tools = [
    { name: "get_weather", description: "The weather in a city, now.", parameters: CITY, parse: JSON.parse, function: getWeather },
    { name: "now", description: "The time.", parameters: NOTHING, parse: JSON.parse, function: now },
  ];
  const runner = client.chat.completions.runTools({
    model,
    stream,
    messages: [{ role: "user", content: question }],
    tools: tools.map((tool) => ({ type: "function", function: tool })),
  });
  return { answer: await runner.finalContent(), calls };
}
