// The text of a step as Markdown, rendered as it arrives, and the model's reasoning, collapsed.

import { useEffect, useLayoutEffect, useRef } from "../vendor/preact-hooks.js";
import { signal } from "../vendor/signals.js";
import { strings } from "../strings.js";
import { copyText } from "./copy-button.js";
import { html } from "./html.js";
import { Icon } from "./icons.js";

/**
 * @typedef {import("../state/steps.js").Step} Step
 * @typedef {typeof import("../markdown/markdown-view.js")} Markdown
 */

const COPIED_MS = 1500;

/** Loaded after the first screen. Until then, text is shown as plain text. */
const markdown = signal(/** @type {Markdown | undefined} */ (undefined));
let isAskedFor = false;

/** @param {{ step: Step, isWritten: boolean }} props */
export function StepText({ step, isWritten }) {
  const box = useRef(/** @type {HTMLElement | null} */ (null));
  const shown = useRef({ view: /** @type {import("../markdown/markdown-view.js").MarkdownView | undefined} */ (undefined), chars: 0 });
  const revision = step.revision.value;
  const { value: module } = markdown;
  useLayoutEffect(() => {
    const element = /** @type {HTMLElement} */ (box.current);
    const { current } = shown;
    if (!module) {
      element.textContent = step.text;
      if (step.text) loadMarkdown();
      return;
    }
    current.view ??= module.createMarkdownView(element, { strings: strings.markdown, onCopy: copyCode });
    // A step's text only grows; a reset creates a new step.
    if (step.text.length > current.chars) current.view.append(step.text.slice(current.chars));
    current.chars = step.text.length;
    if (!isWritten) current.view.end();
  }, [revision, isWritten, module]);
  useEffect(() => () => shown.current.view?.destroy(), []);
  return html`
    ${step.reasoning && html`<${Thoughts} step=${step} isThinking=${isWritten && !step.text} />`}
    <div class="text" dir="auto" ref=${box}></div>
  `;
}

/** Load the Markdown renderer, once. */
export async function loadMarkdown() {
  if (isAskedFor) return;
  isAskedFor = true;
  try {
    markdown.value = await import("../markdown/markdown-view.js");
  } catch {
    // Text stays plain until a later attempt succeeds.
    isAskedFor = false;
  }
}

/** @param {string} text @param {HTMLButtonElement} button */
async function copyCode(text, button) {
  if (!(await copyText(text))) return;
  button.textContent = strings.chat.copied;
  setTimeout(() => (button.textContent = strings.markdown.copyCode), COPIED_MS);
}

/** @param {{ step: Step, isThinking: boolean }} props */
function Thoughts({ step, isThinking }) {
  const words = step.reasoning.trim().split(/\s+/).length;
  return html`
    <details class="thoughts">
      <summary><${Icon} name="fold" /> ${isThinking ? strings.chat.thinking : strings.chat.thought(words)}</summary>
      <p dir="auto">${step.reasoning}</p>
    </details>
  `;
}
