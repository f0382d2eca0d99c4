// Announcements for screen readers: a completion started, ended, failed or waits. Never its text piece by piece.

import { signal } from "../vendor/signals.js";
import { html } from "./html.js";

const said = signal("");

/** @param {string} text */
export function announce(text) {
  // A repeated text must differ, or it is not announced again.
  said.value = said.peek() === text ? `${text}\u00a0` : text;
}

export function Announcer() {
  return html`<p class="unseen" role="status" aria-live="polite">${said}</p>`;
}
