// One stream: its events in order, its text, its end.
//
// `Log` follows a stream for its connection and owns the order: nothing lost, doubled or out of turn (protocol
// section 5). `ChatStream` is what a program holds; several may show one log, as one socket has one delivery a stream.
// Connecting again and asking anew are archer-link.js's.

import { Deltas } from "./archer-deltas.js";
import { ArcherError, notify } from "./archer-errors.js";
import { newId } from "./archer-requests.js";
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

// So many gaps in a row are mended by asking again; then the server is at fault.
const GAPS_MAX = 3;

export class Log {
  /** @type {Set<ChatStream>} */
  views = new Set();
  transcript = new Transcript();
  /** @type {StreamEnd | undefined} */
  end;
  /** @type {ArcherError | undefined} */
  error;
  /** Whether a request for it has gone out: only then does the server need to hear of a cancel. */
  isSent = false;
  isAccepted = false;
  status = "queued";
  #isAttached = false;
  /** The last event that there was when it was attached. */
  #headSeq = 0;
  #accept = () => {};
  /** Resolves when the server knows it, or never will. @type {Promise<void>} */
  accepted = new Promise((resolve) => (this.#accept = resolve));
  #gaps = 0;

  /**
   * @param {Owner} link
   * @param {string} streamId
   * @param {string | undefined} request chat/send's params as JSON; undefined where the stream is there already
   * @param {number} after
   */
  constructor(link, streamId, request, after) {
    this.link = link;
    this.streamId = streamId;
    this.request = request;
    this.after = after;
    this.seq = after;
  }

  /** What has its events delivered: the request itself until it was accepted (its id makes repeating it harmless). */
  attaching() {
    return this.request !== undefined && !this.isAccepted
      ? { method: "chat/send", body: this.request }
      : { method: "stream/subscribe", body: JSON.stringify({ stream_id: this.streamId, after: this.seq }) };
  }

  /** @param {{ status?: string, head_seq?: number }} result */
  attached(result) {
    this.isAccepted = this.#isAttached = true;
    this.status = result?.status ?? this.status;
    this.#headSeq = result?.head_seq ?? 0;
    this.#accept();
    for (const { tools } of this.views) tools?.repeat();
    this.#look();
  }

  /** Whether all that has happened is known: what stands in a replay may be over further on. */
  get isCurrent() {
    return this.#isAttached && this.seq >= this.#headSeq;
  }

  /** What comes until it is attached anew belongs to an older delivery. */
  detached() {
    this.#isAttached = false;
  }

  /**
   * An event: in turn, the last one, or one that shows that others are missing.
   * @param {StreamEvent} event
   * @returns {"taken" | "over" | "gap"}
   */
  take(event) {
    const { method, params } = event;
    // Whatever has a number is an event of the log, known here or not; one that stands for several says where it begins.
    const { seq, from } = /** @type {UnknownEvent} */ (params);
    const first = Number.isSafeInteger(from) ? from : seq;
    const reset = method === "stream/delta" && params.reset === true;
    // With `stream: false` the text comes in the last event, instead of deltas.
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

  /** @param {ArcherError} error why nothing more will come @param {"failed" | "lost"} status */
  fail(error, status) {
    this.finish(localEnd(this, status, error), error);
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
    this.fail(new ArcherError({ kind: "not_archer", message, hint: "Look into its log." }), "lost");
    return "over";
  }

  /** @param {StreamEvent} event @param {boolean} reset */
  #note(event, reset) {
    const { method, params } = event;
    if (method === "stream/started") this.status = "running";
    else if (method === "stream/delta") this.#append(params, reset);
    else {
      const { isWaiting } = this.transcript;
      this.transcript.take(event);
      if (this.transcript.isWaiting !== isWaiting) this.status = isWaiting ? "queued" : "waiting";
      if (method !== "stream/step") return;
      this.status = "running";
      for (const view of this.views) view.begin(params.step);
    }
  }

  /** Have the calls looked at. */
  #look() {
    for (const { tools } of [...this.views]) tools?.look();
  }

  /** @param {Partial<Pick<StreamDelta, Kind>>} params @param {boolean} reset */
  #append(params, reset) {
    if (reset) this.transcript.reset(); // Calls, results and steps stand behind the text, and so come again.
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
 * An end that no server told.
 * @param {Log} log @param {"cancelled" | "failed" | "lost"} status @param {ArcherError} [error]
 * @returns {StreamEnd}
 */
export function localEnd(log, status, error) {
  const text_bytes = new TextEncoder().encode(log.transcript.steps.map(({ content }) => content).join("")).length;
  const end = { stream_id: log.streamId, seq: log.seq, status, text_bytes };
  return error ? { ...end, error: error.info } : { ...end, reason: "client" };
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
    const told = this.#log.link.cancel(this.#log);
    told.catch(() => {}); // For those who do not wait: the stream's end tells it as well.
    return told;
  }

  /** @type {Stream["steer"]} */
  async steer(content, { messageId = newId("msg"), signal } = {}) {
    const params = { stream_id: this.streamId, message_id: messageId };
    const said = await contentOf(content, (blob) => this.#upload(blob, signal));
    await this.#log.accepted; // Before, the server knows no such stream.
    return this.#log.link.call("stream/steer", JSON.stringify({ ...params, content: said }), signal);
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

  /** Stop following it here; the server goes on. @param {ArcherError} error */
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
