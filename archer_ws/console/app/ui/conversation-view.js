// One conversation on the screen: its messages, completions and composer.

import { useEffect, useLayoutEffect, useRef, useState } from "../vendor/preact-hooks.js";
import { conversation, isSideBySide, shownId, titleOfConversation } from "../state/conversations.js";
import { isOpen } from "../state/connection.js";
import { strings } from "../strings.js";
import { CompletionView } from "./completion-view.js";
import { Composer } from "./composer.js";
import { ErrorCard } from "./error-card.js";
import { html } from "./html.js";
import { Icon } from "./icons.js";
import { complain } from "./notice.js";
import { Place } from "./place.js";
import { SaidView } from "./said-view.js";
import { Welcome } from "./welcome.js";

/** @param {{ id: string }} props */
export function ConversationView({ id }) {
  const shown = conversation(id);
  const items = shown.items.value;
  const scroller = useRef(/** @type {HTMLElement | null} */ (null));
  const [isAway, setAway] = useState(false);
  useEffect(() => void shown.refresh(), [id, isOpen.value]);
  const place = useRef(/** @type {Place | undefined} */ (undefined));
  // These two not after a paint, because the message that was found takes the focus.
  useLayoutEffect(() => {
    const made = new Place(/** @type {HTMLElement} */ (scroller.current), () => shown.hasText, setAway);
    place.current = made;
    return () => made.leave();
  }, [id]);
  const sought = shown.sought.value;
  useLayoutEffect(() => {
    if (sought !== undefined && place.current?.seek(sought)) shown.sought.value = undefined;
  }, [sought, items]);
  const { asks } = shown;
  const before = useRef(asks.value);
  useLayoutEffect(() => {
    if (asks.value !== before.current) place.current?.follow();
    before.current = asks.value;
  }, [asks.value]);
  // Beside others it may be out of view. Nothing moves under a pointer that has just pressed something in it.
  const pane = useRef(/** @type {HTMLElement | null} */ (null));
  const isEntered = useRef(false);
  const isShown = shownId.value === id;
  useLayoutEffect(() => {
    if (isShown && !isEntered.current) pane.current?.scrollIntoView({ block: "nearest", inline: "nearest" });
    isEntered.current = false;
  }, [isShown, isSideBySide.value]);
  const entered = () => {
    isEntered.current ||= shownId.peek() !== id;
    shownId.value = id;
  };
  const older = () => {
    place.current?.hold();
    shown.readOlder().catch(complain);
  };
  const title = titleOfConversation(id) || strings.list.new;
  const isWelcome = items.length === 0 && shown.isNew.value;
  return html`
    <section ref=${pane} class="pane" id=${`pane-${id}`} aria-label=${strings.chat.label(title)} data-shown=${isShown} onFocusIn=${entered}>
      ${isSideBySide.value && html`<h2 class="pane-title" dir="auto">${title}</h2>`}
      <div class="scroller" ref=${scroller} tabindex="0" role="log" aria-live="off" aria-label=${strings.chat.label(title)}>
        <div class="column">
          ${isWelcome && html`<${Welcome} id=${id} />`}
          ${shown.isReading.value && items.length === 0 && html`<p class="empty">${strings.chat.reading}</p>`}
          ${shown.hasOlder.value &&
          html`<button type="button" class="quiet" onClick=${older}>${strings.chat.older}</button>`}
          ${items.map((item) =>
            item.kind === "said"
              ? html`<${SaidView} key=${item.id} item=${item} conversation=${shown} />`
              : html`<${CompletionView} key=${item.id} item=${item} conversation=${shown} isLast=${item === items.at(-1)} />`,
          )}
          ${shown.trouble.value && html`<${Trouble} error=${shown.trouble.value} />`}
        </div>
      </div>
      ${isAway &&
      html`<button type="button" class="to-end" aria-label=${strings.chat.toEnd} title=${strings.chat.toEnd} onClick=${() => place.current?.return()}>
        <${Icon} name="down" />
      </button>`}
      <${Composer} conversation=${shown} />
    </section>
  `;
}

/** @param {{ error: import("../../archer-client.d.ts").ArcherError }} props */
function Trouble({ error }) {
  const { gone, goneHint } = strings.chat;
  const info = error.kind === "session_not_found" ? { ...error.info, message: gone, hint: goneHint } : error.info;
  return html`<${ErrorCard} error=${info} />`;
}
