// The conversations stored by the server: list, search, and which ones are open in this tab.

import { computed, signal } from "../vendor/signals.js";
import { client, openListeners } from "./connection.js";
import { Conversation } from "./conversation.js";
import { newId } from "./ids.js";
import { beginning } from "./items.js";
import { kept } from "./kept.js";
import { copySettings } from "./settings.js";

/**
 * @typedef {import("../../archer.js").Session} Session
 * @typedef {import("../../archer.js").SessionChanged} SessionChanged
 * @typedef {import("../../archer.js").FoundMessage} FoundMessage
 */

const PAGE = 50;
// How long changes of unknown extent are collected before the list is loaded again.
const REREAD_MS = 150;
const TITLE_CHARS_MAX = 512;
// How many closed conversations stay loaded, for who opens one again; others are loaded from the server then.
const CLOSED_MAX = 10;

/** The most recently changed first; undefined until loaded. */
export const sessions = signal(/** @type {Session[] | undefined} */ (undefined));
export const hasMore = signal(false);
export const query = signal("");
/** The results of the search; undefined if there is no search. */
export const found = signal(/** @type {FoundMessage[] | undefined} */ (undefined));
export const hasMoreFound = signal(false);
/** The conversations of the results that the list does not show yet, by id. */
export const foundUnlisted = signal(/** @type {Map<string, Session>} */ (new Map()));
/** Why the search has no results. */
export const searchFailure = signal(/** @type {Error | undefined} */ (undefined));

/** The ids of the open conversations in tab order; the shown one; whether they are shown side by side. */
export const openIds = kept("sessionStorage", "archer.open", /** @type {string[]} */ ([]));
export const shownId = kept("sessionStorage", "archer.shown", "");
export const isSideBySide = kept("sessionStorage", "archer.beside", false);

/** Those that were closed last are the last ones. @type {Map<string, Conversation>} */
const conversations = new Map();
let cursor = /** @type {string | null | undefined} */ (undefined);
// The list has every conversation that changed last between the cursor and this moment.
let listedUntil = "";
let reread = 0;
/** @type {Set<string>} */
const deletedIds = new Set();
/** The latest search. @type {AbortController | undefined} */
let searching;
/**
 * The search whose results are shown, and where its next page begins.
 * @type {{ signal: AbortSignal, text: string, cursor: string | null | undefined } | undefined}
 */
let shownSearch;

export const titles = computed(() => new Map((sessions.value ?? []).map((each) => [each.session_id, each.title])));

/** A conversation's title, or the first question that is loaded; empty if there is none yet. @param {string} id */
export function titleOfConversation(id) {
  const { title, firstTitle } = conversation(id);
  return titles.value.get(id) || title.value || firstTitle.value;
}

/** @param {string} id */
export function conversation(id) {
  let made = conversations.get(id);
  if (!made) {
    made = new Conversation(id);
    conversations.set(id, made);
  }
  return made;
}

/** Show a conversation in its own tab. @param {string} id */
export function show(id) {
  if (!openIds.peek().includes(id)) {
    // It replaces new conversations that are still empty.
    const kept = openIds.peek().filter((each) => each === id || !conversation(each).isBlank);
    openIds.value = [...kept, id];
  }
  shownId.value = id;
  forgetClosed();
}

/** Show the conversation of a message that a search found, and scroll to the message. @param {FoundMessage} hit */
export function showMessage({ session_id, message_id }) {
  show(session_id);
  return conversation(session_id).seek(message_id);
}

/** Begin a conversation. The server creates it with its first message. @param {{ beside?: boolean }} [where] */
export function begin({ beside = false } = {}) {
  const id = newId("ses");
  conversation(id).isNew.value = true;
  if (shownId.peek()) copySettings(shownId.peek(), id);
  if (beside) {
    openIds.value = [...openIds.peek(), id];
    shownId.value = id;
  } else show(id);
  return conversation(id);
}

/** Close its tab. Running streams continue. @param {string} id */
export function close(id) {
  const before = openIds.peek();
  const rest = before.filter((each) => each !== id);
  if (shownId.peek() === id) shownId.value = rest[Math.max(0, before.indexOf(id) - 1)] ?? "";
  openIds.value = rest;
  const closed = conversation(id);
  conversations.delete(id);
  conversations.set(id, closed);
  if (rest.length === 0) begin();
  forgetClosed();
}

/** Forget what was closed long ago, unless the server does not have all of it. */
function forgetClosed() {
  const open = new Set(openIds.peek());
  const closed = [...conversations.values()].filter((each) => !open.has(each.id) && !each.isOnlyHere);
  for (const { id } of closed.slice(0, -CLOSED_MAX)) conversations.delete(id);
}

/** @param {string} id @param {string} title */
export async function rename(id, title) {
  const session = await call("session/update", { session_id: id, title: beginning(title, TITLE_CHARS_MAX) });
  put(session);
}

/** @param {string} id */
export async function remove(id) {
  await call("session/delete", { session_id: id });
  if (openIds.peek().includes(id)) close(id);
  conversations.delete(id);
  gone(id);
}

/** Branch: a new conversation with the messages before `before`, or with all of them. @param {string} id @param {string} [before] */
export async function fork(id, before) {
  const made = await call("session/fork", { session_id: id, before, new_session_id: newId("ses") });
  copySettings(id, made.session_id);
  put(made);
  show(made.session_id);
  return conversation(made.session_id);
}

