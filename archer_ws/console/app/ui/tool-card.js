// A tool call: its name and arguments, who runs it, its approval or denial, and its result.

import { useEffect, useRef, useState } from "../vendor/preact-hooks.js";
import { client } from "../state/connection.js";
import { strings } from "../strings.js";
import { announce } from "./announcer.js";
import { isComposing } from "./composing.js";
import { focusField } from "./field.js";
import { html } from "./html.js";
import { Icon } from "./icons.js";
import { complain } from "./notice.js";

/**
 * @typedef {import("../state/completion.js").Completion} Completion
 * @typedef {import("../state/steps.js").Call} Call
 */

const LINE_CHARS = 70;
/** The statuses of results that only a call that was approved can have. */
const RAN = new Set(["ok", "error", "lost"]);

/** @param {{ completion: Completion, call: Call }} props */
export function ToolCard({ completion, call }) {
  const state = stateOf(call, completion);
  const isAsking = state === "approval";
  useEffect(() => void (isAsking && announce(strings.announce.approval(call.name))), [isAsking]);
  return html`
    <section class="tool" data-state=${state} aria-label=${call.name}>
      <header>
        <${Icon} name="tool" /><code class="name">${call.name}</code>
        <span class="by">${strings.tools.by[call.by] ?? call.by}</span>
        <span class="state">${strings.tools.states[state] ?? state}</span>
      </header>
      <pre class="arguments" dir="ltr" aria-label=${strings.tools.arguments} tabindex="0">${pretty(call.arguments)}</pre>
      ${isAsking && html`<${Approval} completion=${completion} call=${call} />`}
      ${call.result && html`<pre class="result" dir="auto" aria-label=${strings.tools.result} tabindex="0">${pretty(call.result)}</pre>`}
      ${call.isTruncated && html`<p class="note">${strings.tools.truncated}</p>`}
    </section>
  `;
}

/** @param {{ completion: Completion, call: Call }} props */
function Approval({ completion, call }) {
  const [reason, setReason] = useState("");
  const [isSent, setSent] = useState(false);
  const box = useRef(/** @type {HTMLElement | null} */ (null));
  const decide = async (/** @type {boolean} */ approved) => {
    setSent(true);
    focusNext(/** @type {HTMLElement} */ (box.current));
    try {
      const told = await client.peek()?.approve(completion.streamId, call.callId, approved, reason.trim() || undefined);
      const wasApproved = ["too_late", "taken"].includes(told?.outcome ?? "") || RAN.has(told?.status ?? "");
      if (!approved && wasApproved) complain(new Error(strings.tools.tooLate(call.name)));
    } catch (error) {
      complain(error);
      setSent(false);
    }
  };
  return html`
    <div class="approval" ref=${box}>
      <button type="button" class="primary" disabled=${isSent} onClick=${() => decide(true)}>${strings.tools.approve}</button>
      <button type="button" disabled=${isSent} onClick=${() => decide(false)}>${strings.tools.deny}</button>
      <input dir="auto" aria-label=${strings.tools.reason} placeholder=${strings.tools.reason} value=${reason} disabled=${isSent}
        onInput=${(/** @type {any} */ { target }) => setReason(target.value)}
        onKeyDown=${(/** @type {KeyboardEvent} */ event) => event.key === "Enter" && !isComposing(event) && decide(false)} />
      ${call.deadlineAt && html`<${Remaining} until=${call.deadlineAt} />`}
    </div>
  `;
}

/** Move the focus to the next call that waits for a decision, else to the field. @param {HTMLElement} decided */
function focusNext(decided) {
  const pane = /** @type {HTMLElement} */ (decided.closest(".pane"));
  const next = [...pane.querySelectorAll(".approval")].find((each) => each !== decided && each.querySelector("button:enabled"));
  const button = /** @type {HTMLElement | null | undefined} */ (next?.querySelector("button"));
  if (button) button.focus();
  else focusField(pane.id.replace("pane-", ""));
}

/** How much longer the stream waits. @param {{ until: string }} props */
function Remaining({ until }) {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    const ticker = setInterval(() => setNow(Date.now()), 1000);
    return () => clearInterval(ticker);
  }, []);
  return html`<span class="detail">${strings.tools.until(Math.max(0, Date.parse(until) - now))}</span>`;
}

/** @param {Call} call @param {Completion} completion */
function stateOf(call, completion) {
  if (call.status) return call.status;
  if (!call.isComplete) return completion.isRunning ? "writing" : "cancelled";
  if (call.needsApproval && call.approved !== true && call.state !== "running" && completion.isRunning) return "approval";
  return call.state;
}

/**
 * JSON on one line, or indented if that is too long. Invalid JSON stays as it is, and so does JSON that parsing would
 * change: large integers, duplicate names.
 * @param {string} text
 */
function pretty(text) {
  const dense = text.replace(/("(?:[^"\\]|\\.)*")|\s+/g, "$1");
  try {
    const value = JSON.parse(text);
    if (JSON.stringify(value) !== dense) return text;
    return dense.length <= LINE_CHARS ? dense : JSON.stringify(value, null, 2);
  } catch {
    return text;
  }
}
