// The page's one connection: its client, its state, and the last outage.

import { connect } from "../../archer-client.js";
import { computed, signal } from "../vendor/signals.js";
import { base, facts, readFacts, ticket, token, tokenWanted } from "./server.js";
import { TappedSocket, cut } from "./wire.js";

/**
 * @typedef {import("../../archer-client.d.ts").ArcherClient} ArcherClient
 * @typedef {import("../../archer-client.d.ts").ArcherError} ArcherError
 * One loss of the connection and its recovery; times are performance.now(). `interrupted`, `streams`: how many streams
 * were followed then, and how many of them were resumed; `replayed`: how many events were replayed for them.
 * @typedef {{ cutAt: number, wasOurs: boolean, wasDraining: boolean, backAt?: number, interrupted: number,
 *   streams: number, replayed: number }} Outage
 */

// How long the button keeps the connection down: long enough to see that generation continues without it.
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
/** The server announced its shutdown. */
export const isDraining = signal(false);
/** The newest outage, over or not. */
export const outage = signal(/** @type {Outage | undefined} */ (undefined));
/** Whether the page has ever been connected. */
export const wasOpen = signal(false);
export const isOpen = computed(() => state.value === "open");

/** Called on each connection: the first one, and after each loss. @type {Set<(client: ArcherClient) => void>} */
export const openListeners = new Set();
/** Called on each loss. @type {Set<() => void>} */
export const lossListeners = new Set();

let isCutByUs = false;
/** @type {ReturnType<typeof setInterval> | undefined} */
let ticker;

/** The outage that has begun interrupts so many streams. @param {number} interrupted */
export function interrupts(interrupted) {
  const last = outage.peek();
  if (last) outage.value = { ...last, interrupted };
}

/** A stream that the last outage interrupted was resumed. @param {number} replayed how many of its events came again */
export function mended(replayed) {
  const last = outage.peek();
  if (last) outage.value = { ...last, streams: last.streams + 1, replayed: last.replayed + replayed };
}

/** Read the server's facts, then connect. If a token is needed and missing, ask for it first. */
export async function start() {
  try {
    await readFacts();
  } catch {
    setTimeout(start, RETRY_FACTS_MS);
    return;
  }
  askOrDial();
}

/** Connect again after the connection was closed for good. The server may have been started anew, and need a token now. */
export async function connectAgain() {
  await readFacts().catch(() => {}); // If it can't be reached, the client tells it.
  askOrDial();
}

function askOrDial() {
  if (facts.peek()?.needs_token && !token.peek()) tokenWanted.value = "missing";
  else dial();
}

/** Connect with the current token. */
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

/** Cut the connection for CUT_MS, to show how it recovers. */
export function cutConnection() {
  if (!isOpen.peek()) return;
  isCutByUs = true;
  cut(CUT_MS);
  setTimeout(reconnectNow, CUT_MS);
}

/** Retry now instead of waiting, as when the network comes back. */
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
    outage.value = { ...seen, interrupted: 0, streams: 0, replayed: 0 };
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
