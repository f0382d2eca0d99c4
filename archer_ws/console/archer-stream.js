// One answer as it comes: its events in order, its text, its end.
//
// `Log` follows a stream for its connection and owns the order: nothing lost, doubled or out of turn (protocol
// section 5). `ChatStream` is what a program holds; several may show one log, as one socket has one delivery a stream.
// Connecting again and asking anew are archer-link.js's.

import { ArcherError, notify } from "./archer-errors.js";

/**
 * @typedef {import("./archer-client.d.ts").ChatStream} Stream
 * @typedef {import("./archer-client.d.ts").StreamEnd} StreamEnd
 * @typedef {import("./archer-client.d.ts").StreamOptions} StreamOptions
 * @typedef {import("./archer-client.d.ts").Delta} Delta
 * @typedef {import("./archer-client.d.ts").StreamEvent} StreamEvent
 * @typedef {import("./archer.js").ChatMessage} ChatMessage
 * @typedef {import("./archer.js").StreamDelta} StreamDelta
 * @typedef {import("./archer.js").StreamToolCall} StreamToolCall
 * @typedef {import("./archer.js").UnknownEvent} UnknownEvent
 * @typedef {import("./archer.js").CancelResult} CancelResult
 * @typedef {"content" | "reasoning"} Kind
 * @typedef {{ resolve(result: IteratorResult<Delta>): void, reject(error: unknown): void }} Reader
 * @typedef {{ leave(log: Log): void, cancel(log: Log): Promise<CancelResult> }} Owner
 */

// So many gaps in a row are mended by asking again; then the server is at fault.
const GAPS_MAX = 3;

export class Log {
  /** @type {Set<ChatStream>} */
  views = new Set();
  /** @type {Record<Kind, string>} */
  texts = { content: "", reasoning: "" };
  /** By their ids. @type {Map<string, StreamToolCall>} */
  calls = new Map();
  /** @type {StreamEnd | undefined} */
  end;
  /** @type {ArcherError | undefined} */
  error;
  /** Whether a request for it has gone out: only then does the server need to hear of a cancel. */
  isSent = false;
  isAccepted = false;
  status = "queued";
  #isAttached = false;
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

  /** @param {{ status?: string }} result */
  attached(result) {
    this.isAccepted = this.#isAttached = true;
    this.status = result?.status ?? this.status;
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
    // An answer asked for with `stream: false` comes with its end, in place of its deltas.
    const isWhole = method === "stream/ended" && typeof params.content === "string";
    if (!this.#isAttached || !Number.isSafeInteger(seq)) return "taken";
    if (first !== this.seq + 1 && !reset && !isWhole) return seq <= this.seq ? "taken" : this.#gap();
    this.seq = seq;
    this.#gaps = 0;
    if (method === "stream/started") this.status = "running";
    else if (method === "stream/delta") this.#append(params, reset);
    else if (method === "stream/tool_call") this.calls.set(params.call_id, params);
    else if (method === "stream/ended" && isWhole && !this.texts.content) this.#append(params, false);
    for (const view of this.views) notify(view.onEvent, event);
    if (method !== "stream/ended") return "taken";
    this.finish(params, endError(params));
    return "over";
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
    for (const view of [...this.views]) view.finish(end, error);
  }

  #gap() {
    this.#isAttached = false;
    if (++this.#gaps <= GAPS_MAX) return "gap";
    const message = `the server leaves out events of stream ${this.streamId}`;
    this.fail(new ArcherError({ kind: "not_archer", message, hint: "Look into its log." }), "lost");
    return "over";
  }

  /** @param {Partial<Pick<StreamDelta, Kind>>} params @param {boolean} reset */
  #append(params, reset) {
    if (reset) {
      this.texts = { content: "", reasoning: "" };
      this.calls.clear(); // They stand behind the text, and so come again.
    }
    for (const kind of /** @type {Kind[]} */ (["reasoning", "content"])) {
      const text = params[kind];
      if (typeof text !== "string" || !text) continue;
      this.texts[kind] += text;
      for (const view of this.views) view.push(kind, text, reset);
      reset = false;
    }
    if (reset) for (const view of this.views) view.push("content", "", true);
  }
}

/** @param {StreamEnd} end */
function endError(end) {
  if (end.status === "completed" || end.status === "cancelled") return undefined;
  const message = end.status === "incomplete" ? "the answer is incomplete" : "the answer failed";
  return new ArcherError({ kind: "internal_error", message, stream_id: end.stream_id, ...end.error });
}

/**
 * An end that no server told.
 * @param {Log} log @param {"cancelled" | "failed" | "lost"} status @param {ArcherError} [error]
 * @returns {StreamEnd}
 */
