// What a screen reader says: that an answer comes, is there, failed, or waits; not its text piece by piece.

import { signal } from "../vendor/signals.js";
import { html } from "./html.js";

const said = signal("");

/** @param {string} text */
export function announce(text) {
  // The same text twice is said twice.
  said.value = said.peek() === text ? `${text}\u00a0` : text;
}

export function Announcer() {
  return html`<p class="unseen" role="status" aria-live="polite">${said}</p>`;
}
