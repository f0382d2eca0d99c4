// Modal dialogs: rename, confirm deletion, and the list of keys.

import { signal } from "../vendor/signals.js";
import { useEffect, useRef } from "../vendor/preact-hooks.js";
import { strings } from "../strings.js";
import { html } from "./html.js";

/**
 * `field`: the text field, if the dialog has one.
 * @typedef {{ title: string, text?: string, field?: { label: string, value: string }, confirm: string,
 *   isDangerous?: boolean, run: (value: string) => void }} Question
 */

const question = signal(/** @type {Question | undefined} */ (undefined));
export const areKeysShown = signal(false);

/** @param {Question} asked */
export function ask(asked) {
  question.value = asked;
}

export function Dialogs() {
  return html`
    ${question.value && html`<${QuestionDialog} asked=${question.value} />`}
    ${areKeysShown.value && html`<${KeysDialog} />`}
  `;
}

/** @param {{ asked: Question }} props */
function QuestionDialog({ asked }) {
  const field = useRef(/** @type {HTMLInputElement | null} */ (null));
  const submit = (/** @type {Event} */ event) => {
    event.preventDefault();
    const value = field.current?.value.trim() ?? "";
    if (asked.field && !value) return;
    close(event);
    asked.run(value);
  };
  return html`
    <${Modal} label=${asked.title} onClose=${() => (question.value = undefined)}>
      <form onSubmit=${submit}>
        <h2>${asked.title}</h2>
        ${asked.text && html`<p>${asked.text}</p>`}
        ${asked.field &&
        html`<label>${asked.field.label}
          <input ref=${field} value=${asked.field.value} maxlength="512" required autofocus />
        </label>`}
        <p class="choices">
          <button type="button" class="quiet" onClick=${close}>${strings.chat.cancel}</button>
          <button class=${asked.isDangerous ? "dangerous" : "primary"}>${asked.confirm}</button>
        </p>
      </form>
    <//>
  `;
}

function KeysDialog() {
  return html`
    <${Modal} label=${strings.keys.title} onClose=${() => (areKeysShown.value = false)}>
      <h2>${strings.keys.title}</h2>
      <dl class="keys">
        ${strings.keys.rows.map(
          ([keys, what]) => html`<dt>${keys.split(" ").map((key) => html`<kbd>${key}</kbd> `)}</dt><dd>${what}</dd>`,
        )}
      </dl>
      <p class="choices"><button type="button" class="primary" onClick=${close}>${strings.keys.close}</button></p>
    <//>
  `;
}

/** Close the dialog of an event. Only so the focus returns; one that is removed while it is open loses it. @param {Event} event */
function close({ currentTarget }) {
  /** @type {HTMLElement} */ (currentTarget).closest("dialog")?.close();
}

/** @param {{ label: string, onClose: () => void, children: unknown }} props */
function Modal({ label, onClose, children }) {
  const box = useRef(/** @type {HTMLDialogElement | null} */ (null));
  useEffect(() => {
    box.current?.showModal();
    box.current?.querySelector("input")?.select();
  }, []);
  return html`<dialog ref=${box} class="card" aria-label=${label} onClose=${onClose}>${children}</dialog>`;
}
