// The dot of a conversation whose stream is running, or waits for a person.

import { strings } from "../strings.js";
import { html } from "./html.js";

/** @param {{ isWaiting: boolean }} props */
export function Live({ isWaiting }) {
  const label = isWaiting ? strings.list.waiting : strings.list.running;
  return html`<span class="live" role="img" data-waiting=${isWaiting} aria-label=${label} title=${label}></span>`;
}