/** @param {string} text */
export async function search(text) {
  query.value = text;
  searching?.abort();
  searchFailure.value = undefined;
  if (!text.trim()) {
    found.value = undefined;
    hasMoreFound.value = false;
    return;
  }
  searching = new AbortController();
  const { signal } = searching;
  try {
    const page = await client.peek()?.call("session/search", { query: text, limit: PAGE }, { signal });
    if (signal.aborted) return;
    shownSearch = { signal, text, cursor: undefined };
    showFound([], page);
    foundUnlisted.value = new Map();
    await readUnlisted(page?.items ?? [], signal);
  } catch (error) {
    if (!signal.aborted) searchFailure.value = /** @type {Error} */ (error);
  }
}

/** The next page of what the shown search finds. */
export async function searchMore() {
  // While a new search runs, the results are the last one's, and about to be replaced.
  if (!shownSearch || shownSearch.signal !== searching?.signal) return;
  const { signal, text, cursor } = shownSearch;
  try {
    const page = await client.peek()?.call("session/search", { query: text, limit: PAGE, cursor }, { signal });
    if (signal.aborted || !page) return;
    showFound(found.peek() ?? [], page);
    await readUnlisted(page.items, signal);
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}

/** @param {FoundMessage[]} before @param {import("../../archer.js").SearchPage | undefined} page */
function showFound(before, page) {
  found.value = [...before, ...(page?.items ?? [])];
  if (shownSearch) shownSearch.cursor = page?.next_cursor;
  hasMoreFound.value = page?.next_cursor != null;
}

/** @param {FoundMessage[]} hits @param {AbortSignal} signal */
async function readUnlisted(hits, signal) {
  const unlisted = new Set(hits.map(({ session_id }) => session_id).filter((id) => !titles.peek().has(id)));
  const read = [...unlisted].map((session_id) => client.peek()?.call("session/get", { session_id, limit: 1 }, { signal }));
  // One that was deleted since stays without a name.
  /** @type {Map<string, Session>} */
  const known = new Map();
  for (const each of await Promise.allSettled(read)) {
    if ("value" in each && each.value) known.set(each.value.session_id, each.value);
  }
  if (!signal.aborted) foundUnlisted.value = new Map([...foundUnlisted.peek(), ...known]);
}

export async function readMore() {
  const asked = cursor;
  const page = await call("session/list", { order: "updated", archived: false, limit: PAGE, cursor: asked });
  merge(page.items);
  // Unless the list was read anew meanwhile.
  if (cursor === asked) setCursor(page.next_cursor);
}

/** @param {string | null | undefined} next */
function setCursor(next) {
  cursor = next;
  hasMore.value = next != null;
}

/** @param {Session} session */
export function put(session) {
  merge([session]);
}

async function readFirst() {
  const page = await call("session/list", { order: "updated", archived: false, limit: PAGE });
  const listed = new Set(page.items.map(({ session_id }) => session_id));
  // Keep older conversations loaded before. One that belongs on the first page and is not on it was deleted.
  const oldest = page.items.at(-1)?.updated_at ?? "";
  const older = page.next_cursor == null ? [] : (sessions.peek() ?? []).filter((each) => each.updated_at <= oldest);
  sessions.value = [];
  merge([...page.items, ...older.filter(({ session_id }) => !listed.has(session_id))]);
  // Where the page reaches what was listed before, the next older ones come behind all of that.
  if (page.next_cursor == null || oldest > listedUntil) setCursor(page.next_cursor);
  listedUntil = page.items[0]?.updated_at ?? "";
}

/** @param {Session[]} more */
function merge(more) {
  const byId = new Map((sessions.peek() ?? []).map((each) => [each.session_id, each]));
  // What was asked for before a deletion may still name it.
  more = more.filter(({ session_id }) => !deletedIds.has(session_id));
  for (const each of more) byId.set(each.session_id, { ...byId.get(each.session_id), ...each });
  sessions.value = [...byId.values()].sort((one, other) => (one.updated_at < other.updated_at ? 1 : -1));
}

/** @param {SessionChanged} change */
function changed(change) {
  const { session_id, deleted } = change;
  if (deleted) return gone(session_id);
  deletedIds.delete(session_id); // It is imported anew.
  const known = sessions.peek()?.find((each) => each.session_id === session_id);
  if (known) merge([{ ...known, ...change, title: change.title ?? known.title }]);
  conversations.get(session_id)?.changed(change, { isShown: openIds.peek().includes(session_id) });
  // The notification does not include the preview and the length: load the list again.
  if (known && known.version === change.version) return;
  if (!known && change.updated_at <= listedUntil) listedUntil = ""; // It was imported among older ones.
  clearTimeout(reread);
  reread = window.setTimeout(() => readFirst().catch(() => {}), REREAD_MS);
}

/** @param {string} id */
function gone(id) {
  deletedIds.add(id);
  if (sessions.peek()) sessions.value = sessions.peek()?.filter(({ session_id }) => session_id !== id);
  found.value = found.peek()?.filter(({ session_id }) => session_id !== id);
  const known = conversations.get(id);
  if (!known) return;
  if (!openIds.peek().includes(id)) conversations.delete(id);
  else if (known.hasText) known.gone();
  else close(id);
}

/**
 * @template {import("../../archer-client.d.ts").CallableMethod} M
 * @param {M} method @param {import("../../archer.js").ParamsOf<M>} params
 */
async function call(method, params) {
  const asked = client.peek();
  if (!asked) throw new Error("there is no client yet");
  return /** @type {Promise<import("../../archer.js").ResultOf<M>>} */ (
    /** @type {any} */ (asked).call(method, params)
  );
}

/** @type {import("../../archer-client.d.ts").ArcherClient | undefined} */
let watched;
openListeners.add((now) => {
  if (watched !== now) {
    watched = now;
    now.watch(changed);
  }
  // The server may have been given back its store.
  deletedIds.clear();
  listedUntil = "";
  readFirst().catch(() => {});
  for (const id of openIds.peek()) conversation(id).refresh();
});
