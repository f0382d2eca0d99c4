// A call of a tool: what the model wants run, who runs it, and what came of it.

import { strings } from "../strings.js";
import { html } from "./html.js";
import { Icon } from "./icons.js";

/**
 * @typedef {import("../state/answers.js").Answer} Answer
 * @typedef {import("../state/answers.js").Call} Call
 */

/** @param {{ answer: Answer, call: Call }} props */
export function ToolCard({ answer, call }) {
  const state = stateOf(call, answer);
  return html`
    <section class="tool" data-state=${state} aria-label=${call.name}>
      <header>
        <${Icon} name="tool" /><code class="name">${call.name}</code>
        <span class="by">${strings.tools.by[call.by] ?? call.by}</span>
        <span class="state">${strings.tools.states[state] ?? state}</span>
      </header>
      <pre class="arguments" dir="ltr" aria-label=${strings.tools.arguments}>${pretty(call.arguments)}</pre>
      ${call.result !== undefined && html`<pre class="result" dir="auto" aria-label=${strings.tools.result}>${pretty(call.result)}</pre>`}
      ${call.isTruncated && html`<p class="note">${strings.tools.truncated}</p>`}
    </section>
  `;
}

/** @param {Call} call @param {Answer} answer */
function stateOf(call, answer) {
  if (call.status) return call.status;
  if (!call.isComplete) return answer.isRunning ? "writing" : "cancelled";
  if (call.needsApproval && call.approved === undefined && answer.isRunning) return "approval";
  return call.state;
}

/** JSON set out on lines; what is none, as it is. @param {string} text */
function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}
