// What the types let a program do, and what they find.

import type {
  ChatMessage,
  Content,
  ErrorKind,
  Methods,
  Notification,
  Part,
  Request,
  Response,
  ResultOf,
  ServerMessage,
  StoredMessage,
  StreamEnded,
  StreamStatus,
  Tool,
  ToolChoice,
  UnknownEvent,
  UnknownNotification,
  UnknownPart,
} from "./archer.js";

export function told(notification: Notification): string | undefined {
  switch (notification.method) {
    case "stream/delta": {
      const from: number = notification.params.from;
      // @ts-expect-error a delta has no status: its params are known
      notification.params.status;
      return from ? (notification.params.content ?? undefined) : undefined;
    }
    case "stream/ended": {
      const ended: StreamEnded = notification.params;
      return ended.status;
    }
    case "stream/tool_call":
      return `${notification.params.name} ${notification.params.arguments satisfies string}`;
    case "stream/started":
    case "stream/progress":
    case "$/heartbeat":
    case "server/draining":
      return undefined;
    default: {
      const unknown: UnknownNotification = notification;
      const params: unknown = unknown.params;
      return params ? unknown.method : undefined;
    }
  }
}

export const weather: UnknownEvent = { stream_id: "a", seq: 2, sky: { colour: "blue" } };
// @ts-expect-error without a number it is no event
export const mood: UnknownEvent = { stream_id: "a", sky: "blue" };

export function status(notification: Notification): StreamStatus | undefined {
  return notification.method === "stream/ended" ? notification.params.status : undefined;
}

export function kind(message: ServerMessage): ErrorKind | undefined {
  if (message.method !== undefined) return undefined;
  return message.error ? message.error.data.kind : undefined;
}

export async function call<M extends keyof Methods>(method: M, params: Methods[M]["params"]): Promise<ResultOf<M>> {
  const request: Request<M> = { jsonrpc: "2.0", id: 1, method, params } as Request<M>;
  const response: Response<M> = JSON.parse(JSON.stringify(request));
  if (response.error) throw new Error(response.error.data.message);
  return response.result;
}

export async function chat(): Promise<string> {
  const accepted = await call("chat/send", { messages: [{ role: "user", content: "Why?" }] });
  await call("ping", {});
  await call("session/list", { limit: null });
  // @ts-expect-error a subscription needs its stream
  await call("stream/subscribe", { after: 3 });
  // @ts-expect-error there is no such method
  await call("chat/whisper", {});
  const models = await call("model/list", {});
  return `${accepted.stream_id} ${models.default.model}`;
}

export const newer: StreamStatus = "melted";
export const unknown: UnknownNotification = { jsonrpc: "2.0", method: "stream/whispered", params: { volume: 0.1 } };
export const asAny: Notification = unknown as Notification;
export const ping: Request = { jsonrpc: "2.0", id: "1", method: "ping", params: {} };
// @ts-expect-error what is sent is closed: a mistyped role is found
export const robot: ChatMessage = { role: "robot", content: "" };
export const role = (message: StoredMessage): string => message.role;
// @ts-expect-error ping takes nothing
export const loud: Request = { jsonrpc: "2.0", id: "1", method: "ping", params: { volume: 1 } };

export function shown(content: Content): string {
  return typeof content === "string" ? content : content.map(seen).join("\n");
}

function seen(part: Part): string {
  switch (part.type) {
    case "text": {
      const text: string = part.text;
      // @ts-expect-error text has no URL: its fields are known
      part.url;
      return text;
    }
    case "image":
      return part.url ?? part.file_id ?? "";
    case "file":
      return part.filename ?? "";
    default: {
      const unknown = part as UnknownPart;
      return `${unknown.type} of ${String(unknown["frames"])} frames`;
    }
  }
}

export const video: Part = JSON.parse('{"type": "video", "frames": 3}');
export const asked: ChatMessage = { role: "user", content: [{ type: "text", text: "What is this?" }, video] };
// @ts-expect-error a mistyped part is found
export const mistyped: Part = { type: "txt", text: "What is this?" };
export const tools: Tool[] = [{ name: "get_weather", parameters: { type: "object" } }];
export const choices: ToolChoice[] = ["auto", "none", "required", { name: "get_weather" }];
// @ts-expect-error there is no such word
export const choice: ToolChoice = "sometimes";
