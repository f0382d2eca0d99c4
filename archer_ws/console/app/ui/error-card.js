// An error from the server: what happened, what to do, and the ids to search for.

import { showError } from "../state/developers.js";
import { strings } from "../strings.js";
import { html } from "./html.js";

/** @param {{ error: import("../../archer.js").ErrorInfo | undefined | null, isTextKept?: boolean, children?: unknown }} props */
export function ErrorCard({ error, isTextKept = false, children }) {
  if (!error) return null;
  const { errors } = strings;
  const names = [
    [errors.kind, error.kind],
    [errors.provider, error.provider],
    [errors.request, error.request_id],
  ].filter(([, value]) => value);
  return html`
    <section class="error">
      <h3>${errors.title[error.kind] ?? errors.other}</h3>
      <p dir="auto">${error.message}${isTextKept && html` ${errors.kept}`}</p>
      ${error.errors && html`<ul>${error.errors.map(({ path, message }) => html`<li><code>${path}</code> ${message}</li>`)}</ul>`}
      ${error.hint && html`<p class="hint" dir="auto">${error.hint}</p>`}
      ${error.retry_after_ms != null && html`<p>${errors.retryIn(error.retry_after_ms)}</p>`}
      ${children && html`<p class="choices">${children}</p>`}
      <p class="names">${names.map(([name, value]) => html`<span>${name} <code>${value}</code></span> `)}
        <button type="button" class="link" onClick=${() => showError(error)}>${strings.developers.error}</button></p>
    </section>
  `;
}
