// Running the calls that a stream waits for: approval, claim, run, result (protocol section 23).
//
// After each event that may concern a call, `look` goes through all calls and does the next thing that each one's state
// requires. So a replay, a reset and a lost connection need no code of their own. archer-transcript.js holds the calls'
// states.

import { notify } from "./archer-errors.js";
import { newId, noLosses } from "./archer-requests.js";
import { contentOf } from "./archer-upload.js";

/**
 * @typedef {import("./archer-client.d.ts").ChatStream} Stream
 * @typedef {import("./archer-client.d.ts").Tools} Tools
 * @typedef {import("./archer-client.d.ts").Approve} Approve
 * @typedef {import("./archer-client.d.ts").ToolCallState} ToolCallState
 * @typedef {import("./archer-client.d.ts").UploadedFile} UploadedFile
 * @typedef {import("./archer-errors.js").ArcherError} ArcherError
 * @typedef {import("./archer-stream.js").Log} Log
 * @typedef {(blob: Blob, signal?: AbortSignal) => Promise<UploadedFile>} Upload
 * The phase `taken`: another client has claimed the call, but the event that says so has not arrived yet. `losses`: the
 * connections lost with the request of the current step, whose claim is `renewed` on each new connection.
 * @typedef {import("./archer-requests.js").Losses} Losses
 * `claim`: undefined where the result is a denial.
 * @typedef {{ call: ToolCallState, claim: string | undefined, phase: "claiming" | "running" | "sending" | "taken" | "over",
 *   unwanted: AbortController, result: { content: unknown, status: "ok" | "error" | "denied" } | undefined,
 *   losses: Losses, isRenewed: boolean }} Run
 * @typedef {{ unwanted: AbortController, approval: { approved: boolean, reason?: string } | undefined,
 *   isTold: boolean, losses: Losses }} Question
 */

const RETRY_MS = 1000;
// What the model is told of a call that was denied without a reason.
export const DENIED = "The call was denied.";
// The limit of a denial's reason, in characters.
const REASON_CHARS_MAX = 10_000;

/**
 * The request with these tools added; tools that the request declares itself are left unchanged.
 * @param {any} request @param {Tools} tools
 */
export function offering(request, tools) {
  const given = request.tools ?? [];
  const isGiven = (/** @type {string} */ name) => given.some((/** @type {any} */ tool) => tool.name === name);
  const added = Object.entries(tools).filter(([name]) => !isGiven(name));
  if (Object.keys(tools).length === 0) return request;
  const declared = added.map(([name, { description, parameters, strict, needsApproval, idempotent }]) => ({
    ...{ name, description, parameters, strict, idempotent },
    needs_approval: needsApproval,
  }));
  return { ...request, tools: [...given, ...declared], on_tool_call: request.on_tool_call ?? "wait" };
}

export class ToolRunner {
  #stream;
  #log;
  #tools;
  #approve;
  #upload;
  /** By call id. @type {Map<string, Run>} */
  #runs = new Map();
  /** By call id. @type {Map<string, Question>} */
  #questions = new Map();
  /** The ids of the calls that a person denied here. @type {Set<string>} */
  #denied = new Set();
  #isLeft = false;

  /**
   * @param {Stream} stream @param {Log} log @param {Tools} tools
   * @param {Approve | undefined} approve @param {Upload} upload
   */
  constructor(stream, log, tools, approve, upload) {
    this.#stream = stream;
    this.#log = log;
    this.#tools = tools;
    this.#approve = approve;
    this.#upload = upload;
  }

