// A message of a person: its text, pictures and files; edit it, branch from it, copy it.

import { useLayoutEffect, useRef, useState } from "../vendor/preact-hooks.js";
import { begin, fork } from "../state/conversations.js";
import { strings } from "../strings.js";
import { isComposing } from "./composing.js";
import { CopyButton } from "./copy-button.js";
import { directBefore, directionOf } from "./direction.js";
import { focusField, grownBy } from "./field.js";
import { html } from "./html.js";
import { Icon } from "./icons.js";
import { complain } from "./notice.js";
import { PartView } from "./part-view.js";

/**
 * @typedef {import("../state/conversation.js").Conversation} Conversation
 * @typedef {import("../state/items.js").SaidItem} SaidItem
 */

/** @param {{ item: SaidItem, conversation: Conversation }} props */
export function SaidView({ item, conversation }) {
  const [isEdited, setEdited] = useState(conversation.edits.has(item.id));
  const edit = useRef(/** @type {HTMLButtonElement | null} */ (null));
  const wasEdited = useRef(isEdited);
  // Who leaves the editor is where it was opened.
  useLayoutEffect(() => {
    if (wasEdited.current) edit.current?.focus({ preventScroll: true });
    wasEdited.current = isEdited;
  }, [isEdited]);
  const { text, parts } = item.said;
  const who = item.role === "system" ? strings.chat.system : strings.chat.said;
  if (isEdited) return html`<${Editor} item=${item} conversation=${conversation} onDone=${() => setEdited(false)} />`;
  // The branch ends before this message, which becomes the draft there.
  const branch = async () => {
    try {
      const made = await fork(conversation.id, item.isStored ? item.id : undefined);
      made.write(item.said);
    } catch (error) {
      complain(error);
    }
  };
  return html`
    <article class="said" aria-label=${who} data-message=${item.id}>
      ${parts.length > 0 && html`<div class="parts">${parts.map((part) => html`<${PartView} part=${part} />`)}</div>`}
      ${text && html`<p class="words" dir="auto">${text}</p>`}
      <div class="actions">
        <button type="button" ref=${edit} class="quiet icon-only" aria-label=${strings.chat.edit} title=${strings.chat.edit}
          disabled=${conversation.isBusy.value} onClick=${() => setEdited(true)}><${Icon} name="edit" /></button>
        <button type="button" class="quiet icon-only" aria-label=${strings.chat.branch} title=${strings.chat.branch}
          onClick=${branch}><${Icon} name="branch" /></button>
        <${CopyButton} text=${() => text} />
      </div>
    </article>
  `;
}

/** @param {{ item: SaidItem, conversation: Conversation, onDone: () => void }} props */
function Editor({ item, conversation, onDone }) {
  const [text, setText] = useState(conversation.edits.get(item.id) ?? item.said.text);
  const isEmpty = !text.trim() && item.said.parts.length === 0;
  const typed = (/** @type {string} */ text) => {
    conversation.edits.set(item.id, text);
    setText(text);
  };
  const leave = () => {
    conversation.edits.delete(item.id);
    onDone();
  };
  const submit = (/** @type {Event} */ event) => {
    event.preventDefault();
    if (isEmpty || conversation.isBusy.peek()) return;
    leave();
    const said = { ...item.said, text };
    // A conversation that was deleted can't go on, and what is left of it stays readable: ask in a new one.
    const asked = conversation.isGone ? begin() : conversation;
    if (asked === conversation) conversation.askOtherwise(item, said);
    else asked.ask(said);
    focusField(asked.id);
  };
  const keys = (/** @type {KeyboardEvent} */ event) => {
    if (isComposing(event)) return;
    if (event.key === "Escape") leave();
    else if (event.key === "Enter" && !event.shiftKey) submit(event);
    else return;
    event.preventDefault();
  };
  return html`
    <form class="said editor" onSubmit=${submit}>
      <div class="growing" data-text=${grownBy(text)}>
        <textarea dir=${directionOf(text)} aria-label=${strings.chat.editLabel} value=${text} autofocus
          ref=${(/** @type {HTMLElement | null} */ field) => field && field !== document.activeElement && field.focus()}
          onInput=${(/** @type {any} */ event) => typed(event.target.value)} onKeyDown=${keys}
          onBeforeInput=${directBefore}></textarea>
      </div>
      <p class="choices">
        <button type="button" class="quiet" onClick=${leave}>${strings.chat.cancel}</button>
        <button class="primary" disabled=${isEmpty || conversation.isBusy.value}>${strings.chat.send}</button>
      </p>
    </form>
  `;
}
