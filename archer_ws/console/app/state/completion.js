// One completion as the page shows it: its steps with text, reasoning and tool calls, how it ended, and its speed.
//
// A completion is built from a running stream, a resumed stream, or stored messages; the class is the same. Deltas are
// collected and shown once per animation frame, however many arrive.

import { whole } from "../../archer-transcript.js";
import { signal } from "../vendor/signals.js";
import { interrupts, lossListeners, mended } from "./connection.js";
import { Step, settle, storedStep } from "./steps.js";
import { momentOf, note, textOf } from "./moments.js";
import { replayListeners } from "./wire.js";

/**
 * @typedef {import("../../archer-client.d.ts").ChatStream} ChatStream
 * @typedef {import("../../archer-client.d.ts").StreamEvent} StreamEvent
 * @typedef {import("../../archer-client.d.ts").StreamEnd} StreamEnd
 * @typedef {import("../../archer.js").StoredMessage} StoredMessage
 * @typedef {import("../../archer.js").ErrorInfo} ErrorInfo
 * @typedef {import("./moments.js").Moment} Moment
 * @typedef {Pick<StreamEnd, "finish_reason" | "usage" | "history_dropped" | "stored" | "refusal" | "format_valid" |
 *   "format_errors" | "reason" | "error" | "message_ids">} Outcome
 */

const ENDED = new Set(["completed", "cancelled", "incomplete", "failed", "lost"]);

/** The completions whose streams this page follows now. @type {Set<Completion>} */
const running = new Set();

lossListeners.add(() => {
  running.forEach((completion) => completion.cut());
  interrupts(running.size);
});
replayListeners.add(({ streamId, after, headSeq }) => {
  for (const completion of running) if (completion.streamId === streamId) completion.mended(after, headSeq);
});

export class Completion {
  steps = signal([new Step()]);
  status = signal(/** @type {string} */ ("queued"));
  /** What the server reports before the first text: a phase and its detail. */
  progress = signal(/** @type {{ phase: string, detail?: string } | undefined} */ (undefined));
  outcome = signal(/** @type {Outcome} */ ({}));
  source = signal(/** @type {{ provider?: string, model?: string, effort?: string }} */ ({}));
  /** Messages steered in from this page that the model receives before its next step. */
  steered = signal(/** @type {{ id: string, text: string }[]} */ ([]));
  /** Times of the request, the first text and the last text (performance.now()), and the number of pieces received. */
  times = { askedMs: /** @type {number | undefined} */ (undefined), firstMs: 0, lastMs: 0, pieces: 0 };
  /** @type {Moment[]} */
  moments = [];
  /** Incremented about once per animation frame while text arrives: for plots and rates. */
  beat = signal(0);
  /** The request, if this page sent it. @type {import("../../archer.js").ChatSendParams | undefined} */
  request;
  /** The stream, if this page follows it. @type {ChatStream | undefined} */
  stream;
  /** Argument text by call id, collected until the next animation frame. @type {Map<string, string>} */
  #pieces = new Map();
  #frame = 0;
  #isReplaying = false;

  /** @param {string} streamId @param {string} [createdAt] RFC 3339 */
  constructor(streamId, createdAt = new Date().toISOString()) {
    this.streamId = streamId;
    this.createdAt = createdAt;
  }

  get isRunning() {
    return !ENDED.has(this.status.value);
  }

  /** Whether this page lost its stream, for example with its client. The server may have more of it. */
  get isLost() {
    return this.status.peek() === "lost";
  }

  get lastStep() {
    return /** @type {Step} */ (this.steps.peek().at(-1));
  }

  /** The text of all steps. */
  get text() {
    return this.steps.peek().map(({ text }) => text).filter(Boolean).join("\n\n");
  }

  /** The id of its first stored message, for `replace_from`. */
  get messageId() {
    return this.steps.peek().find(({ messageId }) => messageId.peek())?.messageId.peek();
  }

