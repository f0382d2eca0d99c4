// The line above the conversations: their tabs, and the truth about the connection.

import { begin, close, conversation, isSideBySide, openIds, shownId, titles } from "../state/conversations.js";
import { strings } from "../strings.js";
import { ConnectionState } from "./connection-state.js";
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
      <div class="tabs" role="tablist" aria-label=${strings.tabs.label}>
        ${openIds.value.map((id) => html`<${Tab} key=${id} id=${id} />`)}
      </div>
      <button type="button" class="quiet icon-only" aria-label=${strings.tabs.another} title=${strings.tabs.another}
        onClick=${another}><${Icon} name="plus" /></button>
      ${openIds.value.length > 1 &&
      html`<button type="button" class="quiet icon-only only-wide" aria-label=${strings.tabs.beside} title=${strings.tabs.beside}
        aria-pressed=${isSideBySide.value} onClick=${beside}><${Icon} name="columns" /></button>`}
      <${ConnectionState} />
    </header>
  `;
}

/** @param {{ id: string }} props */
function Tab({ id }) {
  const title = titles.value.get(id) || (conversation(id).isNew.value ? strings.list.new : strings.list.untitled);
  const isShown = shownId.value === id;
  const isBusy = conversation(id).isBusy.value;
  const keys = (/** @type {KeyboardEvent} */ event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const ids = openIds.peek();
    if (step) {
      shownId.value = ids[(ids.indexOf(id) + step + ids.length) % ids.length];
      requestAnimationFrame(() => /** @type {HTMLElement | null} */ (document.querySelector("[role=tab][aria-selected=true]"))?.focus());
    } else if (event.key === "Delete") close(id);
    else return;
    event.preventDefault();
  };
  return html`
    <div class="tab" data-shown=${isShown} role="presentation">
      <button type="button" role="tab" id=${`tab-${id}`} aria-selected=${isShown} aria-controls=${`pane-${id}`}
        tabindex=${isShown ? 0 : -1} onKeyDown=${keys} onClick=${() => (shownId.value = id)}>
        ${isBusy && html`<${Live} isWaiting=${conversation(id).isWaiting.value} />`}
        <span class="title" dir="auto">${title}</span>
      </button>
      ${openIds.value.length > 1 &&
      html`<button type="button" class="quiet icon-only close" tabindex="-1" aria-label=${strings.tabs.close(title)}
        onClick=${() => close(id)}><${Icon} name="close" /></button>`}
    </div>
  `;
}
