// Errors with all their fields.

import { failure } from "../state/connection.js";
import { conversation, openIds } from "../state/conversations.js";
import { shownError } from "../state/developers.js";
import { CopyButton } from "../ui/copy-button.js";
import { html } from "../ui/html.js";
import { strings } from "./strings.js";

/** @typedef {import("../../archer.js").ErrorInfo} ErrorInfo */

/** In the order of the protocol's ErrorInfo. @type {(keyof ErrorInfo)[]} */
const FIELDS = ["kind", "message", "hint", "retryable", "retry_after_ms", "request_id", "stream_id", "provider", "errors"];

export function ErrorsPanel() {
  const says = strings.errors;
  const errors = allErrors();
  if (errors.length === 0) return html`<p class="empty">${says.none}</p>`;
  return html`<div class="errors">
    ${errors.map(({ error, where }) => html`<${ErrorInFull} key=${where + error.request_id + error.kind} error=${error} where=${where} />`)}
  </div>`;
}

function allErrors() {
  const says = strings.errors;
  const asked = shownError.value;
  const lost = failure.value?.info;
  const completions = openIds.value.flatMap((id) =>
    conversation(id).items.value.flatMap((item) => (item.kind === "completion" ? [item.completion.outcome.value.error] : [])),
  );
  const all = [
    { error: asked, where: says.asked },
    { error: lost, where: says.connection },
    ...completions.reverse().map((error) => ({ error, where: says.answer })),
  ];
  /** @type {{ error: ErrorInfo, where: string }[]} */
  const told = [];
  for (const { error, where } of all) {
    const isTold = told.some((each) => JSON.stringify(each.error) === JSON.stringify(error));
    if (error && !isTold) told.push({ error, where });
  }
  return told;
}

/** @param {{ error: ErrorInfo, where: string }} props */
function ErrorInFull({ error, where }) {
  const json = JSON.stringify(error, null, 2);
  return html`
    <section class="full-error" aria-label=${`${where}: ${error.kind}`}>
      <header><h3>${where}</h3><${CopyButton} text=${() => json} label=${strings.errors.copy} /></header>
      <dl>${FIELDS.map((field) => html`<dt><code>${field}</code></dt><dd dir="auto">${value(error, field)}</dd>`)}</dl>
    </section>
  `;
}

/** @param {ErrorInfo} error @param {keyof ErrorInfo} field */
function value(error, field) {
  const says = strings.errors;
  const told = error[field];
  if (told === undefined || told === null || told === "") return html`<span class="soft">${says.absent}</span>`;
  if (field === "errors") {
    return html`<ul>${error.errors?.map(({ path, message }) => html`<li><code>${path || "."}</code> ${message}</li>`)}</ul>`;
  }
  if (typeof told === "boolean") return told ? says.yes : says.no;
  if (field === "retry_after_ms") return says.ms(Number(told));
  return field === "message" || field === "hint" ? String(told) : html`<code>${told}</code>`;
}
