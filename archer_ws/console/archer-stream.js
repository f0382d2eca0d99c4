// One stream: its events in order, its text, its end.
//
// `Log` receives a stream's events from the connection and checks their order, so that none is lost, doubled or out of
// place (protocol section 5). `ChatStream` is the object that a program holds. A socket delivers each stream once, so
// several `ChatStream`s may share one log. archer-link.js reconnects and subscribes again.

import { Deltas } from "./archer-deltas.js";
import { ArcherError, notify } from "./archer-errors.js";
import { bytesOf, newId, noLosses } from "./archer-requests.js";
import { ToolRunner } from "./archer-tools.js";
import { Transcript, named } from "./archer-transcript.js";
import { contentOf } from "./archer-upload.js";

/**
 * @typedef {import("./archer-client.d.ts").ChatStream} Stream
 * @typedef {import("./archer-client.d.ts").StreamEnd} StreamEnd
 * @typedef {import("./archer-client.d.ts").StreamOptions} StreamOptions
 * @typedef {import("./archer-client.d.ts").Delta} Delta
 * @typedef {import("./archer-client.d.ts").ToolCallState} ToolCallState
 * @typedef {import("./archer-client.d.ts").StreamEvent} StreamEvent
 * @typedef {import("./archer.js").ChatMessage} ChatMessage
 * @typedef {import("./archer.js").StreamDelta} StreamDelta
 * @typedef {import("./archer.js").UnknownEvent} UnknownEvent
 * @typedef {import("./archer.js").CancelResult} CancelResult
 * @typedef {import("./archer-deltas.js").Kind} Kind
 * @typedef {import("./archer-tools.js").Upload} Upload
 * @typedef {Pick<import("./archer-link.js").Link, "leave" | "cancel" | "ask" | "call">} Owner
 */

// After a gap in the events the stream is subscribed to again. After more than this many gaps in a row it fails.
const GAPS_MAX = 3;

