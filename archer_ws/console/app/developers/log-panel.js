// The log of one stream as a timeline with sequence numbers, showing where the connection was lost and resumed.

import { useSignal } from "../vendor/signals.js";
import { client } from "../state/connection.js";
import { conversation, shownId } from "../state/conversations.js";
import { html } from "../ui/html.js";
import { useChanges } from "./changes.js";
import { strings } from "./strings.js";
import { entriesOf } from "./timeline.js";

/**
 * @typedef {import("../state/completion.js").Completion} Completion
 * @typedef {import("../state/moments.js").Moment} Moment
 * @typedef {import("../state/conversation.js").Conversation} Conversation
 * @typedef {import("../state/items.js").CompletionItem} CompletionItem
 * @typedef {import("./timeline.js").Entry} Entry
 */

const GATHER_MS = 250;
// Only logs with many tool calls have more entries than this; their end matters most.
const ENTRIES_MAX = 500;
const QUESTION_CHARS = 60;

export function LogPanel() {
  const says = strings.log;
  useChanges(GATHER_MS);
  const chosen = useSignal("");
  const shown = conversation(shownId.value);
  const items = shown.items.value.filter((item) => item.kind === "completion");
  const { completion } = items.find(({ id }) => id === chosen.value) ?? items.at(-1) ?? {};
  if (!completion) return html`<p class="empty">${says.none}</p>`;
  return html`
    <div class="log">
      <label class="pick-completion">${says.answer}
        <select value=${completion.streamId} onChange=${(/** @type {any} */ { target }) => (chosen.value = target.value)}>
          ${items.map((item, index) => html`<option key=${item.id} value=${item.id}>${says.choice(index + 1, questionOf(shown, item))}</option>`)}
        </select>
      </label>
      <p class="soft"><code>${completion.streamId}</code></p>
      <${Log} key=${completion.streamId} completion=${completion} />
    </div>
  `;
}

/** @param {Conversation} shown @param {CompletionItem} item */
function questionOf(shown, item) {
  return shown.questionOf(item)?.said.text.slice(0, QUESTION_CHARS) || item.id;
}

/** @param {{ completion: Completion }} props */
function Log({ completion }) {
  const says = strings.log;
  /** Loaded from the server, if this page did not follow the stream. @type {import("../vendor/signals.js").Signal<Moment[] | undefined>} */
  const read = useSignal(undefined);
  const note = useSignal("");
  // Reading the status subscribes to it: the end of a stream must redraw the panel, too.
  const isEnded = !completion.isRunning;
  const moments = completion.moments.length > 0 ? completion.moments : read.value;
  if (!moments) {
    return html`<p class="empty">${says.stored}</p>
      <p class="choices start">${note.value || html`<button type="button" disabled=${!isEnded}
        onClick=${() => readLog(completion, read, note)}>${says.read}</button>`}</p>`;
  }
  const entries = entriesOf(moments);
  const isTimed = moments === completion.moments;
  const beginMs = completion.times.askedMs ?? moments[0].atMs;
  const shown = entries.slice(-ENTRIES_MAX);
  return html`
    ${shown.length < entries.length && html`<p class="soft">${says.entries(shown.length, entries.length)}</p>`}
    <ol class="timeline">
      ${completion.times.askedMs !== undefined && shown.length === entries.length &&
      html`<li data-kind="asked"><b>${says.kinds.asked}</b> <time>${strings.clock(beginMs)}</time></li>`}
      ${shown.map((entry, index) => html`<${EntryView} key=${index} entry=${entry} count=${entry.seq}
        offset=${isTimed ? strings.offset(entry.atMs - beginMs) : ""} isTimed=${isTimed} />`)}
    </ol>
  `;
}

/** @param {{ entry: Entry, offset: string, isTimed: boolean }} props */
function EntryView({ entry, offset, isTimed }) {
  const says = strings.log;
  const { kind, what, from, seq } = entry;
  const isText = kind === "stream/delta";
  const isEvent = kind !== "cut" && kind !== "resumed";
  const detail = isText
    ? says.text(entry.pieces, entry.chars, isTimed ? entry.lastMs - entry.atMs : 0)
    : { cut: says.cut(seq), resumed: says.resumed(from, seq) }[kind] ?? what;
  return html`
    <li data-kind=${kind.replace("stream/", "")} data-what=${isText ? what : undefined}>
      <b>${(isText ? says.texts[what] : says.kinds[kind]) ?? kind}</b>
      ${isEvent && seq > 0 && html` <code>${says.seq(from, seq)}</code>`}
      ${offset && html` <time>${offset}</time>`}
      ${detail && html`<div class="soft" dir="auto">${detail}</div>`}
    </li>
  `;
}

/**
 * @param {Completion} completion @param {import("../vendor/signals.js").Signal<Moment[] | undefined>} read
 * @param {import("../vendor/signals.js").Signal<string>} note
 */
async function readLog(completion, read, note) {
  note.value = strings.log.reading;
  const now = client.peek();
  const moments = now && (await completion.readLog(now));
  if (moments) read.value = moments;
  note.value = moments ? "" : strings.log.forgotten;
}
