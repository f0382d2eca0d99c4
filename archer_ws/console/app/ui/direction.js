// The direction of a field that a person writes in.

import { directionByLetter } from "../letters.js";

/** From this length on, in UTF-16 units, a field gets one direction. */
const LONG_UNITS = 50_000;

/**
 * The `dir` of a field with this text. `auto` gives each line a direction of its own, and Chromium then takes 16 s for a
 * paste of 40,000 lines, and 2 s with one direction: that of the first letter.
 *
 * @param {string} text
 */
export function directionOf(text) {
  return text.length < LONG_UNITS ? "auto" : directionByLetter(text);
}

/**
 * Set the direction before a long text is inserted: the field takes its time then.
 *
 * @param {InputEvent} event
 */
export function directBefore({ target, data }) {
  if (data && data.length >= LONG_UNITS) /** @type {HTMLElement} */ (target).dir = directionOf(data);
}
