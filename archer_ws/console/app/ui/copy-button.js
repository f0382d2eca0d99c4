// A button that copies a text and confirms it.

import { useState } from "../vendor/preact-hooks.js";
import { strings } from "../strings.js";
import { html } from "./html.js";
import { Icon } from "./icons.js";

const SHOWN_MS = 1500;

/** @param {{ text: () => string, label?: string }} props */
export function CopyButton({ text, label = strings.chat.copy }) {
  const [isCopied, setCopied] = useState(false);
  const copy = async () => {
    await copyText(text());
    setCopied(true);
    setTimeout(() => setCopied(false), SHOWN_MS);
  };
  const says = isCopied ? strings.chat.copied : label;
  return html`<button type="button" class="quiet icon-only" aria-label=${says} title=${says} onClick=${copy}>
    <${Icon} name=${isCopied ? "check" : "copy"} />
  </button>`;
}

/** Copy a text. Also works where the page's origin is not a secure context. @param {string} text */
export async function copyText(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const field = document.createElement("textarea");
  field.value = text;
  field.className = "unseen";
  document.body.append(field);
  field.select();
  document.execCommand("copy");
  field.remove();
}
