// A step of an answer: one message of the model's, with its text and the calls behind it.

import { signal } from "../vendor/signals.js";

/**
 * @typedef {import("../../archer.js").StoredMessage} StoredMessage
 * A call of a tool. `isComplete`: its arguments are there; before, they come piece by piece. `state`: pending (nobody
 * runs it yet) or running; `status`: how it ended.
 * @typedef {{ callId: string, name: string, arguments: string, isComplete: boolean, by: string, needsApproval: boolean,
 *   approved?: boolean, deadlineAt?: string, state: string, status?: string, result?: string, isTruncated?: boolean }} Call
 * Where the connection was lost: behind so many characters of the step; `replayed` events came once it was back.
 * @typedef {{ chars: number, atMs: number, backMs?: number, replayed: number }} Seam
 */

/** One message of the model's: its text, and the calls behind it. */
export class Step {
  /** What somebody said to the model before it, while the answer came. @type {string[]} */
  steered = [];
  text = "";
  reasoning = "";
  /** Grows when there is more text. */
  revision = signal(0);
  calls = signal(/** @type {Call[]} */ ([]));
  seams = signal(/** @type {Seam[]} */ ([]));
  /** The id of the stored message, where it is known. @type {string | undefined} */
  messageId;

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
  step.messageId = message.message_id;
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
