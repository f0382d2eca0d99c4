// The whole page: the list, the open conversations, dialogs, and the token form.

import { signal } from "../vendor/signals.js";
import { useEffect } from "../vendor/preact-hooks.js";
import { shownId, titleOfConversation } from "../state/conversations.js";
import { tokenWanted } from "../state/server.js";
import { strings } from "../strings.js";
import { Announcer } from "./announcer.js";
import { Bar } from "./bar.js";
import { ConnectionStory } from "./connection-state.js";
import { DevelopersPlace } from "./developers-place.js";
import { Dialogs } from "./dialogs.js";
import { html } from "./html.js";
import { onKey } from "./keys.js";
import { Notice } from "./notice.js";
import { Panes } from "./panes.js";
import { Sidebar } from "./sidebar.js";
import { TokenForm } from "./token-form.js";

/** Whether the list is shown on narrow screens, where it covers the page. */
export const isListShown = signal(false);

/** @param {{ name: string }} props */
export function App({ name }) {
  useEffect(() => {
    addEventListener("keydown", onKey);
    addEventListener("dragover", keepFile);
    return () => {
      removeEventListener("keydown", onKey);
      removeEventListener("dragover", keepFile);
    };
  }, []);
  const title = titleOfConversation(shownId.value);
  useEffect(() => void (document.title = title ? `${title} – ${name}` : name), [title]);
  if (tokenWanted.value) return html`<${TokenForm} name=${name} />`;
  const hideList = () => (isListShown.value = false);
  return html`
    <a class="skip" href="#conversation">${strings.app.skip}</a>
    <div class="shell" data-list=${isListShown.value}>
      <${Sidebar} name=${name} onDone=${hideList} />
      <div class="veil" onClick=${hideList}></div>
      <div class="work">
        <h1 class="unseen">${title || name}</h1>
        <${Bar} onMenu=${() => (isListShown.value = !isListShown.value)} />
        <${ConnectionStory} />
        <${Notice} />
        <${Panes} />
      </div>
      <${DevelopersPlace} />
    </div>
    <${Dialogs} />
    <${Announcer} />
  `;
}

/** A file that is dropped beside the composer is refused; the browser would open it. @param {DragEvent} event */
function keepFile(event) {
  if (event.defaultPrevented || !event.dataTransfer?.types.includes("Files")) return;
  event.preventDefault();
  event.dataTransfer.dropEffect = "none";
}
