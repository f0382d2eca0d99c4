// The bar above the conversations: their tabs, and the state of the connection.

import { begin, close, conversation, isSideBySide, openIds, shownId, titleOfConversation } from "../state/conversations.js";
import { isDrawerOpen } from "../state/developers.js";
import { strings } from "../strings.js";
import { ConnectionState } from "./connection-state.js";
import { focusField } from "./field.js";
import { html } from "./html.js";
import { Live } from "./live.js";
import { Icon } from "./icons.js";

/** @param {{ onMenu: () => void }} props */
export function Bar({ onMenu }) {
  const beside = () => (isSideBySide.value = !isSideBySide.value);
  const another = () => {
    begin({ beside: true });
    isSideBySide.value = true;
  };
  return html`
    <header class="bar">
      <button type="button" class="quiet icon-only only-narrow" aria-label=${strings.app.menu} onClick=${onMenu}>
        <${Icon} name="menu" />
      </button>
      <nav class="tabs" aria-label=${strings.tabs.label}>
        <ul>${openIds.value.map((id) => html`<${Tab} key=${id} id=${id} />`)}</ul>
      </nav>
      <button type="button" class="quiet icon-only only-wide" aria-label=${strings.tabs.another} title=${strings.tabs.another}
        onClick=${another}><${Icon} name="plus" /></button>
      ${openIds.value.length > 1 &&
      html`<button type="button" class="quiet icon-only only-wide" aria-label=${strings.tabs.beside} title=${strings.tabs.beside}
        aria-pressed=${isSideBySide.value} onClick=${beside}><${Icon} name="columns" /></button>`}
      <${ConnectionState} />
      <button type="button" id="developers-button" class="quiet icon-only" aria-label=${strings.developers.open}
        title=${strings.developers.openHint} aria-expanded=${isDrawerOpen.value}
        onClick=${() => (isDrawerOpen.value = !isDrawerOpen.value)}><${Icon} name="braces" /></button>
    </header>
  `;
}

/** @param {{ id: string }} props */
function Tab({ id }) {
  const title = titleOfConversation(id) || (conversation(id).isNew.value ? strings.list.new : strings.list.untitled);
  const isShown = shownId.value === id;
  const isBusy = conversation(id).isBusy.value;
  return html`
    <li class="tab" data-shown=${isShown}>
      <button type="button" class="face" aria-current=${isShown ? "true" : undefined} onClick=${() => (shownId.value = id)}>
        ${isBusy && html`<${Live} isWaiting=${conversation(id).isWaiting.value} />`}
        <span class="title" dir="auto">${title}</span>
      </button>
      ${openIds.value.length > 1 &&
      html`<button type="button" class="quiet icon-only close" aria-label=${strings.tabs.close(title)}
        onClick=${() => (close(id), focusField(shownId.peek()))}><${Icon} name="close" /></button>`}
    </li>
  `;
}
