// Makes the messages of a stream's steps and the states of their calls from the stream's events.
//
// Pure. archer-tools.js runs the calls, and archer-stream.js checks the order of the events.

/**
 * @typedef {import("./archer-client.d.ts").StreamEvent} StreamEvent
 * @typedef {import("./archer-client.d.ts").ToolCallState} ToolCallState
 * @typedef {import("./archer.js").StreamDelta} StreamDelta
 * @typedef {import("./archer.js").StreamMessage} StreamMessage
 * @typedef {NonNullable<StreamMessage["parts"]>[number]} Part
 * @typedef {import("./archer.js").SteeredMessage} SteeredMessage
 * `calls`: their ids, in order. `steered`: the steered messages that the model got with this step.
 * @typedef {{ number: number, steered: readonly SteeredMessage[], reasoning: string, content: string,
 *   calls: string[], refusal: import("./archer.js").Refusal | null | undefined }} Step
 */

export class Transcript {
  /** From the first event that was received; the last one is the current step. @type {Step[]} */
  steps = [newStep(1)];
  /** By call id, in order. A change of a call's state replaces its object. @type {Map<string, ToolCallState>} */
  calls = new Map();

  get last() {
    return /** @type {Step} */ (this.steps.at(-1));
  }

  /** Whether the stream waits for the result of a call. */
  get isWaiting() {
    return [...this.calls.values()].some((call) => call.deadline_at && call.state !== "settled");
  }

  /** The calls of the last step. */
  get lastCalls() {
    return this.#callsOf(this.last);
  }

  /** The same as `stream/get` with `messages: true`. @returns {StreamMessage[]} */
  get messages() {
    return this.steps.flatMap((step) => [
      ...step.steered.map((message) => /** @type {StreamMessage} */ ({ role: "user", ...message })),
      ...completionOf(step, this.#callsOf(step)),
      ...this.#callsOf(step).flatMap(resultOf),
    ]);
  }

  /** Discard everything: the events come again. */
  reset() {
    this.steps = [newStep(1)];
    this.calls.clear();
  }

  /** @param {"reasoning" | "content"} kind @param {string} text */
  append(kind, text) {
    this.last[kind] += text;
  }

  /**
   * Handle an event other than a delta.
   * @param {StreamEvent} event
   * @param {(callId: string) => unknown} sentContent the content of a tool result that this client sent
   */
  take({ method, params }, sentContent) {
    if (method === "stream/tool_call") {
      if (!this.calls.has(params.call_id)) this.last.calls.push(params.call_id);
      this.calls.set(params.call_id, { ...params, state: params.needs_approval ? "needs_approval" : "pending" });
    } else if (method === "stream/tool_update") {
      const call = this.calls.get(params.call_id);
      if (call) this.calls.set(params.call_id, { ...call, state: params.state });
    } else if (method === "stream/tool_result") {
      const { call_id, stream_id, seq, ...result } = params;
      const call = this.calls.get(call_id);
      if (call) this.calls.set(call_id, { ...call, state: "settled", result: whole(result, sentContent(call_id)) });
    } else if (method === "stream/step") {
      this.steps.push(newStep(params.step, params.messages ?? []));
    } else if (method === "stream/ended") {
      this.last.refusal = params.refusal;
    }
  }

  /** @param {Step} step */
  #callsOf(step) {
    return step.calls.map((id) => /** @type {ToolCallState} */ (this.calls.get(id)));
  }
}

/** @param {number} number @param {readonly SteeredMessage[]} [steered] @returns {Step} */
const newStep = (number, steered = []) =>
  ({ number, steered, reasoning: "", content: "", calls: [], refusal: undefined });

/**
 * A result with its whole text, where it is known: in its parts, which earlier servers did not shorten; else in what this
 * client sent. Another client may have sent the accepted result, so that one is used only if it has as many files, and
 * begins like the event's.
 * @template {NonNullable<ToolCallState["result"]>} Result
 * @param {Result} result @param {unknown} [sent] a text, or parts
 * @returns {Result}
 */
export function whole(result, sent) {
  if (!result.truncated) return result;
  const { truncated, content, parts: some, ...rest } = result;
  const [told, parts] = [content ?? "", some ?? []];
  if (textIn(parts).length > told.length) return /** @type {any} */ ({ ...rest, content: textIn(parts), parts });
  const files = parts.filter(isFile);
  /** @type {readonly Part[]} */
  const given = typeof sent === "string" ? [{ type: "text", text: sent }] : Array.isArray(sent) ? sent : [];
  if (given.length === 0 || given.filter(isFile).length !== files.length) return result;
  const all = given.map((part) => (isFile(part) ? /** @type {Part} */ (files.shift()) : part));
  if (!textIn(all).startsWith(told)) return result;
  return /** @type {any} */ ({ ...rest, content: textIn(all), ...(some && { parts: all }) });
}

/** @param {Part} part */
const isFile = ({ type }) => type !== "text";

/** The texts among the parts, as the content of their message has them. @param {readonly Part[]} parts */
const textIn = (parts) => parts.flatMap((part) => (part.type === "text" ? [part.text] : [])).join("\n");

/** A call in the form that messages have. @param {ToolCallState} call */
export const named = ({ call_id, name, arguments: json }) => ({ call_id, name, arguments: json });

/** @param {Step} step @param {ToolCallState[]} calls @returns {StreamMessage[]} */
function completionOf({ content, reasoning, refusal }, calls) {
  if (!content && calls.length === 0 && !refusal) return [];
  const called = calls.length > 0 && { tool_calls: calls.map(named) };
  return [{ role: "assistant", content, ...(reasoning && { reasoning }), ...called, ...(refusal && { refusal }) }];
}

/** @param {ToolCallState} call @returns {StreamMessage[]} */
function resultOf({ call_id, result }) {
  if (!result) return [];
  const { status, content, parts } = result;
  return [{ role: "tool", content: content ?? "", ...(parts && { parts }), call_id, result_status: status }];
}
