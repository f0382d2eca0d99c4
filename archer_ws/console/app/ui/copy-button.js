// A button that copies a text and confirms it.

import { useState } from "../vendor/preact-hooks.js";
import { strings } from "../strings.js";
import { html } from "./html.js";
import { Icon } from "./icons.js";
import { complain } from "./notice.js";

const SHOWN_MS = 1500;

/** @param {{ text: () => string, label?: string }} props */
export function CopyButton({ text, label = strings.chat.copy }) {
  const [isCopied, setCopied] = useState(false);
  const copy = async () => {
    if (!(await copyText(text()))) return;
    setCopied(true);
    setTimeout(() => setCopied(false), SHOWN_MS);
  };
  const says = isCopied ? strings.chat.copied : label;
  return html`<button type="button" class="quiet icon-only" aria-label=${says} title=${says} onClick=${copy}>
    <${Icon} name=${isCopied ? "check" : "copy"} />
  </button>`;
}

/**
 * Copy a text. Also works where the page's origin is not a secure context. If the browser refuses, the page says so.
 * @param {string} text @returns {Promise<boolean>} whether it is copied
 */
export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const isCopied = copySelected(text);
    if (!isCopied) complain(new Error(strings.chat.notCopied));
    return isCopied;
  }
}

/** @param {string} text */
function copySelected(text) {
  const focused = document.activeElement;
  const field = document.createElement("textarea");
  field.value = text;
  field.className = "unseen";
  document.body.append(field);
  field.select();
  const isCopied = document.execCommand("copy");
  field.remove();
  if (focused instanceof HTMLElement) focused.focus({ preventScroll: true });
  return isCopied;
}
