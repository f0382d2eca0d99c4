// Keyboard shortcuts that work anywhere on the page.

import { cutConnection } from "../state/connection.js";
import { begin, conversation, openIds, shownId } from "../state/conversations.js";
import { isDrawerOpen } from "../state/developers.js";
import { isListShown } from "./app.js";
import { isComposing } from "./composing.js";
import { areKeysShown } from "./dialogs.js";
import { focusField } from "./field.js";

/** @param {KeyboardEvent} event */
export function onKey(event) {
  if (event.defaultPrevented || isComposing(event) || isOptionText(event)) return;
  if (document.querySelector("dialog[open], :popover-open")) return;
  const done = event.altKey && !event.ctrlKey && !event.metaKey ? withAlt(event) : plain(event);
  if (done) event.preventDefault();
}

/**
 * Whether the key types a sign of ASCII with Option, Apple's Alt: on a German keyboard Option+5 is the only way to "[".
 * @param {KeyboardEvent} event
 */
function isOptionText({ altKey, key, target }) {
  return altKey && /^[!-/:-@[-`{-~]$/.test(key) && /^(Mac|iP)/.test(navigator.platform) && isWriting(target);
}

/** By the key's position (`code`), because Alt changes the character of many keys. @param {KeyboardEvent} event */
function withAlt({ code }) {
  if (code === "KeyN") begin();
  else if (code === "KeyB") begin({ beside: true });
  else if (code === "KeyX") cutConnection();
  else if (code === "KeyI") isDrawerOpen.value = !isDrawerOpen.peek();
  else if (/^Digit[1-9]$/.test(code)) {
    const id = openIds.peek()[Number(code.slice(5)) - 1];
    if (id) {
      shownId.value = id;
      focusField(id);
    }
  } else return false;
  return true;
}

/** @param {KeyboardEvent} event */
function plain(event) {
  if (event.key === "Escape") {
    if (isListOver() && !isSearch(event.target)) {
      isListShown.value = false;
      focusField(shownId.peek());
      return true;
    }
    const shown = conversation(shownId.peek());
    if (!shown.running || isSearch(event.target)) return false;
    shown.stop();
    return true;
  }
  if (event.key === "k" && (event.ctrlKey || event.metaKey)) {
    isListShown.value = true;
    const focus = () => /** @type {HTMLElement | null} */ (document.querySelector("#search"))?.focus();
    // Immediately, so that the next keystroke goes there; again after drawing, as a narrow screen shows the list only then.
    focus();
    requestAnimationFrame(focus);
    return true;
  }
  if (event.key === "?" && !isWriting(event.target)) {
    areKeysShown.value = true;
    return true;
  }
  return false;
}

/** Whether the list covers the page, as it does on narrow screens. */
function isListOver() {
  return isListShown.peek() && document.querySelector(".veil")?.checkVisibility() === true;
}

/** Whether Esc clears a search. @param {EventTarget | null} target */
function isSearch(target) {
  return target instanceof HTMLInputElement && target.type === "search" && target.value !== "";
}

/** @param {EventTarget | null} target */
function isWriting(target) {
  return target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName));
}