  /**
   * Follow a stream. `isNew`: this page has just requested it; otherwise it was running already: no start time.
   * @param {(onEvent: (event: StreamEvent) => void) => ChatStream} open
   * @param {{ isNew: boolean }} how
   */
  follow(open, { isNew }) {
    running.add(this);
    if (isNew) this.times.askedMs = performance.now();
    else this.#isReplaying = true;
    this.stream = open((event) => this.#take(event));
    this.stream.ended.then((end) => this.#finish(end));
    return this;
  }

  /** @param {StoredMessage[]} messages those of one stream @returns {Completion} */
  static stored(messages) {
    const last = /** @type {StoredMessage} */ (messages.at(-1));
    const made = new Completion(last.stream_id ?? last.message_id, messages[0].created_at);
    const steps = [];
    /** @type {string[]} */
    let steered = [];
    for (const message of messages) {
      if (message.role === "tool") for (const step of steps) settle(step, message);
      else if (message.role === "user") steered.push(message.content);
      else {
        steps.push(Object.assign(storedStep(message), { steered }));
        steered = [];
      }
    }
    made.steps.value = steps.length > 0 ? steps : [new Step()];
    const { status, provider, model, finish_reason, usage, error, refusal } = messages.findLast(isAssistant) ?? last;
    made.status.value = status;
    made.source.value = { provider: provider ?? undefined, model: model ?? undefined };
    made.outcome.value = { finish_reason, usage, error, refusal };
    return made;
  }

  /**
   * Read the events of its log from the server, for a stream that this page did not follow. Times: when they were read.
   * @param {import("../../archer-client.d.ts").ArcherClient} now
   * @returns {Promise<Moment[] | undefined>} undefined if the server no longer has the log
   */
  async readLog(now) {
    /** @type {Moment[]} */
    const moments = [];
    const onEvent = (/** @type {StreamEvent} */ event) => void moments.push(momentOf(event));
    const { status } = await now.resume(this.streamId, { onEvent, tools: {} }).ended;
    return status === "lost" ? undefined : moments;
  }

  /** Cancel it, at the provider too. */
  stop() {
    if (this.stream) this.stream.cancel();
    else this.status.value = "cancelled"; // The request was not sent yet.
  }

  /** The request could not be sent. @param {import("../../archer-client.d.ts").ArcherError} error */
  fail(error) {
    this.outcome.value = { error: error.info };
    this.status.value = "failed";
  }

  /** Take over the ids of its stored messages. @param {StoredMessage[]} messages those of this stream */
  adopt(messages) {
    const ids = messages.filter(isAssistant).map(({ message_id }) => message_id);
    this.steps.peek().forEach((step, index) => (step.messageId.value = ids[index]));
    const error = messages.findLast(isAssistant)?.error;
    if (error && !this.outcome.peek().error) this.outcome.value = { ...this.outcome.peek(), error };
  }

  /** The connection was lost: note where in the text. */
  cut() {
    const step = this.lastStep;
    const atMs = performance.now();
    step.seams.value = [...step.seams.peek(), { chars: step.text.length, atMs, replayed: 0 }];
    const { seq = 0 } = this.stream ?? {};
    note(this.moments, { atMs, method: "cut", seq, from: seq, chars: 0, what: "" });
  }

  /** The stream was resumed: events after `after` are replayed. @param {number} after @param {number} headSeq the newest */
  mended(after, headSeq) {
    const replayed = Math.max(0, headSeq - after);
    note(this.moments, { atMs: performance.now(), method: "resumed", seq: headSeq, from: after + 1, chars: 0, what: "" });
    // Not of the outage: a stream that this page has begun to follow since.
    const wasCut = this.steps.peek().some(({ seams }) => seams.peek().some(({ backMs }) => backMs === undefined));
    if (wasCut) mended(replayed);
    for (const step of this.steps.peek()) {
      step.seams.value = step.seams
        .peek()
        .map((seam) => (seam.backMs === undefined ? { ...seam, backMs: performance.now(), replayed } : seam));
    }
  }

  /** @param {StreamEvent} event */
  #take(event) {
    const { method, params } = event;
    const moment = momentOf(event);
    note(this.moments, moment);
    if (method === "stream/delta") {
      this.#append(params, textOf(params), moment.seq - moment.from + 1, moment.atMs);
    } else this.#told(method, params);
    this.#beatSoon();
  }

  /** @param {string} method @param {any} params */
  #told(method, params) {
    this.#flush();
    const { call_id } = params;
    switch (method) {
      case "stream/started":
        this.status.value = "running";
        this.progress.value = undefined;
        this.source.value = { provider: params.provider, model: params.model, effort: params.reasoning_effort };
        break;
      case "stream/progress":
        this.progress.value = { phase: params.phase, detail: params.detail };
        break;
      case "stream/tool_call":
        this.lastStep.change(call_id, {
          ...{ name: params.name, arguments: params.arguments, isComplete: true, by: params.by },
          ...{ needsApproval: params.needs_approval === true, deadlineAt: params.deadline_at },
        });
        if (params.deadline_at) this.status.value = "waiting";
        break;
      case "stream/tool_update":
        this.#stepOf(call_id).change(call_id, { state: params.state, approved: params.approved });
        break;
      case "stream/tool_result": {
        const { status, content, truncated } = whole(params);
        this.#stepOf(call_id).change(call_id, { status, result: content ?? "", isTruncated: truncated === true });
        break;
      }
      case "stream/step":
        this.status.value = "running";
        this.steps.value = [...this.steps.peek(), this.#nextStep(params.messages ?? [])];
    }
  }

  /** @param {import("../../archer.js").SteeredMessage[]} messages those that the model received before this step */
  #nextStep(messages) {
    const told = new Set(messages.map(({ message_id }) => message_id));
    this.steered.value = this.steered.peek().filter(({ id }) => !told.has(id));
    return Object.assign(new Step(), { steered: messages.map(({ content }) => content) });
  }

