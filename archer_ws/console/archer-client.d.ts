// The types of archer-client.js: what a program may call, and what it may rely on. The messages' types are the
// server's own (archer.d.ts, generated).

import type {
  CancelResult,
  ChatMessage,
  ChatSendParams,
  ErrorInfo,
  Methods,
  GivenStatus,
  Notifications,
  Part,
  SessionChanged,
  StreamEnded,
  StreamMessage,
  StreamStatus,
  StreamToolCall,
  StreamToolResult,
  ToolOutcome,
  UnknownEvent,
} from "./archer.js";

export type * from "./archer.js";

/**
 * A client of the server at `options.url`. It connects by itself, now and after every loss, and its streams and
 * requests go on where they were: nothing lost, doubled or reordered.
 *
 * Clients of one page for the same URL and credential share one socket (whose other options are the first client's),
 * which is closed `lingerMs` after the last of them: so React's StrictMode, which mounts everything twice, makes one
 * connection. Each tab has its own; a stream that was started in one can be read in any other by `resume(streamId)`.
 *
 * @throws {ArcherError} the URL can't be used, or there is no WebSocket here.
 */
export function connect(options?: ConnectOptions): ArcherClient;

export interface ConnectOptions {
  /** `http(s)://` or `ws(s)://`, with the path prefix that a proxy may add. By default where this module came from. */
  url?: string | URL;
  /** The credential, where the server needs one; sent within the connection. A page's visitors can read it. */
  token?: string;
  /**
   * What a page shows instead of a token: a ticket made for it by your own backend, which calls
   * `POST /api/v1/ws/tickets` with the token and the page's origin. Either the URL of such an endpoint (it is sent
   * `{"origin": …}` by POST and responds with `{"ticket": …}`), or a function; it is asked anew for each connection.
   * Throw an ArcherError with `retryable: false` to stop. A function is part of what a shared connection is known by:
   * define it once, outside of components.
   */
  ticket?: string | URL | (() => Promise<string>);
  /** Aborting it closes the client. */
  signal?: AbortSignal;
  /** Who you are, for the server's log. */
  client?: { name: string; version: string };
  /** How long the server may gather a stream's text, in milliseconds; 0 (the default) sends all at once. */
  coalesceMs?: number;
  /**
   * How long what the server has not accepted may wait without a connection, and how long the connection may be lost
   * each time before the response to the same request, in milliseconds; 60,000 by default.
   */
  giveUpAfterMs?: number;
  /** How long a socket that nobody uses any more is kept, in milliseconds; 1,000 by default. */
  lingerMs?: number;
  /** Pauses between attempts: a random part of a ceiling from `firstMs` (500) that doubles up to `maxMs` (20,000). */
  backoff?: { firstMs?: number; maxMs?: number };
  /**
   * What the models of this client's streams may call, by name: offered with each request, and run here. `send` and
   * `resume` take others in their place.
   */
  tools?: Tools;
  /** Asks a person, for the calls of tools that need it. */
  approve?: Approve;
  /** False: a socket of its own. */
  shared?: boolean;
  /** Where there is no global one (Node before 22): `import { WebSocket } from "ws"`. */
  WebSocket?: unknown;
}

/**
 * - connecting: no connection, but attempts at one
 * - open: connected
 * - offline: the device has no network; the next attempt comes with it. (A server on this machine needs none.)
 * - closed: for good, by `close()` or because the server said so; `error` tells why
 */
export type State = "connecting" | "open" | "offline" | "closed";

/** What `on` can listen to, with the listener's arguments. */
export interface ClientEvents {
  state: [state: State, error: ArcherError | undefined];
  /** Every notification of the server, those of a newer server too. */
  notification: [message: AnyNotification];
}

/** Switch on `method`; what is left comes from a newer server, and its params are `unknown`. */
export type AnyNotification =
  | { [M in keyof Notifications]: { method: M; params: Notifications[M] } }[keyof Notifications]
  | Unmatched;

/** Any text may be its `method`; its params are `never`, so that those of a known method are what they are. */
interface Unmatched {
  method: string;
  params: never;
}

/** Tools by the names that the model calls them by: letters, digits, `_` and `-`, 64 at most. */
export type Tools = Record<string, ToolHandler>;

