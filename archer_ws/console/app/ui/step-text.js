// The text of a step as it comes, and the model's thinking, folded.

import { useLayoutEffect, useRef } from "../vendor/preact-hooks.js";
import { strings } from "../strings.js";
import { html } from "./html.js";
import { Icon } from "./icons.js";

/** @typedef {import("../state/answers.js").Step} Step */

/** @param {{ step: Step, isWritten: boolean }} props */
export function StepText({ step, isWritten }) {
  const box = useRef(/** @type {HTMLElement | null} */ (null));
  // Drawn anew with each revision; the text's own elements are not preact's.
  const revision = step.revision.value;
  useLayoutEffect(() => {
    if (box.current) box.current.textContent = step.text;
  }, [revision, step]);
  return html`
    ${step.reasoning && html`<${Thoughts} step=${step} isThinking=${isWritten && !step.text} />`}
    <div class="text" dir="auto" ref=${box}></div>
  `;
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
