// The types of archer-react.js: what the hook takes, and what a component may rely on.

import type {
  ArcherClient,
  ArcherError,
  ChatMessage,
  ChatSendParams,
  ChatStream,
  ConnectOptions,
  Content,
  State,
  StreamEnd,
  StreamOptions,
  ToolCallState,
} from "./archer-client.js";

/**
 * One chat: its messages, the running stream's text so far, and the functions that send and cancel.
 *
 * The component that uses it is rendered when something changes, about 60 times a second at most. Components of one
 * page share the socket. In StrictMode nothing is connected or sent twice. When the component unmounts for more than a
 * second, a running stream is cancelled; with a `storageKey` it runs on, and the next mount resumes it.
 */
export function useChat(options?: UseChatOptions): Chat;

export interface UseChatOptions extends Pick<ConnectOptions, "url" | "token" | "ticket">, Pick<StreamOptions, "tools" | "approve"> {
  /**
   * The key under which the tab's `sessionStorage` stores the messages and the running stream's id: then a reload of
   * the page shows the messages again and resumes the stream. Without it a reload begins with `initialMessages`.
   */
  storageKey?: string;
  /** The first messages of the conversation, if none are stored: a system message, say. */
  initialMessages?: ChatMessage[];
  /**
   * The other fields of each request: `provider`, `model`, `temperature`, … With a `session_id` the server stores the
   * conversation, and only the new message is sent.
   */
  request?: Omit<ChatSendParams, "messages" | "stream_id">;
}

export interface ChatState {
  /** The conversation, with the running stream's messages so far: completions with their calls, and tool results. */
  messages: readonly ChatMessage[];
  /**
   * `ready`: no stream runs, `send` may be called. Otherwise the stream's status: `queued`, `running`, or `waiting` for
   * tool results.
   */
  status: "ready" | ChatStream["status"];
  /** The connection's state. The client reconnects by itself, except after `closed`; then `error` says why. */
  connection: State;
  /** The text so far of the last step of the running stream, or of the last stream if none runs. */
  text: string;
  /** The model's visible reasoning in that step. */
  reasoning: string;
  /** All calls of that stream with their states, to show them as cards. */
  toolCalls: readonly ToolCallState[];
  /** Why the last stream failed, is incomplete or lost, or the connection is closed; its `hint` says what to do. */
  error: ArcherError | undefined;
  /** How the last stream ended; undefined while one runs. */
  ended: StreamEnd | undefined;
  /** The running stream, or the last one: `streamId`, `steer()`. */
  stream: ChatStream | undefined;
  /** The client while the component is mounted: `upload()` makes a file for a part of a message. */
  client: ArcherClient | undefined;
}

export interface Chat extends ChatState {
  /**
   * Send a message: a text, or parts. Returns false if nothing was sent, because a stream runs (`cancel` it first, or
   * call `stream.steer`) or the component is not mounted. Later failures are in `error`.
   */
  send(content: Content): boolean;
  /** Cancel the running stream; its text so far stays in `messages`. */
  cancel(): void;
  /** Replace the conversation: `[]` begins a new one. A running stream is cancelled. */
  setMessages(messages: readonly ChatMessage[]): void;
}
