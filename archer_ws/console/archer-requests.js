// Requests that wait to be sent or for their response: which one is next, and which to repeat after a loss. One for
// which the connection is lost again and again fails.

import { ArcherError, refusal } from "./archer-errors.js";

/**
 * Connections in a row that were lost while the same request waited for its response, and when the first of them was,
 * as performance.now() counts.
 * @typedef {{ count: number, since: number }} Losses
 * `ofConnection`: whether it is dropped with the connection instead of repeated. `log`: the stream that it attaches.
 * `losses`: shared by requests that are made anew for each connection.
 * @typedef {import("./archer-stream.js").Log} Log
 * @typedef {{ method: string, body: string, ofConnection: boolean, log?: Log, sends: number, losses: Losses,
 *   resolve(result: any): void, reject(error: ArcherError): void }} Call
 */

// Methods that the server accepts however busy it is (section 8).
const CONTROL = new Set(["stream/cancel", "stream/steer", "tool/approve", "tool/claim", "tool/result", "ping"]);
// Methods that are harmless to send twice; any other is rejected when its response is lost.
const REPEATABLE = new Set(
  `stream/cancel stream/steer stream/get stream/list tool/approve tool/claim tool/result
  session/create session/get session/list session/search session/update session/delete session/delete_all
  model/list provider/status ticket/create ping rpc.discover`.split(/\s+/),
);

// After so many losses in a row with the same request in flight, it is sent only while no other such request is in
// flight: one of them may be what the connection is closed for, and the others must not fail with it.
const LOSSES_OF_A_SUSPECT = 2;
// After so many it is sent after all others, and fails if they have taken long enough: in a bad network, it may not be
// the reason for any of them.
const LOSSES_MAX = 5;

/** @returns {Losses} */
export const noLosses = () => ({ count: 0, since: 0 });

/**
 * @param {string} method @param {string} body its params as JSON
 * @param {Partial<Call>} [more]
 * @returns {Call}
 */
export const newCall = (method, body, more = {}) => ({
  ofConnection: false,
  resolve() {},
  reject() {},
  losses: noLosses(),
  ...more,
  method,
  body,
  sends: 0,
});

