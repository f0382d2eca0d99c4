// One completion: its steps, its outcome, and a line at the side that shows where the connection was lost.

import { useEffect, useRef } from "../vendor/preact-hooks.js";
import { begin, fork } from "../state/conversations.js";
import { strings } from "../strings.js";
import { announce } from "./announcer.js";
import { CopyButton } from "./copy-button.js";
import { ErrorCard } from "./error-card.js";
import { focusField } from "./field.js";
import { html } from "./html.js";
import { Icon } from "./icons.js";
import { complain } from "./notice.js";
import { OutcomeLine } from "./outcome-line.js";
import { StepText } from "./step-text.js";
import { ToolCard } from "./tool-card.js";

/**
 * @typedef {import("../state/completion.js").Completion} Completion
 * @typedef {import("../state/steps.js").Step} Step
 * @typedef {import("../state/conversation.js").Conversation} Conversation
 * @typedef {import("../state/items.js").CompletionItem} CompletionItem
 */

/** @param {{ item: CompletionItem, conversation: Conversation, isLast: boolean }} props */
export function CompletionView({ item, conversation, isLast }) {
  const { completion } = item;
  const status = completion.status.value;
  const isRunning = completion.isRunning;
  const { model } = completion.source.value;
  useAnnouncements(completion);
  const askAgain = () => {
    // A conversation that was deleted can't go on: ask in a new one.
    const asked = conversation.isGone ? conversation.questionOf(item) : undefined;
    const shown = asked ? begin() : conversation;
    if (asked) shown.ask(asked.said);
    else conversation.askAgain(item);
    focusField(shown.id);
  };
  const branch = () => fork(conversation.id, conversation.idBehind(item)).catch(complain);
  const { error, message_ids } = completion.outcome.value;
  const again = html`<button type="button" class="primary" disabled=${conversation.isBusy.value} onClick=${askAgain}>
    <${Icon} name="again" /> ${strings.chat.askAgain}
  </button>`;
  return html`
    <article class="answer" data-status=${status} aria-label=${strings.chat.answer} aria-busy=${isRunning}>
      <header>
        ${(model || !isRunning) && html`<span class="who">${model ?? error?.provider ?? strings.chat.answer}</span>`}
        ${isRunning && html`<${Progress} completion=${completion} />`}
      </header>
      ${completion.steps.value.map((step) => html`<${StepView} key=${step.id} completion=${completion} step=${step} />`)}
      ${completion.steered.value.map(
        ({ id, text }) =>
          html`<p class="steered" key=${id}><span dir="auto">${text}</span> <small>${isRunning ? strings.chat.steering : strings.chat.unsteered}</small></p>`,
      )}
      ${error && html`<${ErrorCard} error=${error} isTextKept=${completion.text !== ""}>${isLast && again}<//>`}
      ${!isRunning && html`<${OutcomeLine} completion=${completion} />`}
      ${!isRunning && (completion.text || !error) &&
      html`<div class="actions">
        ${completion.text && html`<${CopyButton} text=${() => completion.text} />`}
        ${!(error && isLast) &&
        html`<button type="button" class="quiet icon-only" aria-label=${strings.chat.askAgain} title=${strings.chat.askAgain}
          disabled=${conversation.isBusy.value} onClick=${askAgain}><${Icon} name="again" /></button>`}
        <button type="button" class="quiet icon-only" aria-label=${strings.chat.branch} title=${strings.chat.branch}
          disabled=${item.isLocal && !message_ids} onClick=${branch}><${Icon} name="branch" /></button>
      </div>`}
    </article>
  `;
}

/** @param {{ completion: Completion }} props */
function Progress({ completion }) {
  const { phases } = strings.chat;
  const told = completion.progress.value;
  const hasText = completion.beat.value >= 0 && completion.text !== "";
  const status = completion.status.value;
  const phase = told?.phase ?? (status === "queued" ? "sending" : status);
  if (hasText && phase === "running") return html`<span class="unseen">${strings.chat.cursor}</span>`;
  return html`<span class="phase">${phases[phase] ?? phase}${told?.detail && html`: <span dir="auto">${told.detail}</span>`}</span>`;
}

/** @param {{ completion: Completion, step: Step }} props */
function StepView({ completion, step }) {
  const isLast = step === completion.steps.value.at(-1);
  const isWritten = completion.isRunning && isLast;
  return html`
    ${step.steered.map((text) => html`<p class="steered" dir="auto">${text}</p>`)}
    <div class="step" data-message=${step.messageId.value} data-written=${isWritten && completion.status.value !== "waiting"}>
      <${Rail} step=${step} />
      <${StepText} step=${step} isWritten=${isWritten} />
      ${step.calls.value.map((call) => html`<${ToolCard} key=${call.callId} completion=${completion} call=${call} />`)}
    </div>
  `;
}

/** The line beside the text, with a gap where the connection was lost. @param {{ step: Step }} props */
function Rail({ step }) {
  const length = Math.max(1, step.text.length);
  // As the text grows, the seam moves up.
  const isSeamed = step.seams.value.length > 0 && step.revision.value >= 0;
  return html`<div class="rail" aria-hidden="true">
    ${isSeamed &&
    step.seams.value.map(({ chars, replayed, backMs }) => html`<i style=${{ top: `${Math.min(100, (100 * chars) / length)}%` }}
      title=${backMs === undefined ? strings.connection.reconnecting : strings.connection.resumed(replayed)} />`)}
  </div>`;
}

/** @param {Completion} completion */
function useAnnouncements(completion) {
  const wasRunning = useRef(completion.isRunning);
  const status = completion.status.value;
  useEffect(() => {
    if (wasRunning.current && status === "running") announce(strings.announce.answering);
    if (wasRunning.current && !completion.isRunning) {
      const { error } = completion.outcome.peek();
      const words = completion.text.trim().split(/\s+/).length;
      if (error) announce(strings.announce.failed(error.message));
      else announce(status === "cancelled" ? strings.announce.stopped : strings.announce.answered(words));
    }
    wasRunning.current = completion.isRunning;
  }, [status]);
}