/** A tool: what the model is told of it, and what runs it here. */
export interface ToolHandler {
  /** What it does and when to use it. */
  description?: string;
  /** A JSON Schema of its arguments, `type: "object"`; they are checked by it before `run` gets them. */
  parameters?: Record<string, unknown>;
  /** As the protocol's `Tool.strict`. */
  strict?: boolean;
  /** Whether a person must agree to each call: see `approve`. */
  needsApproval?: boolean;
  /** Whether a call may run twice: then one whose runner was lost is run again, by whoever is there. */
  idempotent?: boolean;
  /**
   * Run a call. What it returns is what the model is told: a string as it is; a Blob, or an array of parts, Blobs and
   * strings, as parts (the Blobs are uploaded); anything else as JSON. What it throws, the model is told as an error.
   * Without it, your page shows the call, and `answer` sends its result.
   */
  run?(args: any, context: ToolContext): unknown;
}

export interface ToolContext {
  /** Aborted when the result is of no use any more: the stream has ended or was left, the call is settled. */
  signal: AbortSignal;
  /** The call's id, the same for whoever runs it: an idempotency key. */
  callId: string;
  stream: ChatStream;
}

/**
 * Whether a call may run: true, false, or false with the reason that the model is told; now or later. It is asked once
 * for each call that needs approval and has a handler here, or is run by the server. `signal` is aborted when the
 * decision is no longer needed, because another window's came first. If it throws, the call is denied. Without it, calls
 * wait for `ArcherClient.approve`, from here or elsewhere.
 */
export type Approve = (
  call: ToolCallState,
  context: { signal: AbortSignal; stream: ChatStream },
) => boolean | Approval | Promise<boolean | Approval>;

export interface Approval {
  approved: boolean;
  reason?: string;
}

/**
 * A call and where it stands, for cards. It is replaced by a new object whenever it moves.
 * - needs_approval: a person must agree first
 * - pending: open; nobody runs it
 * - running: somebody does, here or elsewhere
 * - settled: it has its `result`
 */
export interface ToolCallState extends StreamToolCall {
  state: "needs_approval" | "pending" | "running" | "settled" | (string & {});
  result?: Omit<StreamToolResult, "stream_id" | "seq" | "call_id">;
}

/** Methods that are called; chats are sent, streams resumed. */
export type CallableMethod = Exclude<
  keyof Methods,
  "initialize" | "chat/send" | "stream/subscribe" | "stream/unsubscribe" | "session/watch" | "session/unwatch"
>;

type Params<M extends keyof Methods> = {} extends Methods[M]["params"]
  ? [params?: Methods[M]["params"], options?: { signal?: AbortSignal }]
  : [params: Methods[M]["params"], options?: { signal?: AbortSignal }];

export class ArcherClient {
  constructor(options?: ConnectOptions);
  readonly state: State;
  /** Why there is no connection. */
  readonly error: ArcherError | undefined;
  /** When it tries to connect again, as `Date.now()` counts; undefined while it tries, is connected, or waits for a network. */
  readonly retryAt: number | undefined;

  /**
   * Send a chat: a text, or a request with all its fields. It is sent as soon as there is a connection, whether or not
   * the stream is read. Its `stream_id`, a new one by default, makes repeating it harmless: after a lost connection the
   * request joins the stream that it began. It never throws: errors come through the stream.
   */
  send(request: string | ChatSendParams, options?: SendOptions): ChatStream;

  /**
   * Upload a picture or a document; parts of messages then name it by its `file_id`. It goes over HTTP, and is retried
   * while the server is not there or has no room. Rejects with an ArcherError, or the signal's reason.
   */
  upload(
    blob: Blob,
    options?: { signal?: AbortSignal; onProgress?: (progress: UploadProgress) => void },
  ): Promise<UploadedFile>;

  /**
   * Read a stream that exists already: after a reload of the page, or in another tab. By default from its first event,
   * which gives the whole text; with `after`, from the event after that `seq`. Leaving it does not cancel it, unless
   * `detach` is false.
   */
  resume(streamId: string, options?: StreamOptions & { after?: number }): ChatStream;