/** A new random id. A request that has one may be repeated. @param {string} prefix */
export function newId(prefix) {
  // Pages over plain http have no crypto.randomUUID.
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return `${prefix}_${Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}

/** The length of a text in UTF-8. Jest's jsdom has no TextEncoder. @param {string} text */
export const bytesOf = (text) => new Blob([text]).size;

export class Requests {
  // Used until `initialize` returns the server's own limits (section 2).
  limits = { max_requests: 64, max_frame_bytes: 1024 * 1024 };
  /** @type {Call[]} */
  #waiting = [];
  /** @type {Map<number, Call>} */
  #inFlight = new Map();
  #lastId = 0;
  #isOpen = false;
  #transmit;

  /** @param {(frame: string) => void} transmit */
  constructor(transmit) {
    this.#transmit = transmit;
  }

  /** Send it after the others. @param {Call} call */
  put(call) {
    this.#waiting.push(call);
    this.#flush();
  }

  /** From now on requests may be sent, these before those that wait. @param {Call[]} first */
  open(first) {
    this.#isOpen = true;
    // Stable: all but the worst stay in their order.
    this.#waiting = [...first, ...this.#waiting].sort((one, other) => +areMany(one.losses) - +areMany(other.losses));
    this.#flush();
  }

  /** Whether a request that attaches the stream waits to be sent. @param {Log} log */
  has(log) {
    return this.#waiting.some((call) => call.log === log);
  }

  /** Send these no more, neither now nor on a later connection. @param {(call: Call) => boolean} isUnwanted */
  drop(isUnwanted) {
    this.#waiting = this.#waiting.filter((call) => !isUnwanted(call));
    for (const call of this.#inFlight.values()) if (isUnwanted(call)) call.ofConnection = true;
  }

  /**
   * Handle a response. Returns the request's method if it succeeded, otherwise undefined.
   * @param {{ id: number, result?: unknown, error?: { code?: number, message?: string, data?: any } }} message
   */
  settle({ id, result, error }) {
    const call = this.#inFlight.get(id);
    if (!call) return undefined;
    this.#inFlight.delete(id);
    call.losses.count = 0;
    // A deletion that is repeated after a loss finds that the session was already deleted.
    const isDone = call.method === "session/delete" && call.sends > 1 && error?.data?.kind === "session_not_found";
    if (error && !isDone) call.reject(refusal(error));
    else call.resolve(error ? {} : result);
    this.#flush();
    return error ? undefined : call.method;
  }

  /**
   * The connection is lost: queue the requests without a response again, in their order. Those fail for which it was
   * lost again and again for so long.
   * @param {ArcherError} cause @param {number} giveUpAfterMs
   */
  takeBack(cause, giveUpAfterMs) {
    this.#isOpen = false;
    const now = performance.now();
    for (const { losses } of this.#inFlight.values()) if (losses.count++ === 0) losses.since = now;
    const isUnanswered = (/** @type {Call} */ { losses }) => areMany(losses) && now - losses.since >= giveUpAfterMs;
    const unanswered = [...this.#inFlight.values()].filter(isUnanswered);
    const isRepeatable = (/** @type {Call} */ { method, body, log }) =>
      // An update of a given version can't be repeated: if it was done, the version has changed.
      log || (REPEATABLE.has(method) && !(method === "session/update" && JSON.parse(body).version !== undefined));
    const open = [...this.#inFlight.values()].filter((call) => !call.ofConnection && !isUnanswered(call));
    this.#inFlight.clear();
    this.drop((call) => call.ofConnection);
    this.#waiting.unshift(...open.filter(isRepeatable));
    for (const call of open.filter((call) => !isRepeatable(call))) {
      const message = `the connection was lost before the response to ${call.method}`;
      const hint = "It may or may not have been done: look before you repeat it.";
      call.reject(new ArcherError({ kind: "connection_lost", message, hint }, { cause }));
    }
    for (const call of unanswered) {
      const message = `the connection was lost ${call.losses.count} times before the response to ${call.method}`;
      const hint = "The server, or a proxy before it, may close it because of this request: see their logs.";
      call.reject(new ArcherError({ kind: "connection_lost", message, hint }, { cause }));
    }
  }

  /** Reject all queued requests. @param {ArcherError} error */
  fail(error) {
    const calls = this.#waiting;
    this.#waiting = [];
    for (const call of calls) call.reject(error);
  }

  /** @param {Call} call */
  send(call) {
    const id = ++this.#lastId;
    const frame = `{"jsonrpc":"2.0","id":${id},"method":${JSON.stringify(call.method)},"params":${call.body}}`;
    const max = this.limits.max_frame_bytes;
    // UTF-8 needs at most three bytes for each UTF-16 unit of a string.
    if (frame.length * 3 > max && bytesOf(frame) > max) {
      // The server would close the connection, with everything else that uses it.
      const message = `the request is larger than the ${max} bytes that the server takes`;
      const hint = "Send less text, or send it over REST.";
      return call.reject(new ArcherError({ kind: "content_too_large", message, hint }));
    }
    call.sends++;
    if (call.log) call.log.isSent = true;
    this.#inFlight.set(id, call);
    this.#transmit(frame);
  }

  #flush() {
    while (this.#isOpen) {
      const isFull = this.#inFlight.size >= this.limits.max_requests;
      const hasSuspect = [...this.#inFlight.values()].some(isSuspect);
      const isNext = (/** @type {Call} */ call) =>
        (!isFull || CONTROL.has(call.method)) && !(hasSuspect && isSuspect(call));
      const index = this.#waiting.findIndex(isNext);
      if (index < 0) return;
      this.send(/** @type {Call} */ (this.#waiting.splice(index, 1)[0]));
    }
  }
}

/** Whether the connection may be closed for this request. @param {Call} call */
const isSuspect = ({ losses }) => losses.count >= LOSSES_OF_A_SUSPECT;

/** Whether the request very likely is the reason. @param {Losses} losses */
const areMany = ({ count }) => count >= LOSSES_MAX;
