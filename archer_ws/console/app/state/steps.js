// A step of a completion: one message of the model with its text, reasoning and tool calls.

import { signal } from "../vendor/signals.js";

/**
 * @typedef {import("../../archer.js").StoredMessage} StoredMessage
 * A tool call. `isComplete`: all its arguments have arrived. `state`: pending (nobody runs it yet) or running; `status`:
 * how it ended.
 * @typedef {{ callId: string, name: string, arguments: string, isComplete: boolean, by: string, needsApproval: boolean,
 *   approved?: boolean, deadlineAt?: string, state: string, status?: string, result?: string, isTruncated?: boolean }} Call
 * Where the connection was lost: after `chars` characters of the step. `replayed`: events replayed on reconnection.
 * @typedef {{ chars: number, atMs: number, backMs?: number, replayed: number }} Seam
 */

let count = 0;

export class Step {
  /** Unlike those of all other steps: a view belongs to one step. */
  id = ++count;
  /** Messages steered in before this step. @type {string[]} */
  steered = [];
  text = "";
  reasoning = "";
  /** Grows with the text: what views subscribe to. */
  revision = signal(0);
  calls = signal(/** @type {Call[]} */ ([]));
  seams = signal(/** @type {Seam[]} */ ([]));
  /** The id of the stored message, once it is known. */
  messageId = signal(/** @type {string | undefined} */ (undefined));

  /** @param {string} callId @param {Partial<Call>} change */
  change(callId, change) {
    const known = this.calls.peek().some((call) => call.callId === callId);
    /** @type {Call} */
    const fresh = {
      ...{ callId, name: "", arguments: "", isComplete: false, by: "client", needsApproval: false, state: "pending" },
      ...change,
    };
    this.calls.value = known
      ? this.calls.peek().map((call) => (call.callId === callId ? { ...call, ...change } : call))
      : [...this.calls.peek(), fresh];
  }
}

/** @param {StoredMessage} message */
export function storedStep(message) {
  const step = new Step();
  step.messageId.value = message.message_id;
  step.text = message.content;
  step.reasoning = message.reasoning ?? "";
  for (const call of message.tool_calls ?? []) {
    step.change(call.call_id, { name: call.name, arguments: call.arguments ?? "{}", isComplete: true });
  }
  step.revision.value = 1;
  return step;
}

/** @param {Step} step @param {StoredMessage} message a call's result */
export function settle(step, message) {
  const callId = message.call_id ?? "";
  if (!step.calls.peek().some((call) => call.callId === callId)) return;
  step.change(callId, { status: message.result_status ?? "ok", result: message.content });
}
