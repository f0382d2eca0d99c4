// The form that asks for the server's token.

import { useRef } from "../vendor/preact-hooks.js";
import { dial } from "../state/connection.js";
import { setToken, tokenWanted } from "../state/server.js";
import { strings } from "../strings.js";
import { html } from "./html.js";
import { Mark } from "./icons.js";

/** @param {{ name: string }} props */
export function TokenForm({ name }) {
  const field = useRef(/** @type {HTMLInputElement | null} */ (null));
  const submit = (/** @type {Event} */ event) => {
    event.preventDefault();
    const value = field.current?.value.trim();
    if (!value) return;
    setToken(value);
    dial();
  };
  return html`
    <main class="gate">
      <form class="card" onSubmit=${submit}>
        <p class="brand"><${Mark} /> ${name}</p>
        <h1>${strings.token.title}</h1>
        <p>${strings.token.text}</p>
        ${tokenWanted.value === "refused" && html`<p class="wrong" role="alert">${strings.token.refused}</p>`}
        <label>${strings.token.label}
          <input ref=${field} type="password" autocomplete="off" spellcheck=${false} required autofocus />
        </label>
        <button class="primary">${strings.token.submit}</button>
      </form>
    </main>
  `;
}
