// What an answer came to: how it ended, what it cost, how fast it was, and what was left out.

import { strings } from "../strings.js";
import { html } from "./html.js";

/** @typedef {import("../state/answers.js").Answer} Answer */

/** @param {{ answer: Answer }} props */
export function OutcomeLine({ answer }) {
  const { outcome } = strings;
  const told = answer.outcome.value;
  const { usage } = told;
  const { firstMs, perSecond, tokens } = answer.speed;
  const figures = [
    Boolean(tokens) && `${outcome.tokens(Number(tokens))}${usage?.estimated ? ` (${outcome.estimated})` : ""}`,
    usage?.reasoning_tokens && outcome.reasoning(usage.reasoning_tokens),
    usage && Boolean(tokens) && outcome.prompt(usage.prompt_tokens),
    usage?.cached_tokens && outcome.cached(usage.cached_tokens),
    firstMs !== undefined && outcome.first(firstMs),
    perSecond !== undefined && outcome.rate(perSecond),
    told.format_valid === true && outcome.formatValid,
  ].filter(Boolean);
  return html`
    ${notes(answer).map((note) => html`<p class="note" dir="auto">${note}</p>`)}
    ${survived(answer) && html`<p class="note good">${survived(answer)}</p>`}
    ${told.format_errors && html`<ul class="note">${told.format_errors.map(({ path, message }) => html`<li><code>${path || "."}</code> ${message}</li>`)}</ul>`}
    ${figures.length > 0 && html`<p class="figures">${figures.map((figure) => html`<span>${figure}</span> `)}</p>`}
  `;
}

/** @param {Answer} answer */
function notes(answer) {
  const { outcome } = strings;
  const told = answer.outcome.value;
  const status = answer.status.value;
  return [
    told.refusal && [outcome.refused, told.refusal.text].filter(Boolean).join(" "),
    told.finish_reason === "length" && outcome.length,
    told.finish_reason === "content_filter" && !told.refusal && outcome.filtered,
    status === "cancelled" && (outcome.cancelled[told.reason ?? "client"] ?? outcome.cancelled.other),
    told.format_valid === false && outcome.formatInvalid,
    told.stored === false && outcome.notStored,
    told.history_dropped && outcome.dropped(told.history_dropped),
  ].filter(Boolean);
}

/** @param {Answer} answer */
function survived(answer) {
  const seams = answer.steps.value.flatMap((step) => step.seams.value).filter(({ backMs }) => backMs !== undefined);
  if (seams.length === 0) return "";
  return strings.outcome.seams(seams.length, seams.reduce((sum, seam) => sum + seam.replayed, 0));
}
