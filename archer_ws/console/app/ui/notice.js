// What a person asked for and did not happen: a conversation that could not be renamed, a text that could not be copied.

import { ArcherError } from "../../archer-client.js";
import { signal } from "../vendor/signals.js";
import { strings } from "../strings.js";
import { ErrorCard } from "./error-card.js";
import { html } from "./html.js";

const shown = signal(/** @type {import("../../archer.js").ErrorInfo | undefined} */ (undefined));

/** Show why it did not happen, until it is closed or the next failure takes its place. @param {unknown} error */
export function complain(error) {
  const { message } = /** @type {Error} */ (error);
  shown.value = (error instanceof ArcherError ? error : new ArcherError({ kind: "", message })).info;
}

export function Notice() {
  return html`<div class="notice" role="alert">
    ${shown.value &&
    html`<${ErrorCard} error=${shown.value}>
      <button type="button" onClick=${() => (shown.value = undefined)}>${strings.errors.close}</button>
    <//>`}
  </div>`;
}
