// The last request of a conversation, as one that can be sent from elsewhere.

import { messageOf } from "../state/items.js";
import { requestFields, settingsOf } from "../state/settings.js";
import { offered } from "../state/tools.js";

/**
 * @typedef {import("../state/conversation.js").Conversation} Conversation
 * @typedef {import("../state/items.js").SaidItem} SaidItem
 * @typedef {import("../state/completion.js").Completion} Completion
 * @typedef {import("../../archer.js").ChatMessage} ChatMessage
 */

/**
 * It has no message ids: with them it would attach to the existing stream. `isStored`: the request continues the stored
 * conversation; otherwise it contains the earlier messages. `example`: the question if nothing was asked yet.
 * @param {Conversation} conversation @param {{ isStored: boolean, example: string }} how
 */
export function requestOf(conversation, { isStored, example }) {
  const settings = settingsOf(conversation.id);
  const items = conversation.items.value;
  const lastAt = items.findLastIndex(({ kind }) => kind === "said");
  const asked = /** @type {SaidItem | undefined} */ (items[lastAt]);
  const tools = Object.entries(offered(settings)).map(([name, { description, parameters }]) => ({ name, description, parameters }));
  const before = items.slice(0, Math.max(0, lastAt));
  const history = before.flatMap((item) => (item.kind === "completion" ? completionMessages(item.completion) : [saidMessage(item)]));
  const question = asked ? saidMessage(asked) : { role: /** @type {const} */ ("user"), content: example };
  return {
    ...(isStored && { session_id: conversation.id }),
    ...requestFields(settings),
    messages: isStored ? [question] : [...history, question],
    ...(tools.length > 0 && { tools }),
  };
}

/** @param {SaidItem} item @returns {ChatMessage} */
function saidMessage(item) {
  const { message_id, ...message } = messageOf(item);
  return { ...message, role: /** @type {import("../../archer.js").MessageRole} */ (item.role) };
}

/** Its texts, steered messages, and tool calls with their results; calls without a result are left out. @param {Completion} completion */
function completionMessages(completion) {
  /** @type {ChatMessage[]} */
  const messages = [];
  for (const step of completion.steps.value) {
    messages.push(...step.steered.map((content) => ({ role: /** @type {const} */ ("user"), content })));
    const calls = step.calls.value.filter(({ status }) => status !== undefined);
    if (!step.text && calls.length === 0) continue;
    const tool_calls = calls.map(({ callId, name, arguments: given }) => ({ call_id: callId, name, arguments: given }));
    messages.push({ role: "assistant", content: step.text, ...(calls.length > 0 && { tool_calls }) });
    for (const { callId, result = "", status } of calls) {
      const how = /** @type {import("../../archer.js").ResultStatus} */ (status);
      messages.push({ role: "tool", call_id: callId, content: result, ...(status !== "ok" && { status: how }) });
    }
  }
  return messages;
}