  /** @param {string} callId */
  #stepOf(callId) {
    const has = (/** @type {Step} */ step) => step.calls.peek().some((call) => call.callId === callId);
    return this.steps.peek().findLast(has) ?? this.lastStep;
  }

  /** @param {any} params @param {string} text @param {number} pieces @param {number} now */
  #append(params, text, pieces, now) {
    if (params.reset) this.#reset();
    const step = this.lastStep;
    if (params.call_id && typeof params.arguments === "string") {
      this.#pieces.set(params.call_id, (this.#pieces.get(params.call_id) ?? "") + text);
      if (!step.calls.peek().some(({ callId }) => callId === params.call_id)) {
        step.change(params.call_id, { name: params.name ?? "" });
      }
    } else if (typeof params.reasoning === "string" && params.reasoning) step.reasoning += text;
    else step.text += text;
    if (!text) return;
    this.times.firstMs ||= now;
    this.times.lastMs = now;
    this.times.pieces += pieces;
  }

  #reset() {
    this.#pieces.clear();
    this.steps.value = [new Step()];
    this.times.pieces = 0;
  }

  #beatSoon() {
    if (this.#frame !== 0) return;
    // A hidden page gets no animation frames; the text is shown when the page becomes visible.
    this.#frame = requestAnimationFrame(() => {
      this.#frame = 0;
      this.#flush();
      this.beat.value++;
    });
  }

  #flush() {
    const step = this.lastStep;
    for (const [callId, text] of this.#pieces) {
      const known = step.calls.peek().find((call) => call.callId === callId);
      step.change(callId, { arguments: (known?.arguments ?? "") + text });
    }
    this.#pieces.clear();
    step.revision.value = step.text.length + step.reasoning.length;
  }

  /** @param {StreamEnd} end */
  #finish(end) {
    running.delete(this);
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    this.#flush();
    const { finish_reason, usage, history_dropped, stored, refusal, format_valid, format_errors, reason, error } = end;
    this.outcome.value = {
      ...{ finish_reason, usage, history_dropped, stored, refusal, format_valid, format_errors, reason, error },
      message_ids: end.message_ids,
    };
    this.progress.value = undefined;
    this.status.value = end.status;
    this.beat.value++;
  }

  /**
   * Its speed: ms to the first text (if this page sent the request), and tokens per second from then on.
   * @returns {{ firstMs?: number, perSecond?: number, tokens?: number }}
   */
  get speed() {
    const { askedMs, firstMs, lastMs, pieces } = this.times;
    const usage = this.outcome.value.usage;
    const tokens = usage?.completion_tokens ?? (pieces || undefined);
    if (!firstMs) return { tokens };
    const seconds = (lastMs - firstMs) / 1000;
    const isTimed = seconds > 0.05 && !this.#isReplaying && tokens !== undefined;
    return {
      ...{ tokens, perSecond: isTimed ? tokens / seconds : undefined },
      ...(askedMs !== undefined && { firstMs: firstMs - askedMs }),
    };
  }
}

/** @param {StoredMessage} message */
function isAssistant({ role }) {
  return role === "assistant";
}