  /**
   * Approve or deny a call that needs approval; the first decision counts, from whichever window. A call that is denied
   * here does not run here all the same: if another window approved it first, and no client has claimed it, the denial
   * becomes its result. Repeating it is harmless, as it is for `answer`: after a lost connection both are sent again.
   */
  approve(streamId: string, callId: string, approved: boolean, reason?: string): Promise<ToolOutcome>;

  /**
   * Send the tool result of a call that a stream waits for, instead of its handler; the first result counts. `result`
   * may be whatever a handler may return. For a claimed call it needs that `claim`.
   */
  answer(
    streamId: string,
    callId: string,
    result: unknown,
    options?: { status?: GivenStatus; claim?: string },
  ): Promise<ToolOutcome>;

  /**
   * Call any other method. Without a connection it waits for one. If the connection is lost before the response, methods
   * that are harmless to repeat are sent again; the others reject with the kind `connection_lost`, and so do those for
   * which it is lost again and again.
   */
  call<M extends CallableMethod>(method: M, ...params: Params<M>): Promise<Methods[M]["result"]>;

  /** Listen to an event; returns a function that stops it. An error that a listener throws is reported, and no more. */
  on<E extends keyof ClientEvents>(event: E, listener: (...args: ClientEvents[E]) => void): () => void;

  /**
   * Watch all conversations, or one (`sessionId`), for changes; returns a function that stops it. Each change is the
   * conversation's current state, its deletion included (`deleted`). Changes made while the connection was lost are
   * reported after the reconnect. A list that is requested afterwards is not newer than what the listener gets.
   * `onError`: there is no such conversation, the server is too old to watch it, or the connection is lost each time
   * that it is asked; the watch has ended.
   */
  watch(
    listener: (change: SessionChanged) => void,
    options?: { sessionId?: string; onError?: (error: ArcherError) => void },
  ): () => void;

  /** Close the client: its streams end with the status `lost`; at the server each goes on or ends by its `on_disconnect`. */
  close(): void;
}

export interface StreamOptions {
  /** Aborting it cancels the stream; loops over it throw `signal.reason` (an AbortError) at once. */
  signal?: AbortSignal;
  /**
   * Whether leaving (a `break` out of its loop, or an abort) lets the stream run on instead of cancelling it:
   * by default false for `send` and true for `resume`.
   */
  detach?: boolean;
  /**
   * Everything the stream tells, in order: started, progress, delta, tool_call, tool_update, tool_result, step, ended,
   * and as it came whatever a newer server has beside them. Such an event counts: the stream goes on after it. The
   * pieces of a call's arguments are deltas with `arguments`, `call_id` and `name`: to be shown, and not to be run
   * before their `stream/tool_call`.
   */
  onEvent?: (event: StreamEvent) => void;
  /**
   * In place of the client's own: what runs the calls of this stream here. `send` offers them too, beside the request's
   * own `tools`, and asks for `on_tool_call: "wait"` unless the request says otherwise. A call is claimed right before
   * it runs, so of several windows with its handler one runs it, and no replay runs it again; several calls run side by
   * side. `resume` takes over calls that are open. With `{}` the calls are only shown.
   */
  tools?: Tools;
  /** In place of the client's own. */
  approve?: Approve;
}

export interface SendOptions extends StreamOptions {
  /**
   * Pictures for the last message: a File, or any Blob whose `type` says what it is. They are uploaded first, as is
   * base64 data in the messages that is too large for the socket. If the stream is cancelled before that is done, its
   * request is never sent.
   */
  images?: readonly Blob[];
  /** Documents for it, likewise. */
  files?: readonly Blob[];
  /** How far the uploads are; in Node each is told once, at its end. */
  onUpload?: (progress: UploadProgress) => void;
}

/** How far an upload is; `filename` is empty where the file has none. */
export interface UploadProgress {
  filename: string;
  sentBytes: number;
  totalBytes: number;
}

/** A file that the server keeps; parts of messages name it by its `file_id`. */
export interface UploadedFile {
  file_id: string;
  media_type: string;
  bytes: number;
}

/** Switch on `method`; what is left is an UnknownStreamEvent. */
export type StreamEvent = Extract<AnyNotification, { method: `stream/${string}` }> | Unmatched;

