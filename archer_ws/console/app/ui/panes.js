// The open conversations: one at a time, or side by side.

import { isSideBySide, openIds, shownId } from "../state/conversations.js";
import { ConversationView } from "./conversation-view.js";
import { html } from "./html.js";

export function Panes() {
  const shown = isSideBySide.value ? openIds.value : openIds.value.filter((id) => id === shownId.value);
  return html`
    <main id="conversation" class="panes" data-beside=${isSideBySide.value && openIds.value.length > 1} tabindex="-1">
      ${shown.map((id) => html`<${ConversationView} key=${id} id=${id} />`)}
    </main>
  `;
}
