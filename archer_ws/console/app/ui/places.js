// The addresses that a developer needs first: documentation, health, socket, client.

import { base, clientUrl, facts, openaiUrl, socketUrl } from "../state/server.js";
import { strings } from "../strings.js";
import { CopyButton } from "./copy-button.js";
import { html } from "./html.js";

export function Places() {
  if (!facts.value) return null;
  const links = [
    ["docs", strings.places.docs],
    ["health/ready", strings.places.health],
    ["health/providers", strings.places.providers],
    ["openapi.json", strings.places.openapi],
  ];
  const texts = [
    [socketUrl, strings.places.socket],
    [openaiUrl, strings.places.openai],
    [clientUrl, strings.places.client],
  ];
  return html`
    <dl class="places">
      ${links.map(
        ([path, what]) => html`<dt><a href=${new URL(path, base)} target="_blank" rel="noopener">/${path}</a></dt><dd>${what}</dd>`,
      )}
      ${texts.map(
        ([address, what]) => html`<dt><code>${address}</code> <${CopyButton} text=${() => address} /></dt><dd>${what}</dd>`,
      )}
    </dl>
  `;
}
