// The one connection of the page: its client, its state in words that people read, and what happened to it.

import { connect } from "../../archer-client.js";
import { computed, signal } from "../vendor/signals.js";
import { base, facts, readFacts, ticket, token, tokenWanted } from "./server.js";
import { TappedSocket, cut, replayListeners } from "./wire.js";

/**
 * @typedef {import("../../archer-client.d.ts").ArcherClient} ArcherClient
 * @typedef {import("../../archer-client.d.ts").ArcherError} ArcherError
 * One loss of the connection and how it was mended; times as performance.now() counts. `replayed`: events that came
 * once the streams were taken up again, of so many `streams`.
 * @typedef {{ cutAt: number, wasOurs: boolean, wasDraining: boolean, backAt?: number, streams: number,
 *   replayed: number }} Outage
 */

// How long a cut by the button keeps the connection down: long enough to see that the answers go on without it.
const CUT_MS = 2500;
const TICK_MS = 200;
const RETRY_FACTS_MS = 2000;

/** @type {import("../vendor/signals.js").Signal<ArcherClient | undefined>} */
export const client = signal(undefined);
export const state = signal(/** @type {import("../../archer-client.d.ts").State} */ ("connecting"));
/** Why there is no connection. */
export const failure = signal(/** @type {ArcherError | undefined} */ (undefined));
/** How long until the next attempt, in ms. */
export const retryInMs = signal(/** @type {number | undefined} */ (undefined));
/** The server said that it stops. */
export const isDraining = signal(false);
/** The newest loss, mended or not. */
export const outage = signal(/** @type {Outage | undefined} */ (undefined));
/** Whether there ever was a connection. */
export const wasOpen = signal(false);
export const isOpen = computed(() => state.value === "open");

/** Told when there is a connection, the first time and behind each loss. @type {Set<(client: ArcherClient) => void>} */
export const openListeners = new Set();
/** Told of each loss. @type {Set<() => void>} */
export const lossListeners = new Set();

let isCutByUs = false;
/** @type {ReturnType<typeof setInterval> | undefined} */
let ticker;

replayListeners.add(({ after, headSeq }) => {
  const last = outage.peek();
  if (!last) return;
  outage.value = { ...last, streams: last.streams + 1, replayed: last.replayed + Math.max(0, headSeq - after) };
});

/** Find out what the server is, and connect; where a token is missing, it is asked for first. */
export async function start() {
  try {
    await readFacts();
  } catch {
    setTimeout(start, RETRY_FACTS_MS);
    return;
  }
  if (facts.value?.needs_token && !token.value) tokenWanted.value = "missing";
  else dial();
}

/** Connect, with the token that there is. */
export function dial() {
  client.peek()?.close();
  tokenWanted.value = undefined;
  const made = connect({
    ...{ url: base, WebSocket: TappedSocket, shared: false, lingerMs: 0 },
    client: { name: "archer-console", version: facts.peek()?.version ?? "" },
    ...(facts.peek()?.needs_token && { ticket }),
  });
  made.on("state", (now, error) => made === client.peek() && changed(made, now, error));
  made.on("notification", ({ method }) => {
    if (method === "server/draining") isDraining.value = true;
  });
  client.value = made;
  changed(made, made.state, made.error);
}

/** Cut the connection, to see what becomes of it. */
export function cutConnection() {
  if (!isOpen.peek()) return;
  isCutByUs = true;
  cut(CUT_MS);
  setTimeout(reconnectNow, CUT_MS);
}

/** Don't wait for the next attempt: as when a network comes back. */
export function reconnectNow() {
  if (!isOpen.peek()) dispatchEvent(new Event("online"));
}

/** @param {ArcherClient} made @param {typeof state.value} now @param {ArcherError | undefined} error */
function changed(made, now, error) {
  const before = state.peek();
  state.value = now;
  failure.value = error;
  if (now === "open") {
    wasOpen.value = true;
    isDraining.value = false;
    const last = outage.peek();
    if (last && last.backAt === undefined) outage.value = { ...last, backAt: performance.now() };
    for (const listener of openListeners) listener(made);
  } else if (before === "open") {
    const seen = { cutAt: performance.now(), wasOurs: isCutByUs, wasDraining: isDraining.peek() };
    outage.value = { ...seen, streams: 0, replayed: 0 };
    isCutByUs = false;
    for (const listener of lossListeners) listener();
  }
  clearInterval(ticker);
  retryInMs.value = undefined;
  if (now === "connecting") ticker = setInterval(count, TICK_MS);
}

function count() {
  const { retryAt } = client.peek() ?? {};
  retryInMs.value = retryAt === undefined ? undefined : Math.max(0, retryAt - Date.now());
}
