// Watching conversations over as many connections as it takes.
//
// After each reconnect the conversations are listed again. Where the list differs from the known state, the listener is
// called, so that no change during the loss is missed. archer-link.js has the connection.

import { notify } from "./archer-errors.js";
import { noLosses } from "./archer-requests.js";

/**
 * @typedef {import("./archer.js").SessionChanged} SessionChanged
 * @typedef {import("./archer-errors.js").ArcherError} ArcherError
 * @typedef {(change: SessionChanged) => void} Listener
 * `known`: the last known state of each conversation. `heard`: the conversations that were notified since the current
 * list began; their notified state is newer than the list's. Undefined while there is no list: over months they would be
 * all there ever were. `again`: repeats what was refused; on a new connection that is too late, since all is requested
 * there anyway. `losses`: those of each request, by method and page.
 * @typedef {{ sessionId?: string, listener: Listener, onError: (error: ArcherError) => void, isAttached: boolean,
 *   known: Map<string, SessionChanged>, heard?: Set<string>, again?: ReturnType<typeof setTimeout>,
 *   losses: Map<string, Losses> }} Watcher
 * @typedef {import("./archer-requests.js").Losses} Losses
 * @typedef {import("./archer-link.js").Link} Link
 */

const PAGE = 200;
const RETRY_MS = 1000;

export class SessionWatches {
  /** @type {Set<Watcher>} */
  #watchers = new Set();
  #link;

  /** @param {Link} link */
  constructor(link) {
    this.#link = link;
  }

  /** Returns a function that ends the watch. @param {Listener} listener @param {string} [sessionId] @param {Watcher["onError"]} [onError] */
  add(listener, sessionId, onError = () => {}) {
    /** @type {Watcher} */
    const watcher = {
      ...{ sessionId, listener, onError, isAttached: false },
      ...{ known: new Map(), losses: new Map() },
    };
    this.#watchers.add(watcher);
    this.#begin(watcher);
    return () => this.#remove(watcher);
  }

  /** The connection is open. */
  opened() {
    for (const watcher of this.#watchers) this.#begin(watcher);
  }

  /** @param {SessionChanged} state */
  notified(state) {
    for (const watcher of [...this.#watchers]) {
      if (watcher.sessionId !== undefined && watcher.sessionId !== state.session_id) continue;
      watcher.heard?.add(state.session_id);
      tell(watcher, state);
    }
  }

  /** @param {Watcher} watcher */
  #remove(watcher) {
    if (!this.#watchers.delete(watcher)) return;
    const rest = new Set([...this.#watchers].map(({ sessionId }) => sessionId));
    if (rest.has(watcher.sessionId)) return;
    this.#link.ask("session/unwatch", { session_id: watcher.sessionId });
    if (watcher.sessionId !== undefined) return;
    // The unwatch of all conversations also ended the watches of single ones.
    for (const sessionId of rest) this.#link.ask("session/watch", { session_id: sessionId });
  }

  /** @param {Watcher} watcher */
  #begin(watcher) {
    clearTimeout(watcher.again);
    this.#ask(watcher, "session/watch", { session_id: watcher.sessionId }, () => {
      // The first list only fills `known`. If it was not read to its end, the next one reports all that is not known.
      const isFirst = !watcher.isAttached;
      watcher.isAttached = true;
      watcher.heard = new Set();
      /** @type {Map<string, SessionChanged>} */
      const listed = new Map();
      if (watcher.sessionId === undefined) return this.#list(watcher, listed, isFirst, undefined);
      this.#ask(watcher, "session/get", { session_id: watcher.sessionId, limit: 1 }, (session) => {
        listed.set(session.session_id, stateOf(session));
        compare(watcher, listed, isFirst);
      });
    });
  }

  /** @param {Watcher} watcher @param {Map<string, SessionChanged>} listed @param {boolean} isFirst @param {string} [cursor] */
  #list(watcher, listed, isFirst, cursor) {
    const take = (/** @type {any} */ page) => {
      for (const session of page.items) listed.set(session.session_id, stateOf(session));
      if (page.next_cursor !== undefined) this.#list(watcher, listed, isFirst, page.next_cursor);
      else compare(watcher, listed, isFirst);
    };
    this.#ask(watcher, "session/list", { order: "created", limit: PAGE, cursor }, take, listed.size);
  }

  /**
   * @param {Watcher} watcher @param {string} method @param {object} params
   * @param {(result: any) => void} onResult @param {number} [page] how many were listed before
   */
  #ask(watcher, method, params, onResult, page = 0) {
    const losses = watcher.losses.get(`${method} ${page}`) ?? noLosses();
    watcher.losses.set(`${method} ${page}`, losses);
    const isWanted = () => this.#watchers.has(watcher);
    this.#link.ask(
      method,
      params,
      (result) => isWanted() && onResult(result),
      (error) => {
        if (!isWanted()) return;
        if (error.kind === "session_not_found" && watcher.isAttached) gone(watcher, watcher.known.keys());
        else if (error.retryable) {
          const again = () => isWanted() && this.#begin(watcher);
          watcher.again = setTimeout(again, error.retryAfterMs ?? RETRY_MS);
        } else {
          this.#watchers.delete(watcher);
          notify(watcher.onError, error);
        }
      },
      losses,
    );
  }
}

/** @param {Watcher} watcher @param {Map<string, SessionChanged>} listed @param {boolean} isFirst */
function compare(watcher, listed, isFirst) {
  const heard = watcher.heard ?? new Set();
  watcher.heard = undefined;
  const lost = [...watcher.known.keys()].filter((id) => !listed.has(id) && !heard.has(id));
  for (const [id, state] of listed) {
    const known = watcher.known.get(id);
    const isSame = known?.version === state.version && JSON.stringify(known.active) === JSON.stringify(state.active);
    if (heard.has(id) || isSame) continue;
    if (isFirst) watcher.known.set(id, state);
    else tell(watcher, state);
  }
  if (!isFirst) gone(watcher, lost);
}

/** @param {Watcher} watcher @param {Iterable<string>} ids */
function gone(watcher, ids) {
  const updated_at = new Date().toISOString();
  for (const id of [...ids]) {
    const last = /** @type {SessionChanged} */ (watcher.known.get(id));
    tell(watcher, { ...last, updated_at, deleted: true, active: [] });
  }
}

/** @param {Watcher} watcher @param {SessionChanged} state */
function tell(watcher, state) {
  if (state.deleted) watcher.known.delete(state.session_id);
  else watcher.known.set(state.session_id, state);
  notify(watcher.listener, state);
}

/** @param {import("./archer.js").Session} session @returns {SessionChanged} */
function stateOf({ session_id, version, updated_at, title, active }) {
  return { session_id, version: version ?? 0, updated_at, ...(title != null && { title }), active: active ?? [] };
}