/** An event of a newer server. */
export interface UnknownStreamEvent {
  method: string;
  params: UnknownEvent;
}

/**
 * New text: content, or the model's visible reasoning. A stream that waits for tools has several steps: between two of
 * them comes a delta with `step` alone, the number of the step that begins. `reset`: discard the text so far; all of it
 * comes again.
 */
export interface Delta {
  content?: string;
  reasoning?: string;
  step?: number;
  reset?: true;
}

/**
 * How a stream ended. Where the server could not tell, the client does: `failed`, the request was not accepted;
 * `lost`, it can't be followed any more (the server has forgotten it, the client was closed, or the connection is lost
 * each time that it is requested), and may have gone on.
 *
 * After a crash and restart of the server: `incomplete`, with an `error` of kind `worker_lost` that is `retryable`. The
 * stream's `text` is what was stored, and `message_ids` begins with the question's id: send the question again with that
 * id as `replace_from`, and the new stream replaces what was lost.
 */
export interface StreamEnd extends Omit<StreamEnded, "status"> {
  status: StreamStatus | "lost";
}

/**
 * One chat request with its events: with tools it has several steps, and the calls run in between. `for await` yields
 * the text of all steps as it comes; each loop yields all of it, from the first character. A slow loop gets larger
 * pieces and does not slow down others. The loop ends when the stream is completed or cancelled; when it failed, is
 * incomplete or was lost, the loop throws an ArcherError after the text that came. Leaving the loop cancels the stream,
 * unless `detach` is true.
 */
export class ChatStream implements AsyncIterable<Delta> {
  private constructor();
  readonly streamId: string;
  /** The text of the last step so far. */
  readonly text: string;
  readonly reasoning: string;
  /**
   * All calls, in order, with their states. A call comes once the model has completed the step normally. With
   * `on_tool_call: "end"`, the default without handlers, they come with the end, and are yours to run.
   */
  readonly toolCalls: ToolCallState[];
  /** The last completion as a message for the next request; the tool results of its calls follow it there. */
  readonly message: ChatMessage;
  /**
   * All messages of the stream so far: completions with their calls, tool results and steered messages. The same as
   * those of `stream/get` with `messages: true`, except that a result longer than 64 KiB has only its first 64 KiB
   * if it was not sent by a handler of this stream; `toolCalls` then has `truncated` in the call's `result`.
   */
  readonly messages: StreamMessage[];
  /** The number of the last event that came, to `resume` after it. */
  readonly seq: number;
  /** `waiting`: for the results of calls. */
  readonly status: StreamStatus | "lost";
  /** Resolves with its end, also a bad one; never rejects. */
  readonly ended: Promise<StreamEnd>;
  /** Cancel the generation. The stream still ends, with the status `cancelled` and the text so far. */
  cancel(): Promise<CancelResult>;
  /**
   * Send the model a message while it works; it gets the message in its next step. The `outcome` is `accepted`, or
   * `too_late` or `already_ended`: then send it as a new chat. If the stream ends before the next step after all, the
   * message is in the end's `unsteered`. Blobs among the parts are uploaded. Repeating a `messageId` is harmless.
   */
  steer(
    content: string | readonly (string | Part | Blob)[],
    options?: { messageId?: string; signal?: AbortSignal },
  ): Promise<ToolOutcome>;
  [Symbol.asyncIterator](): AsyncIterableIterator<Delta>;
}

/**
 * What went wrong; `message` says what happened and `hint` what to do. `kind` is one of the protocol's, or this
 * client's own: unreachable, forbidden (the server does not let this page in), not_archer, closed, connection_lost,
 * detached, not_supported.
 */
export class ArcherError extends Error {
  constructor(info: Partial<ErrorInfo> & { message: string }, more?: { code?: number; cause?: unknown });
  readonly kind: string;
  readonly hint: string | undefined;
  readonly retryable: boolean;
  readonly retryAfterMs: number | undefined;
  readonly requestId: string | undefined;
  readonly streamId: string | undefined;
  readonly provider: string | undefined;
  readonly errors: ErrorInfo["errors"] | undefined;
  /** The socket's close code, or JSON-RPC's error code. */
  readonly code: number | undefined;
  /** The same as the protocol writes it. */
  readonly info: ErrorInfo;
}
