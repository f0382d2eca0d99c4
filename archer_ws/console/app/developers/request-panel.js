// The last request of the shown conversation, as code to copy.

import { useSignal } from "../vendor/signals.js";
import { conversation, shownId } from "../state/conversations.js";
import { base, clientUrl, facts } from "../state/server.js";
import { CopyButton } from "../ui/copy-button.js";
import { html } from "../ui/html.js";
import { requestOf } from "./chat-request.js";
import { codes } from "./code.js";
import { strings } from "./strings.js";

export function RequestPanel() {
  const says = strings.request;
  const language = useSignal("curl");
  const isStored = useSignal(false);
  const shown = conversation(shownId.value);
  const request = requestOf(shown, { isStored: isStored.value, example: says.example });
  const needsToken = facts.value?.needs_token === true;
  const code = codes[language.value](request, { url: base.href, clientUrl, needsToken });
  const token = !needsToken ? "" : language.value === "javascript" ? says.tokenInPlace : says.token;
  return html`
    <div class="request">
      <p class="soft">${says.about}</p>
      <div class="choose">
        <fieldset class="languages"><legend class="unseen">${says.language}</legend>
          ${Object.entries(says.languages).map(
            ([each, name]) => html`<label><input type="radio" name="developers-language" value=${each} checked=${each === language.value}
              onChange=${() => (language.value = each)} /><span>${name}</span></label>`,
          )}
        </fieldset>
        <${CopyButton} text=${() => code} label=${says.copy} />
      </div>
      <label class="check"><input type="checkbox" checked=${isStored.value}
        onChange=${(/** @type {any} */ { target }) => (isStored.value = target.checked)} />
        <span>${says.stored}<small>${says.storedHint}</small></span></label>
      ${!isStored.value && shown.hasOlder.value && html`<p class="wrong">${says.older}</p>`}
      <p class="soft">${says.needs[language.value]} ${token}</p>
      <pre tabindex="0" dir="ltr" aria-label=${says.code}><code>${code}</code></pre>
    </div>
  `;
}