  /** Go through the calls: ask for approvals and start runs that are due, and abort those of settled calls. */
  look() {
    for (const call of this.#log.transcript.calls.values()) {
      if (call.state === "settled") this.#settled(call.call_id);
      // Until the replay is over, a later event may have the call's result: do not run it yet.
      else if (this.#log.isCurrent && !this.#isLeft) this.#move(call);
    }
  }

  /** The stream was attached on a new connection: renew the claims there, and send again what has no response yet. */
  repeat() {
    for (const run of this.#runs.values()) this.#send(run);
    for (const [callId, question] of this.#questions) this.#tell(callId, question);
  }

  /** The content of the result that was sent for a call, if its handler ran here. @param {string} callId */
  sentContent(callId) {
    return this.#runs.get(callId)?.result?.content;
  }

  /**
   * A person decided here, without being asked by `approve`. What is denied here does not run here, though another
   * window approved it first.
   * @param {string} callId @param {boolean} approved
   * @returns {boolean} whether the call could have run here
   */
  decided(callId, approved) {
    if (approved) this.#denied.delete(callId);
    else this.#denied.add(callId);
    const call = this.#log.transcript.calls.get(callId);
    return call !== undefined && this.#toolOf(call)?.run !== undefined && !this.#runs.has(callId);
  }

  /** The stream has ended. */
  end() {
    for (const callId of new Set([...this.#runs.keys(), ...this.#questions.keys()])) this.#settled(callId);
  }

  /**
   * The stream is no longer read here: abort the handlers' signals. A running handler's result is still sent, because
   * its claim keeps other clients from running the call.
   */
  leave() {
    this.#isLeft = true;
    const begun = [...this.#runs.values(), ...this.#questions.values()];
    for (const { unwanted } of begun) abort(unwanted, "the stream was left");
  }

  /** @param {string} callId */
  #settled(callId) {
    const run = this.#runs.get(callId);
    const question = this.#questions.get(callId);
    if (run) run.phase = "over";
    if (question) question.isTold = true;
    for (const each of [run, question]) if (each) abort(each.unwanted, "the call is settled");
  }

  /** @param {ToolCallState} call */
  #move(call) {
    const tool = this.#toolOf(call);
    const question = this.#questions.get(call.call_id);
    if (call.state === "needs_approval") {
      if (this.#approve && !question && (tool || call.by !== "client")) this.#ask(call, this.#approve);
      return;
    }
    // Another window's approval came first; but who was asked here said no.
    if (question?.approval?.approved === false || this.#denied.has(call.call_id)) return;
    if (question) abort(question.unwanted, "it was decided elsewhere");
    let run = this.#runs.get(call.call_id);
    // The event of the other client's claim has arrived. If the claim lapses, the call is pending again: claim it then.
    if (run?.phase === "taken" && call.state === "running") this.#runs.delete(call.call_id);
    if (run || !tool?.run || call.state !== "pending") return;
    run = {
      ...{ call, claim: newId("clm"), phase: "claiming", unwanted: new AbortController(), result: undefined },
      ...{ losses: noLosses(), isRenewed: true },
    };
    this.#runs.set(call.call_id, run);
    this.#send(run);
  }

  /** The denial of a call that the stream waits for: its result. @param {ToolCallState} call @param {string} [reason] */
  #deny(call, reason = DENIED) {
    /** @type {Run} */
    const run = {
      ...{ call, claim: undefined, phase: "sending", unwanted: new AbortController(), losses: noLosses() },
      ...{ result: { content: reason, status: "denied" }, isRenewed: false },
    };
    this.#runs.set(call.call_id, run);
    this.#send(run);
  }

  /** The call's tool, if the stream waits for a client to run the call. @param {ToolCallState} call */
  #toolOf({ name, by, deadline_at }) {
    return by === "client" && deadline_at && Object.hasOwn(this.#tools, name) ? this.#tools[name] : undefined;
  }

  /** @param {ToolCallState} call @param {Approve} approve */
  async #ask(call, approve) {
    /** @type {Question} */
    const question = { unwanted: new AbortController(), approval: undefined, isTold: false, losses: noLosses() };
    this.#questions.set(call.call_id, question);
    const { signal } = question.unwanted;
    try {
      const said = await approve(call, { signal, stream: this.#stream });
      const { approved, reason } = typeof said === "object" && said ? said : { approved: said, reason: undefined };
      question.approval = { approved: approved === true, ...(reason && { reason: reasonOf(reason) }) };
    } catch (error) {
      if (signal.aborted) return;
      report(error);
      question.approval = { approved: false, reason: reasonOf(`nobody could be asked: ${messageOf(error)}`) };
    }
    if (!signal.aborted) this.#tell(call.call_id, question);
  }

  /** @param {string} callId @param {Question} question */
  #tell(callId, question) {
    const { approval, unwanted } = question;
    if (!approval || question.isTold || unwanted.signal.aborted) return;
    const told = (/** @type {{ outcome?: string }} */ { outcome } = {}) => {
      const call = this.#log.transcript.calls.get(callId);
      if (!question.isTold && outcome === "too_late" && call?.by === "client") this.#deny(call, approval.reason);
      question.isTold = true;
    };
    const refused = (/** @type {ArcherError} */ error) => {
      if (error.kind === "connection_lost") told(); // It would break the next connection, too.
      report(error);
    };
    this.#say("tool/approve", callId, approval, question.losses, told, () => this.#tell(callId, question), refused);
  }

  /** Send the claim or the result, by the run's phase; also to repeat it. @param {Run} run */
  #send(run) {
    const { call_id } = run.call;
    const { claim, phase, result } = run;
    const again = () => this.#send(run);
    if (phase === "claiming" || (phase === "running" && run.isRenewed)) {
      const claimed = (/** @type {import("./archer.js").ToolOutcome} */ { outcome }) => this.#claimed(run, outcome);
      this.#say("tool/claim", call_id, { claim }, run.losses, claimed, again, (error) => this.#unclaimable(run, error));
    } else if (phase === "sending" && result) {
      const over = () => (run.phase = "over");
      const refused = (/** @type {ArcherError} */ error) => this.#unsendable(run, error);
      this.#say("tool/result", call_id, { ...result, claim }, run.losses, over, again, refused);
    }
  }

  /** @param {Run} run @param {ArcherError} error */
  #unclaimable(run, error) {
    // The connection carries other streams, too. Maybe the result of a running handler arrives before its claim lapses.
    if (error.kind === "connection_lost") run.isRenewed = false;
    if (error.kind === "connection_lost" && run.phase === "claiming") run.phase = "over";
    report(error);
  }

  /** @param {Run} run @param {string} outcome */
  #claimed(run, outcome) {
    if (run.phase !== "claiming" && run.phase !== "running") return;
    if (outcome === "claimed") {
      if (run.phase === "claiming") this.#run(run);
      return;
    }
    abort(run.unwanted, "another client runs it");
    // What happens to the call from now on is reported by events.
    const isOpen = outcome === "taken" && this.#log.transcript.calls.get(run.call.call_id)?.state !== "running";
    run.phase = isOpen ? "taken" : "over";
    if (outcome === "taken" && !isOpen) this.#runs.delete(run.call.call_id);
  }

  /** @param {Run} run */
  async #run(run) {
    const { call, unwanted } = run;
    const { signal } = unwanted;
    run.phase = "running";
    /** @type {Run["result"]} */
    let result;
    try {
      signal.throwIfAborted();
      const context = { signal, callId: call.call_id, stream: this.#stream };
      const given = await this.#tools[call.name]?.run?.(JSON.parse(call.arguments), context);
      result = { content: await contentOf(given, (blob) => this.#upload(blob, signal)), status: "ok" };
    } catch (error) {
      result = { content: messageOf(error), status: "error" };
    }
    if (run.phase !== "running") return;
    run.result = result;
    run.phase = "sending";
    run.losses = noLosses();
    this.#send(run);
  }

  /** The server rejected the result: send an error result instead. @param {Run} run @param {ArcherError} error */
  #unsendable(run, error) {
    const isGivenUp = run.result?.status === "error" && error.kind === "connection_lost";
    if (isGivenUp) run.phase = "over";
    if (run.result?.status === "error" || run.phase !== "sending") return report(error);
    run.result = { content: `its result could not be sent: ${error.message}`, status: "error" };
    run.losses = noLosses();
    this.#send(run);
  }

  /**
   * @param {string} method @param {string} call_id @param {object} more @param {Losses} losses
   * @param {(result: import("./archer.js").ToolOutcome) => void} onOutcome
   * @param {() => void} again @param {(error: ArcherError) => void} refused
   */
  #say(method, call_id, more, losses, onOutcome, again, refused) {
    const params = { stream_id: this.#log.streamId, call_id, ...more };
    const rejected = (/** @type {ArcherError} */ error) => {
      if (error.retryable) setTimeout(again, error.retryAfterMs ?? RETRY_MS);
      else refused(error);
    };
    this.#log.link.ask(method, params, onOutcome, rejected, losses);
  }
}

/** @param {unknown} error */
const report = (error) =>
  notify(() => {
    throw error;
  });

/** @param {AbortController} unwanted @param {string} why */
const abort = (unwanted, why) => unwanted.abort(new DOMException(why, "AbortError"));

/** @param {unknown} error */
const messageOf = (error) => sendable(error instanceof Error ? error.message || error.name : String(error));

/** @param {unknown} reason */
const reasonOf = (reason) => sendable(String(reason).slice(0, REASON_CHARS_MAX));

/**
 * The text with each lone surrogate replaced, such as half of an emoji that was cut: the server refuses these (section
 * 1), and then a denial or an error would be lost.
 * @param {string} text
 */
const sendable = (text) => text.replace(/\p{Surrogate}/gu, "\ufffd");
