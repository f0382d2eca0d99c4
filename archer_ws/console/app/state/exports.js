// A conversation as a file: Markdown for people, or JSON in the form that the server's import accepts.

import { client } from "./connection.js";
import { beginning } from "./items.js";

/**
 * @typedef {import("../../archer.js").SessionDetail} SessionDetail
 * @typedef {import("../../archer.js").StoredMessage} StoredMessage
 * @typedef {{ name: string, type: string, text: string }} ExportedFile
 */

const PAGE = 200;
const NAME_CHARS_MAX = 80;

/** @param {string} id @returns {Promise<ExportedFile>} */
export async function exportJson(id) {
  const { active, active_streams, next_cursor, ...session } = await whole(id);
  return { name: `${nameOf(session)}.json`, type: "application/json", text: `${JSON.stringify(session, null, 2)}\n` };
}

/** @param {string} id @returns {Promise<ExportedFile>} */
export async function exportMarkdown(id) {
  const session = await whole(id);
  const head = `# ${session.title ?? "Conversation"}\n\n${session.created_at}, ${session.session_id}\n`;
  return { name: `${nameOf(session)}.md`, type: "text/markdown", text: [head, ...session.messages.map(section)].join("\n") };
}

/** @param {ExportedFile} file */
export function download({ name, type, text }) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 0);
}

/** @param {StoredMessage} message */
function section({ role, name, content, parts, model, reasoning, tool_calls, call_id, result_status, status, error }) {
  const who = [role, name ?? model ?? call_id, result_status].filter(Boolean).join(", ");
  const others = (parts ?? []).filter(({ type }) => type !== "text");
  return [
    `## ${who}\n`,
    reasoning && `<details>\n<summary>Reasoning</summary>\n\n${reasoning}\n\n</details>\n`,
    content && `${content}\n`,
    ...others.map(fileLine),
    ...(tool_calls ?? []).map((call) => `\`${call.name}\` (${call.call_id})\n\n${fenced(call.arguments ?? "{}")}\n`),
    status !== "completed" && `*${status}${error ? `: ${error.message}` : ""}*\n`,
  ]
    .filter(Boolean)
    .join("\n");
}

/** @param {import("../../archer.js").Part} part */
function fileLine(part) {
  const { type, filename, file_id, url } = /** @type {Record<string, unknown>} */ (/** @type {unknown} */ (part));
  return `- ${type}: ${filename ?? file_id ?? url}\n`;
}

/** @param {string} text */
function fenced(text) {
  const longest = Math.max(2, ...Array.from(text.matchAll(/`+/g), ([run]) => run.length));
  const fence = "`".repeat(longest + 1);
  return `${fence}json\n${text}\n${fence}`;
}

/** All pages of it. @param {string} id */
async function whole(id) {
  const now = /** @type {import("../../archer-client.d.ts").ArcherClient} */ (client.peek());
  const session = await now.call("session/get", { session_id: id, limit: PAGE });
  let cursor = session.next_cursor;
  while (cursor != null) {
    const page = await now.call("session/get", { session_id: id, limit: PAGE, cursor });
    session.messages.unshift(...page.messages);
    cursor = page.next_cursor;
  }
  return session;
}

/** @param {{ title?: string | null, session_id: string }} session */
function nameOf({ title, session_id }) {
  const plain = (title ?? "").normalize("NFC").replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-+|-+$/g, "");
  return beginning(plain, NAME_CHARS_MAX) || session_id;
}
