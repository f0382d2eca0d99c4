// Request settings per conversation, stored in this browser. A new conversation starts with the last settings.

import { kept, shared } from "./kept.js";
import { infoOf } from "./models.js";

/**
 * Empty strings and absent fields mean the server's defaults. `schema`: JSON Schema as text.
 * @typedef {{ model?: import("./models.js").ModelName, temperature?: number, maxTokens?: number, effort?: string,
 *   system: string, schema: string, tools: boolean }} ChatSettings
 */

const CONVERSATIONS_MAX = 200;

/** @type {ChatSettings} */
const INITIAL = { system: "", schema: "", tools: true };

const bySession = shared("archer.settings", /** @type {Record<string, ChatSettings>} */ ({}));
const last = kept("localStorage", "archer.settings.last", INITIAL);

/** @param {string} sessionId */
export function settingsOf(sessionId) {
  return bySession.value[sessionId] ?? last.value;
}

/** @param {string} sessionId @param {Partial<ChatSettings>} change */
export function changeSettings(sessionId, change) {
  const changed = { ...settingsOf(sessionId), ...change };
  const others = Object.entries(bySession.value).filter(([id]) => id !== sessionId);
  bySession.value = Object.fromEntries([...others.slice(1 - CONVERSATIONS_MAX), [sessionId, changed]]);
  // A system prompt and a schema belong to their conversation.
  last.value = { ...changed, system: "", schema: "" };
}

/** @param {string} from @param {string} to */
export function copySettings(from, to) {
  changeSettings(to, settingsOf(from));
}

/**
 * The settings as fields of a request.
 * @param {ChatSettings} settings
 * @returns {Partial<import("../../archer.js").ChatSendParams>}
 */
export function requestFields({ model, temperature, maxTokens, effort, system, schema }) {
  // One that was chosen for another model: a model without efforts would refuse the request.
  const hasEfforts = infoOf(model)?.reasoning_efforts?.length !== 0;
  return {
    ...(model && { provider: model.provider, model: model.model }),
    ...(temperature !== undefined && { temperature }),
    ...(maxTokens !== undefined && { max_tokens: maxTokens }),
    ...(effort && hasEfforts && { reasoning_effort: /** @type {import("../../archer.js").ReasoningEffort} */ (effort) }),
    ...(system.trim() && { instructions: system }),
    ...(schema.trim() && {
      response_format: { type: "json_schema", json_schema: { name: "answer", schema: JSON.parse(schema) } },
    }),
  };
}
