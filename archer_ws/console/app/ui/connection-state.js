// The state of the connection, always visible; the button that cuts it; and an account of the last outage.

import { signal, useComputed, useSignal, useSignalEffect } from "../vendor/signals.js";
import { connectAgain, cutConnection, failure, isDraining, isOpen, outage, reconnectNow, retryInMs, state, wasOpen } from "../state/connection.js";
import { strings } from "../strings.js";
import { html } from "./html.js";
import { Icon } from "./icons.js";
import { announce } from "./announcer.js";
import { ErrorCard } from "./error-card.js";

// How long "Resumed" replaces "Connected".
const RESUMED_MS = 6000;
// How long an announcement waits for streams that are not resumed yet: one may be gone.
const ALL_RESUMED_MS = 2000;

const isStoryShown = signal(false);

export function ConnectionState() {
  const isFresh = useSignal(false);
  const says = useComputed(() => words(isFresh.value));
  useSignalEffect(() => {
    const last = outage.value;
    if (!last) return;
    isStoryShown.value = true;
    if (last.backAt === undefined) return;
    isFresh.value = true;
    setTimeout(() => (isFresh.value = false), RESUMED_MS);
  });
  useSignalEffect(() => {
    // Announce once per change, not once per second.
    if (state.value === "closed") announce(strings.connection.closed);
    else if (state.value !== "open") announce(wasOpen.peek() ? strings.connection.reconnecting : strings.connection.connecting);
    else if (outage.value?.backAt !== undefined) {
      const { interrupted, streams, replayed } = outage.value;
      const tell = () => announce(strings.connection.resumed(replayed));
      if (streams >= interrupted) return tell();
      const timer = setTimeout(tell, ALL_RESUMED_MS);
      return () => clearTimeout(timer);
    }
    return undefined;
  });
  return html`
    <div class="connection" data-state=${isDraining.value ? "draining" : state.value}>
      <button type="button" class="state" title=${strings.connection.details} disabled=${!outage.value}
        aria-expanded=${isStoryShown.value} onClick=${() => (isStoryShown.value = !isStoryShown.value)}>
        <span class="dot"></span><span class="words">${says}</span>
      </button>
      ${state.value === "connecting" && wasOpen.value
        ? html`<button type="button" class="quiet" onClick=${reconnectNow}>${strings.connection.now}</button>`
        : html`<button type="button" class="quiet cut" disabled=${!isOpen.value} title=${strings.connection.cutHint}
            aria-label=${strings.connection.cut} onClick=${cutConnection}><${Icon} name="scissors" /><span>${strings.connection.cut}</span></button>`}
    </div>
  `;
}

/** @param {boolean} isFresh */
function words(isFresh) {
  const { connection } = strings;
  if (state.value === "open") {
    if (isDraining.value) return connection.draining;
    return isFresh && outage.value ? connection.resumed(outage.value.replayed) : connection.open;
  }
  if (state.value === "offline") return connection.offline;
  if (state.value === "closed") return connection.closed;
  if (!wasOpen.value) return connection.connecting;
  return retryInMs.value === undefined ? connection.reconnecting : connection.reconnectingIn(retryInMs.value);
}

/** The account of the last outage. It is below the bar and covers nothing. */
export function ConnectionStory() {
  if (state.value === "closed" && failure.value) return html`<${Closed} />`;
  const told = outage.value;
  if (!told || !isStoryShown.value) return null;
  const { story } = strings.connection;
  const lines = [told.wasOurs ? story.ours : told.wasDraining ? story.draining : story.theirs];
  if (told.backAt === undefined) lines.push(story.waiting);
  else {
    lines.push(story.back(told.backAt - told.cutAt));
    lines.push(told.streams > 0 ? story.streams(told.streams, told.replayed) : story.idle);
  }
  return html`
    <section class="story" aria-label=${strings.connection.details} data-mended=${told.backAt !== undefined}>
      <p>${lines.map((line) => html`<span>${line}</span> `)}</p>
      <button type="button" class="quiet icon-only" aria-label=${strings.connection.dismiss}
        onClick=${() => (isStoryShown.value = false)}>
        <${Icon} name="close" />
      </button>
    </section>
  `;
}

function Closed() {
  return html`
    <${ErrorCard} error=${failure.value?.info}>
      <button type="button" class="primary" onClick=${connectAgain}>${strings.connection.again}</button>
    <//>
  `;
}
