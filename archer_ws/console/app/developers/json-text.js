// JSON for people: indented and coloured.

import { html } from "../ui/html.js";

const PARTS = /("(?:\\.|[^"\\])*")(\s*:)?|\b(?:true|false|null)\b|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;

/** Indented; a text that is not JSON is returned unchanged. @param {string} text @param {number} [spaces] */
export function pretty(text, spaces = 2) {
  try {
    return JSON.stringify(JSON.parse(text), null, spaces);
  } catch {
    return text;
  }
}

/** @param {{ text: string }} props */
export function JsonText({ text }) {
  const drawn = [];
  let done = 0;
  for (const match of text.matchAll(PARTS)) {
    const [whole, string, colon] = match;
    drawn.push(text.slice(done, match.index));
    const kind = string === undefined ? "value" : colon === undefined ? "string" : "key";
    drawn.push(html`<span class=${kind}>${string ?? whole}</span>`, colon ?? "");
    done = match.index + whole.length;
  }
  return html`<code>${drawn}${text.slice(done)}</code>`;
}
