// The composer: the text of the next message, its attachments, the model and the settings.

import { useLayoutEffect, useRef } from "../vendor/preact-hooks.js";
import { useSignal } from "../vendor/signals.js";
import { begin } from "../state/conversations.js";
import { Attachment } from "../state/files.js";
import { strings } from "../strings.js";
import { isComposing } from "./composing.js";
import { directBefore, directionOf } from "./direction.js";
import { focusField, grownBy } from "./field.js";
import { html } from "./html.js";
import { Icon } from "./icons.js";
import { ModelPicker } from "./model-picker.js";
import { complain } from "./notice.js";
import { SettingsPanel } from "./settings-panel.js";

/** @param {{ conversation: import("../state/conversation.js").Conversation }} props */
export function Composer({ conversation }) {
  const { files } = conversation;
  const isDropping = useSignal(false);
  const field = useRef(/** @type {HTMLTextAreaElement | null} */ (null));
  const picker = useRef(/** @type {HTMLInputElement | null} */ (null));
  const text = conversation.draft.value;
  const isBusy = conversation.isBusy.value;
  const isSending = files.value.some((each) => each.state.value !== "sent");
  // Not after a paint: a person may have moved the focus by then.
  useLayoutEffect(() => void (conversation.isBlank && field.current?.focus({ preventScroll: true })), [conversation.id]);
  const add = (/** @type {Iterable<File>} */ given) => {
    files.value = [...files.value, ...Array.from(given, (file) => Attachment.of(file))];
    field.current?.focus();
  };
  const remove = (/** @type {Attachment} */ file) => {
    file.leave();
    files.value = files.value.filter((each) => each !== file);
    focusField(conversation.id);
  };
  const steer = async () => {
    if (!text.trim()) return;
    if (files.value.length > 0) return complain(new Error(strings.composer.steerFiles));
    conversation.draft.value = "";
    // Too late to steer: put the text back into the field.
    const isTaken = await conversation.steer(text.trim()).catch((error) => (complain(error), false));
    if (!isTaken && !conversation.draft.peek()) conversation.draft.value = text;
  };
  const send = () => {
    if (isBusy) return void steer();
    if (isSending || (!text.trim() && files.value.length === 0)) return;
    // A conversation that was deleted can't go on: begin a new one.
    const asked = conversation.isGone ? begin() : conversation;
    asked.ask({ text: text.trim(), parts: files.value.map(({ part }) => part) });
    conversation.draft.value = "";
    for (const file of files.value) file.leave();
    files.value = [];
    focusField(asked.id);
  };
  const stop = () => {
    conversation.stop();
    focusField(conversation.id);
  };
  const keys = (/** @type {KeyboardEvent} */ event) => {
    if (event.key !== "Enter" || event.shiftKey || isComposing(event)) return;
    event.preventDefault();
    send();
  };
  const pasted = (/** @type {ClipboardEvent} */ event) => {
    const given = event.clipboardData?.files ?? [];
    // Office programs copy text with a picture of it: the text is meant.
    const isText = ["text/plain", "text/html"].every((type) => event.clipboardData?.types.includes(type));
    if (given.length === 0 || isText) return;
    event.preventDefault();
    add(given);
  };
  const dragged = (/** @type {DragEvent} */ event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    isDropping.value = true;
  };
  const dropped = (/** @type {DragEvent} */ event) => {
    // Text is the field's own.
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    isDropping.value = false;
    add(event.dataTransfer.files);
  };
  const { drop, steerPlaceholder } = strings.composer;
  const placeholder = isDropping.value ? drop : isBusy ? steerPlaceholder : strings.composer.placeholder;
  return html`
    <div class="composer" data-dropping=${isDropping.value} onDragOver=${dragged} onDrop=${dropped}
      onDragLeave=${() => (isDropping.value = false)}>
      ${files.value.length > 0 &&
      html`<ul class="attachments">
        ${files.value.map((file) => html`<${AttachmentView} key=${file.id} file=${file} onRemove=${() => remove(file)} />`)}
      </ul>`}
      <div class="growing" data-text=${grownBy(text)}>
        <textarea ref=${field} rows="1" aria-label=${strings.composer.label} title=${strings.composer.hint}
          placeholder=${placeholder} dir=${directionOf(text)} value=${text}
          onInput=${(/** @type {any} */ event) => (conversation.draft.value = event.target.value)} onKeyDown=${keys}
          onBeforeInput=${directBefore} onPaste=${pasted}></textarea>
      </div>
      <div class="tools">
        <input ref=${picker} type="file" multiple hidden
          onChange=${(/** @type {any} */ { target }) => (add(target.files), (target.value = ""))} />
        <button type="button" class="quiet icon-only" aria-label=${strings.composer.attach} title=${strings.composer.attach}
          onClick=${() => picker.current?.click()}><${Icon} name="clip" /></button>
        <${ModelPicker} sessionId=${conversation.id} />
        <${SettingsPanel} sessionId=${conversation.id} />
        <span class="space"></span>
        ${isBusy
          ? html`${text.trim() &&
              html`<button type="button" class="quiet icon-only" aria-label=${strings.composer.steer} title=${strings.composer.steer}
                onClick=${steer}><${Icon} name="send" /></button>`}
              <button type="button" class="stop" title=${strings.composer.stopHint} onClick=${stop}><${Icon} name="stop" /> ${strings.composer.stop}</button>`
          : html`<button type="button" class="primary icon-only send" onClick=${send} aria-label=${strings.composer.send} title=${strings.composer.send}
              disabled=${isSending || (!text.trim() && files.value.length === 0)}><${Icon} name="send" /></button>`}
      </div>
    </div>
  `;
}

/** @param {{ file: Attachment, onRemove: () => void }} props */
function AttachmentView({ file, onRemove }) {
  const name = file.name || (file.isImage ? strings.chat.picture : strings.chat.file);
  const state = file.state.value;
  return html`
    <li class="chip" data-state=${state} title=${file.error.value || name}>
      ${file.url.value ? html`<img src=${file.url.value} alt="" />` : html`<${Icon} name="file" />`}
      <span class="name" dir="auto">${name}</span>
      ${state === "sending" &&
      html`<progress max="100" value=${file.percent} aria-label=${strings.composer.uploading(file.percent)} />`}
      ${state === "gone" && html`<span class="wrong" role="alert">${strings.composer.gone}</span>`}
      ${state === "failed" &&
      html`<span class="wrong" role="alert">${strings.composer.failed}: ${file.error.value}</span>
        <button type="button" class="quiet" onClick=${() => file.send()}>${strings.composer.again}</button>`}
      <button type="button" class="quiet icon-only" aria-label=${strings.composer.remove(name)} onClick=${onRemove}>
        <${Icon} name="close" />
      </button>
    </li>
  `;
}
