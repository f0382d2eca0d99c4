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
 * One chat: its messages, the answer as it comes, and what sends and cancels.
 *
 * The component that uses it is rendered when something changes, about 60 times a second at most. Components of one
 * page share the socket. In StrictMode nothing is connected or sent twice. When the component unmounts for more than a
 * second, a running answer is cancelled; with a `storageKey` it goes on, and the next mount resumes it.
 */
export function useChat(options?: UseChatOptions): Chat;

export interface UseChatOptions extends Pick<ConnectOptions, "url" | "token" | "ticket">, Pick<StreamOptions, "tools" | "approve"> {
  /**
   * A name under which the tab's `sessionStorage` keeps the messages, and which answer runs: then a reload of the page
   * shows them again and resumes the answer. Without it a reload begins with `initialMessages`.
   */
  storageKey?: string;
  /** What the conversation begins with, where nothing is stored: a system message, say. */
  initialMessages?: ChatMessage[];
  /**
   * What each request has beside its messages: `provider`, `model`, `temperature`, … With a `session_id` the server
   * keeps the conversation, and only the new message is sent.
   */
  request?: Omit<ChatSendParams, "messages" | "stream_id">;
}

export interface ChatState {
  /** The conversation, with the answer so far; with tools their calls and results, too. */
  messages: readonly ChatMessage[];
  /**
   * `ready`: nothing runs, `send` may be called. Else what the answer does: `queued`, `running`, or `waiting` for the
   * results of calls.
   */
  status: "ready" | ChatStream["status"];
  /** The connection. It is mended by itself; `closed` is for good, and `error` says why. */
  connection: State;
  /** The text of the answer so far, of the last one after its end. */
  text: string;
  /** Its visible reasoning. */
  reasoning: string;
  /** Its calls, and where each stands, for cards. */
  toolCalls: readonly ToolCallState[];
  /** Why the last answer has failed, is incomplete or lost, or the connection is closed; its `hint` says what to do. */
  error: ArcherError | undefined;
  /** How the last answer ended; undefined while one runs. */
  ended: StreamEnd | undefined;
  /** The answer itself: `streamId`, `steer()`. */
  stream: ChatStream | undefined;
  /** The client while the component is mounted: `upload()` makes a file for a part of a message. */
  client: ArcherClient | undefined;
}

export interface Chat extends ChatState {
  /**
   * Ask: a text, or parts. False: nothing was sent, as an answer runs (`cancel` it first, or `stream.steer`), or the
   * component is not mounted. What goes wrong later is told by `error`.
   */
  send(content: Content): boolean;
  /** End the running answer; its text so far stays in `messages`. */
  cancel(): void;
  /** Replace the conversation: `[]` begins a new one. A running answer is cancelled. */
  setMessages(messages: readonly ChatMessage[]): void;
}
