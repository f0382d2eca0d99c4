// The items of a conversation: what people said, and completions. Conversion from and to messages.

/**
 * @typedef {import("../../archer.js").StoredMessage} StoredMessage
 * @typedef {import("../../archer.js").Part} Part
 * @typedef {import("./completion.js").Completion} Completion
 * What a person sent: text, and the pictures and files attached to it.
 * @typedef {{ text: string, parts: Part[] }} Said
 * `isStored`: the server has it.
 * @typedef {{ kind: "said", id: string, role: string, said: Said, createdAt: string, isLocal: boolean, isStored: boolean }} SaidItem
 * @typedef {{ kind: "completion", id: string, completion: Completion, afterId?: string, isLocal: boolean }} CompletionItem
 * @typedef {SaidItem | CompletionItem} Item
 */

const TITLE_CHARS = 60;

/** @param {Item} item @returns {item is CompletionItem} */
export function isRunning(item) {
  return item.kind === "completion" && item.completion.isRunning;
}

/**
 * Group the messages of each stream, including the messages steered into it.
 * @param {StoredMessage[]} messages
 */
export function grouped(messages) {
  /** @type {StoredMessage[][]} */
  const groups = [];
  for (const message of messages) {
    const [first] = groups.at(-1) ?? [];
    if (first && isOfModel(first) && isSameStream(first, message)) groups.at(-1)?.push(message);
    else groups.push([message]);
  }
  return groups;
}

/**
 * Whether two messages are of one stream. Imported messages may have no stream: then what the model wrote is together
 * until the next question.
 * @param {StoredMessage} first @param {StoredMessage} next
 */
function isSameStream(first, next) {
  if (first.stream_id == null) return next.stream_id == null && isOfModel(next);
  return first.stream_id === next.stream_id;
}

/** @param {StoredMessage} message */
export function isOfModel({ role }) {
  return role === "assistant" || role === "tool";
}

/** @param {StoredMessage} message @returns {SaidItem} */
export function saidItem({ message_id, role, content, parts, created_at }) {
  const others = (parts ?? []).filter(({ type }) => type !== "text");
  const said = { text: content, parts: others };
  return { kind: "said", id: message_id, role, said, createdAt: created_at, isLocal: false, isStored: true };
}

/** @param {SaidItem} item @returns {import("../../archer.js").ChatMessage} */
export function messageOf({ id, said: { text, parts } }) {
  /** @type {Part[]} */
  const all = [...(text ? [/** @type {Part} */ ({ type: "text", text })] : []), ...parts];
  return { role: "user", content: parts.length > 0 ? all : text, message_id: id };
}

/** @param {string} text */
export function titleOf(text) {
  const line = text.trim().split(/\s*\n/)[0].replace(/\s+/g, " ");
  const title = beginning(line, TITLE_CHARS);
  return title === line ? line : `${title.trimEnd()}…`;
}

/**
 * The first `max` characters. Half of a character that is two UTF-16 units, such as an emoji, is not text: the server
 * refuses it.
 * @param {string} text @param {number} max
 */
export function beginning(text, max) {
  return Array.from(text.slice(0, 2 * max)).slice(0, max).join("");
}