export class Log {
  /** @type {Set<ChatStream>} */
  views = new Set();
  transcript = new Transcript();
  /** @type {StreamEnd | undefined} */
  end;
  /** @type {ArcherError | undefined} */
  error;
  /** Whether a request for it has been sent: if not, a cancel needs no request to the server. */
  isSent = false;
  isAccepted = false;
  /** Why only the server knows whether there is such a stream: its request got no response. @type {ArcherError | undefined} */
  doubt;
  /** Those of its subscriptions. */
  losses = noLosses();
  status = "queued";
  #isAttached = false;
  /** Whether the connection was lost since it was attached. */
  #wasLost = false;
  /** The number of the last event that the server had when the stream was attached. */
  #headSeq = 0;
  #accept = () => {};
  /** Resolves when the server has accepted the stream, or when the stream has ended. @type {Promise<void>} */
  accepted = new Promise((resolve) => (this.#accept = resolve));
  #gaps = 0;

  /**
   * @param {Owner} link
   * @param {string} streamId
   * @param {string | undefined} request the params of chat/send as JSON; undefined if the stream exists already
   * @param {number} after
   */
  constructor(link, streamId, request, after) {
    this.link = link;
    this.streamId = streamId;
    this.request = request;
    this.after = after;
    this.seq = after;
  }

  /**
   * The request that attaches the stream, so that its events are delivered: chat/send until that was accepted (its
   * stream_id makes repeating it harmless), then stream/subscribe.
   */
  attaching() {
    return this.request !== undefined && !this.mayExist
      ? { method: "chat/send", body: this.request }
      : { method: "stream/subscribe", body: JSON.stringify({ stream_id: this.streamId, after: this.seq }) };
  }

  /** @param {{ status?: string, head_seq?: number }} result */
  attached(result) {
    this.isAccepted = this.#isAttached = true;
    this.doubt = undefined;
    this.status = result?.status ?? this.status;
    this.#headSeq = result?.head_seq ?? 0;
    this.#accept();
    // After a gap, what was sent for the calls is still in flight.
    if (this.#wasLost) for (const { tools } of this.views) tools?.repeat();
    this.#wasLost = false;
    this.#look();
  }

  /** Whether the server has accepted it, or may have. */
  get mayExist() {
    return this.isAccepted || this.doubt !== undefined;
  }

  /**
   * A request for this stream got no response. Returns whether to ask for the stream, which may have begun all the same:
   * not if that was the request.
   * @param {ArcherError} error
   */
  unanswered(error) {
    if (this.request === undefined || this.mayExist) return false;
    this.doubt = error;
    return true;
  }

  /** Whether the replay is over: until then, a later event of the replay may change the state that is known here. */
  get isCurrent() {
    return this.#isAttached && this.seq >= this.#headSeq;
  }

  /** Events that arrive before the stream is attached again belong to an older subscription and are ignored. */
  detached() {
    this.#isAttached = false;
    this.#wasLost = true;
  }

  /**
   * Handle an event. Returns "over" after the stream's end, and "gap" if events before this one are missing.
   * @param {StreamEvent} event
   * @returns {"taken" | "over" | "gap"}
   */
  take(event) {
    const { method, params } = event;
    // Every notification with a `seq` is an event of the log, also one unknown here. A merged event also has `from`.
    const { seq, from } = /** @type {UnknownEvent} */ (params);
    const first = Number.isSafeInteger(from) ? from : seq;
    const reset = method === "stream/delta" && params.reset === true;
    // With `stream: false` the last event has the whole text, and there are no deltas.
    const isWhole = method === "stream/ended" && typeof params.content === "string";
    if (!this.#isAttached || !Number.isSafeInteger(seq)) return "taken";
    if (first !== this.seq + 1 && !reset && !isWhole) return seq <= this.seq ? "taken" : this.#gap();
    const wasCurrent = this.isCurrent;
    this.seq = seq;
    this.#gaps = 0;
    this.#note(event, reset);
    if (isWhole && !this.transcript.last.content) this.#append(params, false);
    for (const view of [...this.views]) notify(view.onEvent, event);
    if (method === "stream/ended") {
      this.finish(params, endError(params));
      return "over";
    }
    if (method !== "stream/delta" || !wasCurrent) this.#look();
    return "taken";
  }

  /** @param {ArcherError} error why no more events will arrive @param {"failed" | "lost"} status */
  fail(error, status) {
    const why = error.kind === "stream_not_found" ? (this.doubt ?? error) : error;
    this.finish(localEnd(this, status, why), why);
  }

  /** @param {StreamEnd} end @param {ArcherError} [error] */
  finish(end, error) {
    if (this.end) return;
    this.end = end;
    this.error = error;
    this.status = end.status;
    this.#accept();
    for (const view of [...this.views]) view.finish(end, error);
  }

  #gap() {
    this.#isAttached = false;
    if (++this.#gaps <= GAPS_MAX) return "gap";
    const message = `the server leaves out events of stream ${this.streamId}`;
    this.fail(new ArcherError({ kind: "not_archer", message, hint: "See the server's log." }), "lost");
    return "over";
  }

  /** @param {StreamEvent} event @param {boolean} reset */
  #note(event, reset) {
    const { method, params } = event;
    if (method === "stream/started") this.status = "running";
    else if (method === "stream/delta") this.#append(params, reset);
    else {
      const { isWaiting } = this.transcript;
      this.transcript.take(event, (callId) => this.#sentResult(callId));
      if (this.transcript.isWaiting !== isWaiting) this.status = isWaiting ? "queued" : "waiting";
      if (method !== "stream/step") return;
      this.status = "running";
      for (const view of this.views) view.begin(params.step);
    }
  }

  /** The content of a call's tool result, if a tool runner has sent it. @param {string} callId */
  #sentResult(callId) {
    return [...this.views].map(({ tools }) => tools?.sentContent(callId)).find((sent) => sent !== undefined);
  }

  /** Let the tool runners act on the calls' states. */
  #look() {
    for (const { tools } of [...this.views]) tools?.look();
  }

  /** @param {Partial<Pick<StreamDelta, Kind>>} params @param {boolean} reset */
  #append(params, reset) {
    if (reset) this.transcript.reset(); // Calls, results and steps follow the text in the log, so they come again too.
    for (const kind of /** @type {Kind[]} */ (["reasoning", "content"])) {
      const text = params[kind];
      if (typeof text !== "string" || !text) continue;
      this.transcript.append(kind, text);
      for (const view of this.views) view.push(kind, text, reset);
      reset = false;
    }
    if (reset) for (const view of this.views) view.push("content", "", true);
  }
}

/** @param {StreamEnd} end */
function endError(end) {
  if (end.status === "completed" || end.status === "cancelled") return undefined;
  const message = end.status === "incomplete" ? "the stream is incomplete" : "the stream failed";
  return new ArcherError({ kind: "internal_error", message, stream_id: end.stream_id, ...end.error });
}

/**
 * The end of a stream for which the server sent none.
 * @param {Log} log @param {"cancelled" | "failed" | "lost"} status @param {ArcherError} [error]
 * @returns {StreamEnd}
 */
export function localEnd(log, status, error) {
  const text_bytes = bytesOf(log.transcript.steps.map(({ content }) => content).join(""));
  const end = { stream_id: log.streamId, seq: log.seq, status, text_bytes };
  return error ? { ...end, error: error.info } : { ...end, reason: "client" };
}

/** Rejects with the signal's reason if it is aborted first. @param {Promise<void>} over @param {AbortSignal} [signal] */
async function unlessAborted(over, signal) {
  let abort = () => {};
  const aborted = new Promise((_, reject) => (abort = () => reject(signal?.reason)));
  if (signal?.aborted) abort();
  signal?.addEventListener("abort", abort);
  await Promise.race([over, aborted]).finally(() => signal?.removeEventListener("abort", abort));
}

/** @implements {Stream} */
export class ChatStream {
  #log;
  #detach;
  #signal;
  #upload;
  /** @type {Set<Deltas>} */
  #readers = new Set();
  /** @type {(end: StreamEnd) => void} */
  #settle = () => {};
  /** @type {{ error?: unknown } | undefined} */
  #outcome;

