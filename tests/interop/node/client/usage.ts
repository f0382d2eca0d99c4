// What a program in TypeScript may write, and what the types keep it from; read by the compiler, never run.

import { WebSocket } from "ws";
import { ArcherClient, ArcherError, ChatStream, connect } from "./archer-client.js";
import type { Approve, ChatMessage, ChatSendParams, Delta, StreamEnd, StreamEvent, State, Tools, UnknownStreamEvent } from "./archer-client.js";

const archer: ArcherClient = connect();
connect({ url: new URL("https://example.com/archer"), token: "t", signal: AbortSignal.timeout(1000) });
connect({ ticket: async () => "t", WebSocket, backoff: { maxMs: 5000 }, client: { name: "app", version: "1" } });
// @ts-expect-error an option that there is none of
connect({ adress: "http://localhost:8000" });
// @ts-expect-error a ticket comes later
connect({ ticket: () => "t" });

const state: State = archer.state;
// @ts-expect-error it is not ours to set
archer.state = "open";
const off: () => void = archer.on("state", (now: State, error: ArcherError | undefined) => console.log(now, error?.hint));
// @ts-expect-error no such event
archer.on("open", () => {});
archer.on("notification", (message) => {
  if (message.method === "server/draining") console.log(message.params.remaining_ms.toFixed());
  // @ts-expect-error a delta has no such field
  if (message.method === "stream/delta") console.log(message.params.remaining_ms);
});

const request: ChatSendParams = { messages: [{ role: "user", content: "Why?" }], temperature: 0.5, on_busy: "interrupt" };
const stream: ChatStream = archer.send(request, { signal: new AbortController().signal, detach: true });
archer.send("Why?", { onEvent: ({ method, params }) => console.log(method, params.stream_id, params.seq) });
archer.send("Why?", { onEvent: show });
const asked = archer.send({ ...request, tools: [{ name: "get_weather", parameters: { type: "object" } }], tool_choice: "auto" });
const results: ChatMessage[] = asked.toolCalls.map(({ call_id }) => ({ role: "tool", call_id, content: "4 °C" }));
archer.send({ messages: [...request.messages, asked.message, ...results] });
// @ts-expect-error it is not ours to set
asked.toolCalls = [];
const tools: Tools = {
  get_weather: { parameters: { type: "object" }, idempotent: true, run: ({ city }: { city: string }) => `rain in ${city}` },
  take_photo: { needsApproval: true, run: async (_, { signal, callId, stream }) => (await fetch(`${stream.streamId}/${callId}`, { signal })).blob() },
  pick_date: { description: "Shown as a calendar." },
};
const approve: Approve = async ({ name }, { signal }) => (signal.aborted ? false : { approved: name !== "x", reason: "no" });
connect({ tools, approve });
const running = archer.send("Rain?", { tools, approve });
archer.resume(running.streamId, { tools: {} });
for (const { call_id, state, result } of running.toolCalls) {
  if (state === "needs_approval") await archer.approve(running.streamId, call_id, false, "not now");
  else if (state === "pending") await archer.answer(running.streamId, call_id, { date: "2026-12-24" }, { status: "ok" });
  else console.log(result?.status, result?.content);
}
const steered = await running.steer(["Like this:", new Blob()], { messageId: "m1" });
console.log(steered.outcome, running.messages.at(-1)?.result_status);
for await (const { content = "", step } of running) console.log(step?.toFixed(), content);
// @ts-expect-error a handler is a function
connect({ tools: { get_weather: { run: "rain" } } });
// @ts-expect-error it must say whether
archer.send("Rain?", { approve: () => "yes" });
function show(event: StreamEvent): string | undefined {
  switch (event.method) {
    case "stream/delta":
      return event.params.content ?? undefined;
    case "stream/ended":
      return event.params.status;
    case "stream/started":
    case "stream/progress":
      return event.params.stream_id;
    default: {
      const unknown: UnknownStreamEvent = event;
      const sky: unknown = unknown.params["sky"];
      return `${unknown.method} ${unknown.params.seq} ${sky}`;
    }
  }
}
// @ts-expect-error messages are needed
archer.send({ model: "m" });
// @ts-expect-error no such role
archer.send({ messages: [{ role: "robot", content: "Why?" }] });
// @ts-expect-error streams are made by send and resume
new ChatStream();

for await (const { content, reasoning, reset } of archer.resume(stream.streamId, { after: stream.seq })) {
  const text: string | undefined = content ?? reasoning;
  console.log(text?.length, reset satisfies true | undefined);
}
const delta: Delta = { content: "x" };
const end: StreamEnd = await stream.ended;
if (end.status === "lost" || end.status === "failed") console.log(end.error?.hint, end.usage?.total_tokens);
// @ts-expect-error the protocol's names are in snake_case
console.log(end.textBytes);
const { outcome } = await stream.cancel();

const { items } = await archer.call("model/list");
console.log(items[0]?.name, outcome, delta, off, state);
const { messages } = await archer.call("session/get", { session_id: "s" }, { signal: AbortSignal.timeout(1000) });
console.log(messages[0]?.content.length);
// @ts-expect-error which session?
archer.call("session/get");
// @ts-expect-error chats are sent
archer.call("chat/send", request);
// @ts-expect-error no such method
archer.call("session/burn", {});

const error = new ArcherError({ kind: "unauthenticated", message: "no user", retryable: false });
console.log(error.kind, error.retryAfterMs?.toFixed(), error.errors?.[0]?.path, error.info.request_id);
