// One answer: its line at the side, which shows where a connection was lost; its steps; and what it came to.

import { useEffect, useRef } from "../vendor/preact-hooks.js";
import { begin, fork } from "../state/conversations.js";
import { strings } from "../strings.js";
import { announce } from "./announcer.js";
import { CopyButton } from "./copy-button.js";
import { ErrorCard } from "./error-card.js";
import { html } from "./html.js";
import { Icon } from "./icons.js";
import { OutcomeLine } from "./outcome-line.js";
import { StepText } from "./step-text.js";
import { ToolCard } from "./tool-card.js";

/**
 * @typedef {import("../state/answers.js").Answer} Answer
 * @typedef {import("../state/steps.js").Step} Step
 * @typedef {import("../state/conversation.js").Conversation} Conversation
 * @typedef {import("../state/items.js").AnswerItem} AnswerItem
 */

/** @param {{ item: AnswerItem, conversation: Conversation, isLast: boolean }} props */
export function AnswerView({ item, conversation, isLast }) {
  const { answer } = item;
  const status = answer.status.value;
  const isRunning = answer.isRunning;
  const { model } = answer.source.value;
  useAnnouncements(answer);
  const askAgain = () => {
    // What the server has no more can't be asked there.
    const asked = conversation.isGone ? conversation.questionOf(item) : undefined;
    if (asked) begin().ask(asked.said);
    else conversation.askAgain(item);
  };
  const branch = () =>
    fork(conversation.id, conversation.idBehind(item)).catch((/** @type {Error} */ error) => announce(error.message));
  const { error, message_ids } = answer.outcome.value;
  const again = html`<button type="button" class="primary" disabled=${conversation.isBusy.value} onClick=${askAgain}>
    <${Icon} name="again" /> ${strings.chat.askAgain}
  </button>`;
  return html`
    <article class="answer" data-status=${status} aria-label=${strings.chat.answer} aria-busy=${isRunning}>
      <header>
        ${(model || !isRunning) && html`<span class="who">${model ?? error?.provider ?? strings.chat.answer}</span>`}
        ${isRunning && html`<${Progress} answer=${answer} />`}
      </header>
      ${answer.steps.value.map((step, index) => html`<${StepView} key=${index} answer=${answer} step=${step} />`)}
      ${answer.steered.value.map(
        ({ id, text }) =>
          html`<p class="steered" key=${id}><span dir="auto">${text}</span> <small>${isRunning ? strings.chat.steering : strings.chat.unsteered}</small></p>`,
      )}
      ${error && html`<${ErrorCard} error=${error} isTextKept=${answer.text !== ""}>${isLast && again}<//>`}
      ${!isRunning && html`<${OutcomeLine} answer=${answer} />`}
      ${!isRunning && (answer.text || !error) &&
      html`<div class="actions">
        ${answer.text && html`<${CopyButton} text=${() => answer.text} />`}
        ${!(error && isLast) &&
        html`<button type="button" class="quiet icon-only" aria-label=${strings.chat.askAgain} title=${strings.chat.askAgain}
          disabled=${conversation.isBusy.value} onClick=${askAgain}><${Icon} name="again" /></button>`}
        <button type="button" class="quiet icon-only" aria-label=${strings.chat.branch} title=${strings.chat.branch}
          disabled=${item.isLocal && !message_ids} onClick=${branch}><${Icon} name="branch" /></button>
      </div>`}
    </article>
  `;
}

/** @param {{ answer: Answer }} props */
function Progress({ answer }) {
  const { phases } = strings.chat;
  const told = answer.progress.value;
  const hasText = answer.beat.value >= 0 && answer.text !== "";
  const status = answer.status.value;
  const phase = told?.phase ?? (status === "queued" ? "sending" : status);
  if (hasText && phase === "running") return html`<span class="unseen">${strings.chat.cursor}</span>`;
  return html`<span class="phase">${phases[phase] ?? phase}${told?.detail && html`: <span dir="auto">${told.detail}</span>`}</span>`;
}

/** @param {{ answer: Answer, step: Step }} props */
function StepView({ answer, step }) {
  const isLast = step === answer.steps.value.at(-1);
  const isWritten = answer.isRunning && isLast;
  return html`
    ${step.steered.map((text) => html`<p class="steered" dir="auto">${text}</p>`)}
    <div class="step" data-message=${step.messageId} data-written=${isWritten && answer.status.value !== "waiting"}>
      <${Rail} step=${step} />
      <${StepText} step=${step} isWritten=${isWritten} />
      ${step.calls.value.map((call) => html`<${ToolCard} key=${call.callId} answer=${answer} call=${call} />`)}
    </div>
  `;
}

/** The line beside the text; a gap where the connection was lost. @param {{ step: Step }} props */
function Rail({ step }) {
  const length = Math.max(1, step.text.length);
  // With each piece of text a seam moves up.
  const isSeamed = step.seams.value.length > 0 && step.revision.value >= 0;
  return html`<div class="rail" aria-hidden="true">
    ${isSeamed &&
    step.seams.value.map(({ chars, replayed, backMs }) => html`<i style=${{ top: `${Math.min(100, (100 * chars) / length)}%` }}
      title=${backMs === undefined ? strings.connection.reconnecting : strings.connection.resumed(replayed)} />`)}
  </div>`;
}

/** @param {Answer} answer */
function useAnnouncements(answer) {
  const wasRunning = useRef(answer.isRunning);
  const status = answer.status.value;
  useEffect(() => {
    if (wasRunning.current && status === "running") announce(strings.announce.answering);
    if (wasRunning.current && !answer.isRunning) {
      const { error } = answer.outcome.peek();
      const words = answer.text.trim().split(/\s+/).length;
      if (error) announce(strings.announce.failed(error.message));
      else announce(status === "cancelled" ? strings.announce.stopped : strings.announce.answered(words));
    }
    wasRunning.current = answer.isRunning;
  }, [status]);
}