  /** @param {Log} log @param {StreamOptions} options @param {Upload} upload */
  constructor(log, { signal, detach = false, onEvent, tools = {}, approve }, upload) {
    this.#log = log;
    this.#detach = detach;
    this.#signal = signal;
    this.#upload = upload;
    this.onEvent = onEvent;
    const runs = approve !== undefined || Object.keys(tools).length > 0;
    this.tools = runs ? new ToolRunner(this, log, tools, approve, upload) : undefined;
    /** @type {Promise<StreamEnd>} */
    this.ended = new Promise((resolve) => (this.#settle = resolve));
    log.views.add(this);
    if (log.end) this.finish(log.end, log.error);
    else if (signal?.aborted) this.#abort();
    else signal?.addEventListener("abort", this.#abort);
    this.tools?.look();
  }

  // Vue's `ref` wraps what is called an Object, and then the private fields can't be read.
  get [Symbol.toStringTag]() {
    return "ChatStream";
  }

  get streamId() {
    return this.#log.streamId;
  }

  get text() {
    return this.#log.transcript.last.content;
  }

  get reasoning() {
    return this.#log.transcript.last.reasoning;
  }

  /** @returns {ToolCallState[]} */
  get toolCalls() {
    return [...this.#log.transcript.calls.values()];
  }

  /** @returns {ChatMessage} */
  get message() {
    const calls = this.#log.transcript.lastCalls.map(named);
    return { role: "assistant", content: this.text, ...(calls.length > 0 && { tool_calls: calls }) };
  }

  get messages() {
    return this.#log.transcript.messages;
  }

  get seq() {
    return this.#log.seq;
  }

  get status() {
    return this.#log.status;
  }

  cancel() {
    const response = this.#log.link.cancel(this.#log);
    response.catch(() => {}); // A caller may ignore the response: the stream's end reports the failure as well.
    return response;
  }

  /** @type {Stream["steer"]} */
  async steer(content, { messageId = newId("msg"), signal } = {}) {
    const params = { stream_id: this.streamId, message_id: messageId };
    const sent = await contentOf(content, (blob) => this.#upload(blob, signal));
    await unlessAborted(this.#log.accepted, signal); // Until then the server does not know the stream.
    return this.#log.link.call("stream/steer", JSON.stringify({ ...params, content: sent }), signal);
  }

  /** @returns {AsyncIterableIterator<Delta>} */
  [Symbol.asyncIterator]() {
    const reader = new Deltas(this.#log.transcript.steps, () => this.#outcome, () => this.#left(reader));
    this.#readers.add(reader);
    return reader;
  }

  /** @param {Kind} kind @param {string} text @param {boolean} reset */
  push(kind, text, reset) {
    for (const reader of this.#readers) reader.push(kind, text, reset);
  }

  /** @param {number} step */
  begin(step) {
    for (const reader of this.#readers) reader.begin(step);
  }

  /** @param {StreamEnd} end @param {ArcherError} [error] */
  finish(end, error) {
    this.tools?.end();
    this.#signal?.removeEventListener("abort", this.#abort);
    this.#log.views.delete(this);
    this.#outcome ??= { error };
    this.#settle(end);
    for (const reader of this.#readers) reader.wake();
  }

  /** Stop reading the stream here; it runs on at the server. @param {ArcherError} error */
  leave(error) {
    if (!this.#log.views.has(this)) return;
    this.tools?.leave();
    this.tools = undefined;
    this.finish(localEnd(this.#log, "lost", error), error);
    if (this.#log.views.size === 0) this.#log.link.leave(this.#log);
  }

  #abort = () => {
    this.#outcome = { error: this.#signal?.reason ?? new DOMException("the stream was aborted", "AbortError") };
    for (const reader of this.#readers) reader.stop();
    this.#readers.clear();
    if (this.#detach) {
      this.leave(new ArcherError({ kind: "detached", message: "the stream is no longer followed here" }));
    } else this.cancel();
  };

  /** @param {Deltas} reader */
  #left(reader) {
    this.#readers.delete(reader);
    if (!this.#detach && !this.#outcome) this.cancel();
  }
}