export function localEnd(log, status, error) {
  const text_bytes = new TextEncoder().encode(log.texts.content).length;
  const end = { stream_id: log.streamId, seq: log.seq, status, text_bytes };
  return error ? { ...end, error: error.info } : { ...end, reason: "client" };
}

/** @implements {Stream} */
export class ChatStream {
  #log;
  #detach;
  #signal;
  /** @type {Set<Deltas>} */
  #readers = new Set();
  /** @type {(end: StreamEnd) => void} */
  #settle = () => {};
  /** @type {{ error?: unknown } | undefined} */
  #outcome;

  /** @param {Log} log @param {StreamOptions} options */
  constructor(log, { signal, detach = false, onEvent }) {
    this.#log = log;
    this.#detach = detach;
    this.#signal = signal;
    this.onEvent = onEvent;
    /** @type {Promise<StreamEnd>} */
    this.ended = new Promise((resolve) => (this.#settle = resolve));
    log.views.add(this);
    if (log.end) this.finish(log.end, log.error);
    else if (signal?.aborted) this.#abort();
    else signal?.addEventListener("abort", this.#abort);
  }

  get streamId() {
    return this.#log.streamId;
  }

  get text() {
    return this.#log.texts.content;
  }

  get reasoning() {
    return this.#log.texts.reasoning;
  }

  get toolCalls() {
    return [...this.#log.calls.values()];
  }

  /** @returns {ChatMessage} */
  get message() {
    const calls = this.toolCalls.map((call) => ({ call_id: call.call_id, name: call.name, arguments: call.arguments }));
    return { role: "assistant", content: this.text, ...(calls.length > 0 && { tool_calls: calls }) };
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

  /** @returns {AsyncIterableIterator<Delta>} */
  [Symbol.asyncIterator]() {
    const reader = new Deltas(this.#log.texts, () => this.#outcome, () => this.#left(reader));
    this.#readers.add(reader);
    return reader;
  }

  /** @param {Kind} kind @param {string} text @param {boolean} reset */
  push(kind, text, reset) {
    for (const reader of this.#readers) reader.push(kind, text, reset);
  }

  /** @param {StreamEnd} end @param {ArcherError} [error] */
  finish(end, error) {
    this.#signal?.removeEventListener("abort", this.#abort);
    this.#log.views.delete(this);
    this.#outcome ??= { error };
    this.#settle(end);
    for (const reader of this.#readers) reader.wake();
  }

  /** Stop following it here; the server goes on. @param {ArcherError} error */
  leave(error) {
    if (!this.#log.views.has(this)) return;
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

/** What has come and was not read by one loop: adjacent pieces are merged, so a slow reader costs its text alone. */
class Deltas {
  /** @type {{ kind: Kind, text: string, reset: boolean }[]} */
  #pieces = [];
  /** @type {Reader[]} */
  #waiting = [];
  #isOver = false;
  #outcome;
  #left;

  /**
   * @param {Record<Kind, string>} texts what came before
   * @param {() => { error?: unknown } | undefined} outcome
   * @param {() => void} left
   */
  constructor(texts, outcome, left) {
    this.#outcome = outcome;
    this.#left = left;
    if (texts.reasoning) this.push("reasoning", texts.reasoning, false);
    if (texts.content) this.push("content", texts.content, false);
  }

  [Symbol.asyncIterator]() {
    return this;
  }

  /** @param {Kind} kind @param {string} text @param {boolean} reset */
  push(kind, text, reset) {
    if (reset) this.#pieces = [];
    const last = this.#pieces.at(-1);
    if (last?.kind === kind && !reset) last.text += text;
    else this.#pieces.push({ kind, text, reset });
    this.wake();
  }

  /** @returns {Promise<IteratorResult<Delta>>} */
  next() {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject });
      this.wake();
    });
  }

  /** @returns {Promise<IteratorResult<Delta>>} */
  async return() {
    if (!this.#isOver) {
      this.#isOver = true;
      this.#pieces = [];
      this.#left();
      this.wake();
    }
    return { done: true, value: undefined };
  }

  /** Forget what was not read: an abort is told at once. */
  stop() {
    this.#pieces = [];
    this.wake();
  }

  wake() {
    while (this.#waiting.length > 0) {
      const piece = this.#pieces.shift();
      const outcome = this.#outcome();
      if (!piece && !outcome && !this.#isOver) return;
      const { resolve, reject } = /** @type {Reader} */ (this.#waiting.shift());
      if (piece) {
        resolve({ done: false, value: { [piece.kind]: piece.text, ...(piece.reset && { reset: true }) } });
      } else if (outcome?.error && !this.#isOver) {
        this.#isOver = true;
        reject(outcome.error);
      } else {
        this.#isOver = true;
        resolve({ done: true, value: undefined });
      }
    }
  }
}
