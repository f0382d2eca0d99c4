// The outcome of a completion: how it ended, its token usage, its speed, and what was left out.

import { strings } from "../strings.js";
import { html } from "./html.js";

/** @typedef {import("../state/completion.js").Completion} Completion */

/** @param {{ completion: Completion }} props */
export function OutcomeLine({ completion }) {
  const { outcome } = strings;
  const told = completion.outcome.value;
  const { usage } = told;
  const { firstMs, perSecond, tokens } = completion.speed;
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
    ${notes(completion).map((note) => html`<p class="note" dir="auto">${note}</p>`)}
    ${survived(completion) && html`<p class="note good">${survived(completion)}</p>`}
    ${told.format_errors && html`<ul class="note">${told.format_errors.map(({ path, message }) => html`<li><code>${path || "."}</code> ${message}</li>`)}</ul>`}
    ${figures.length > 0 && html`<p class="figures">${figures.map((figure) => html`<span>${figure}</span> `)}</p>`}
  `;
}

/** @param {Completion} completion */
function notes(completion) {
  const { outcome } = strings;
  const told = completion.outcome.value;
  const status = completion.status.value;
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

/** @param {Completion} completion */
function survived(completion) {
  const seams = completion.steps.value.flatMap((step) => step.seams.value).filter(({ backMs }) => backMs !== undefined);
  if (seams.length === 0) return "";
  return strings.outcome.seams(seams.length, seams.reduce((sum, seam) => sum + seam.replayed, 0));
}
