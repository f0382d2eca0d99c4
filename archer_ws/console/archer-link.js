// The connection to the server: opens it, and reopens it after a loss.
//
// One socket carries everything. After a loss, every stream that the server has accepted is attached again after its
// last event; then the requests without a response are sent again, in their order. One for which the connection is lost
// again and again fails. Requests are queued in archer-requests.js, a stream's events are handled in archer-stream.js,
// and archer-client.js decides which clients share a connection.

import { ArcherError, closeError, closed, forbiddenByPage, notArcher, notify, unreachable } from "./archer-errors.js";
import { HOLDS_SOCKETS_BACK, fetchTicket, findRefusal, isThere } from "./archer-http.js";
import { Requests, newCall, noLosses } from "./archer-requests.js";
import { localEnd } from "./archer-stream.js";
import { SessionWatches } from "./archer-watch.js";

/**
 * @typedef {import("./archer-client.d.ts").State} State
 * @typedef {import("./archer-stream.js").Log} Log
 * @typedef {{ url: URL, socketUrl: string, token?: string, ticket?: string | (() => Promise<string>),
 *   client: { name: string, version: string }, coalesceMs?: number, giveUpAfterMs: number,
 *   backoff: { firstMs: number, maxMs: number }, WebSocket: typeof WebSocket }} LinkOptions
 */

const SUBPROTOCOL = "archer.v1";
// How long ticket, handshake and `initialize` may take together.
const OPEN_LIMIT_MS = 10_000;
// The `readyState` of a socket that is neither open nor closed.
const CONNECTING = 0;
// How long a connection in doubt may stay silent.
const PING_LIMIT_MS = 5_000;
// Silence is counted in half heartbeats, not read off a clock: after a sleep, or in a tab whose timers are held back,
// a clock would call a connection dead whose messages only wait to be read.
const SILENT_TICKS_MAX = 5;

export class Link {
  /** @type {State} */
  state = "connecting";
  /** Why there is no connection. @type {ArcherError | undefined} */
  error;
  /** When the next attempt begins, as Date.now() counts; undefined if none is scheduled. @type {number | undefined} */
  retryAt;
  /** Called after each change of state. */
  onState = () => {};
  /** Called for each notification. @type {(message: import("./archer-client.d.ts").AnyNotification) => void} */
  onNotification = () => {};
  watches = new SessionWatches(this);
  #options;
  #requests = new Requests((frame) => this.#socket?.send(frame));
  /** @type {Map<string, Log>} */
  #logs = new Map();
  /** @type {WebSocket | undefined} */
  #socket;
  // Incremented by each attempt and each loss, so that callbacks of an older attempt can be ignored.
  #attempt = 0;
  #isDialling = false;
  #isReady = false;
  #wasOpen = false;
  /** Why the last handshake failed, if that is known. @type {ArcherError | undefined} */
  #reason;
  // Whether the last attempt failed, and whether another one is made only if the server responds over HTTP.
  #isAway = false;
  #knocks = false;
  // As performance.now() counts: a wall clock that is set forward must not end the attempts.
  #downSince = performance.now();
  #ceilingMs;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #ticker;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #doubt;
  #silentTicks = 0;

  /** @param {LinkOptions} options */
  constructor(options) {
    this.#options = options;
    this.#ceilingMs = options.backoff.firstMs;
    for (const [target, type, listener] of this.#signs) target?.addEventListener?.(type, listener);
    // Not synchronously, so that the caller can add its listeners first.
    queueMicrotask(() => this.state === "closed" || this.#dial());
  }

  /** @param {string} streamId */
  logOf(streamId) {
    return this.#logs.get(streamId);
  }

  /** Deliver a stream's events to it until its end, over as many connections as it takes. @param {Log} log */
  open(log) {
    if (this.state === "closed") return log.fail(this.#whyClosed(), "lost");
    this.#logs.set(log.streamId, log);
    this.#requests.put(this.#attaching(log));
  }

  /** Stop receiving a stream's events; it runs on at the server. @param {Log} log */
  leave(log) {
    this.#forget(log);
    const body = JSON.stringify({ stream_id: log.streamId });
    if (this.#isReady && log.isSent) this.#requests.put(newCall("stream/unsubscribe", body, { ofConnection: true }));
  }

  /** @param {Log} log @returns {Promise<import("./archer.js").CancelResult>} */
  async cancel(log) {
    if (log.end) return { outcome: "already_ended", ...(log.end.status !== "lost" && { status: log.end.status }) };
    if (!log.isSent && log.request !== undefined) return this.#neverBegins(log);
    const told = await this.call("stream/cancel", JSON.stringify({ stream_id: log.streamId }));
    // The request waits to be repeated; if it waits for long, the server no longer knows then that it was cancelled.
    const isUnknown = told.outcome === "not_found" && !log.mayExist && this.#requests.has(log);
    return isUnknown ? this.#neverBegins(log) : told;
  }

  /** Don't request the stream that was cancelled. @param {Log} log @returns {import("./archer.js").CancelResult} */
  #neverBegins(log) {
    this.#forget(log);
    log.finish(localEnd(log, "cancelled"));
    return { outcome: "cancelling", status: "cancelled" };
  }

  /**
   * @param {string} method @param {string} body its params as JSON @param {AbortSignal} [signal]
   * @returns {Promise<any>}
   */
  call(method, body, signal) {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      if (this.state === "closed") return reject(this.#whyClosed());
      const abort = () => {
        this.#requests.drop((each) => each === call);
        reject(signal?.reason);
      };
      const over = () => signal?.removeEventListener("abort", abort);
      const call = newCall(method, body, {
        resolve: (result) => (over(), resolve(result)),
        reject: (error) => (over(), reject(error)),
      });
      signal?.addEventListener("abort", abort);
      this.#requests.put(call);
    });
  }

  /**
   * Send a request that is not repeated on the next connection: the caller asks again there. Without a connection
   * nothing is sent. `losses`: the connections that were lost for it so far.
   * @param {string} method @param {object} params
   * @param {(result: any) => void} [resolve] @param {(error: ArcherError) => void} [reject]
   * @param {import("./archer-requests.js").Losses} [losses]
   */
  ask(method, params, resolve = () => {}, reject = () => {}, losses = noLosses()) {
    if (!this.#isReady) return;
    this.#requests.put(newCall(method, JSON.stringify(params), { ofConnection: true, resolve, reject, losses }));
  }

  /** Close for good. @param {ArcherError} [error] why */
  close(error = closed("the client is closed")) {
    if (this.state === "closed") return;
    this.#hangUp(error);
    for (const [target, type, listener] of this.#signs) target?.removeEventListener?.(type, listener);
    this.error = error;
    const logs = [...this.#logs.values()];
    this.#logs.clear();
    this.#setState("closed");
    for (const log of logs) log.fail(error, "lost");
    this.#requests.fail(error);
  }

  /** The connection may be dead, or a new one may succeed now: send a ping or dial at once. */
  #check = () => {
    if (this.#isReady) {
      if (this.#doubt !== undefined) return;
      this.#expectSoon();
      this.#requests.put(newCall("ping", "{}", { ofConnection: true, resolve: () => this.#trust() }));
    } else if (!this.#isDialling) {
      this.#downSince = performance.now(); // While the device was asleep or offline, there were no attempts.
      this.#dial();
    }
  };

  #offline = () => {
    if (this.#isReady) this.#check();
    else if (!this.#isDialling) this.#wait(0);
  };

  #shown = () => {
    if (document.visibilityState === "visible") this.#check();
  };

  /** Chromium reports a socket that the page's Content-Security-Policy forbids as a lost connection as well. */
  #violated = (/** @type {Event} */ event) => {
    const { blockedURI, disposition, effectiveDirective } = /** @type {SecurityPolicyViolationEvent} */ (event);
    if (disposition === "report" || effectiveDirective !== "connect-src" || this.#isReady) return;
    if (this.#options.socketUrl.startsWith(blockedURI)) this.close(forbiddenByPage(this.#options.url));
  };

  /** @type {[target: EventTarget | undefined, type: string, listener: (event: Event) => void][]} */
  #signs = [
    [globalThis, "securitypolicyviolation", this.#violated],
    [globalThis, "online", this.#check],
    [globalThis, "offline", this.#offline],
    [globalThis, "pageshow", this.#check],
    [globalThis.document, "visibilitychange", this.#shown],
  ];

  async #dial() {
    const attempt = ++this.#attempt;
    const { ticket, socketUrl, url, WebSocket } = this.#options;
    this.#isDialling = true;
    this.retryAt = undefined;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#fail(unreachable(`${url} sent no response in time`)), OPEN_LIMIT_MS);
    this.#setState("connecting");
    const protocols = [SUBPROTOCOL];
    try {
      if (this.#knocks && this.#isAway && !(await isThere(url))) throw unreachable(`${url} can't be reached`);
      if (ticket !== undefined) protocols.push(`archer.ticket.${await fetchTicket(ticket)}`);
    } catch (error) {
      if (attempt === this.#attempt) this.#lose(/** @type {ArcherError} */ (error));
      return;
    }
    if (attempt !== this.#attempt) return;
    try {
      this.#listen(new WebSocket(socketUrl, protocols));
    } catch (cause) {
      this.close(forbiddenByPage(url, cause));
    }
  }

  /** @param {WebSocket} socket */
  #listen(socket) {
    this.#socket = socket;
    socket.onopen = () => {
      if (socket.protocol !== SUBPROTOCOL) return this.close(notArcher(this.#options.url, "does not speak archer.v1"));
      this.#wasOpen = true;
      const { client, token, coalesceMs } = this.#options;
      const body = JSON.stringify({ protocol_version: 1, client, token, coalesce_ms: coalesceMs });
      const reject = (/** @type {ArcherError} */ error) => this.#lose(error);
      this.#requests.send(newCall("initialize", body, { ofConnection: true, resolve: this.#initialized, reject }));
    };
    socket.onmessage = ({ data }) => this.#receive(data);
    socket.onclose = ({ code, reason }) => {
      const error = closeError(this.#options.url, code, reason);
      code === 1006 ? this.#fail(error) : this.#lose(error);
    };
    // A close event follows, except to a failed handshake in Node 22. Without a listener, Node's ws throws the error.
    socket.onerror = () => {
      if (socket === this.#socket && socket.readyState === CONNECTING) this.#lose(closeError(this.#options.url, 1006, ""));
    };
  }

  /** A browser does not tell why a handshake failed: ask over HTTP. @param {ArcherError} error */
  async #fail(error) {
    if (this.#wasOpen || !this.#socket) return this.#lose(error);
    this.#lose(this.#reason ?? error);
    const reason = (this.#reason = await findRefusal(this.#options.url));
    if (reason && !reason.retryable && !this.#wasOpen) this.close(reason);
  }

  #initialized = (/** @type {import("./archer.js").InitializeResult} */ result) => {
    if (!Number.isSafeInteger(result?.heartbeat_ms)) {
      return this.close(notArcher(this.#options.url, "does not respond as an Archer server does"));
    }
    clearTimeout(this.#timer);
    Object.assign(this.#requests.limits, result.limits);
    this.#isDialling = false;
    this.#isReady = true;
    this.error = undefined;
    if (HOLDS_SOCKETS_BACK) isThere(this.#options.url).then((is) => (this.#knocks ||= is));
    this.#watch(result.heartbeat_ms / 2);
    // A stream that the server has not accepted has its place among the requests that wait.
    const detached = [...this.#logs.values()].filter((log) => !this.#requests.has(log));
    this.#requests.open(detached.map((log) => this.#attaching(log)));
    this.watches.opened();
    this.#setState("open");
  };

  /** @param {number} tickMs */
  #watch(tickMs) {
    this.#silentTicks = 0;
    let tickedAt = Date.now();
    this.#ticker = setInterval(() => {
      const sinceMs = Date.now() - tickedAt;
      tickedAt = Date.now();
      if (sinceMs > 2 * tickMs + 1000) this.#check();
      else if (++this.#silentTicks > SILENT_TICKS_MAX) this.#lose(unreachable(`${this.#options.url} has gone silent`));
    }, tickMs);
  }

  #expectSoon() {
    clearTimeout(this.#doubt);
    this.#doubt = setTimeout(() => this.#lose(unreachable(`${this.#options.url} has gone silent`), 0), PING_LIMIT_MS);
  }

  #trust() {
    clearTimeout(this.#doubt);
    this.#doubt = undefined;
  }

  /** @param {string} data */
  #receive(data) {
    this.#silentTicks = 0;
    // This message may have been received before the doubt began. Only the response to the ping ends it.
    if (this.#doubt !== undefined) this.#expectSoon();
    let message;
    try {
      message = JSON.parse(data);
    } catch {
      // Reported below: the message has no id.
    }
    if (typeof message?.method === "string") this.#notified({ method: message.method, params: message.params ?? {} });
    else if (message?.id === undefined) this.close(notArcher(this.#options.url, "sends messages that are not JSON-RPC"));
    else if ((this.#requests.settle(message) ?? "initialize") !== "initialize") {
      this.#ceilingMs = this.#options.backoff.firstMs;
    }
  }

  /** @param {import("./archer-client.d.ts").AnyNotification} message */
  #notified(message) {
    // A notification with a stream_id is an event of that stream.
    const event = /** @type {import("./archer-client.d.ts").StreamEvent} */ (message);
    const log = this.#logs.get(event.params.stream_id);
    const taken = log?.take(event);
    if (log && taken === "gap") this.#requests.put(this.#attaching(log));
    else if (log && taken === "over") this.#forget(log);
    if (message.method === "session/changed") this.watches.notified(message.params);
    this.onNotification(message);
  }

  /** @param {Log} log */
  #attaching(log) {
    const { method, body } = log.attaching();
    const attempt = this.#attempt;
    return newCall(method, body, {
      log,
      ofConnection: log.mayExist,
      ...(log.mayExist && { losses: log.losses }),
      resolve: (result) => log.attached(result),
      reject: (error) => {
        if (this.#logs.get(log.streamId) !== log) return;
        // Only the server knows whether there is such a stream: on the next connection it is asked.
        if (error.kind === "connection_lost" && log.unanswered(error)) return;
        if (error.kind === "draining") log.isSent = log.mayExist; // The server closes the socket soon: send again on the next one.
        else if (!log.mayExist || !error.retryable) {
          this.#forget(log);
          log.fail(error, log.mayExist ? "lost" : "failed");
        } else {
          const isCurrent = () => attempt === this.#attempt && this.#logs.get(log.streamId) === log;
          const again = () => isCurrent() && this.#requests.put(this.#attaching(log));
          setTimeout(again, error.retryAfterMs ?? 1000);
        }
      },
    });
  }

  /** @param {Log} log */
  #forget(log) {
    if (this.#logs.get(log.streamId) === log) this.#logs.delete(log.streamId);
    this.#requests.drop((call) => call.log === log);
  }

  /** The connection is gone, or did not come about; mend it. @param {ArcherError} error @param {number} [pauseMs] */
  #lose(error, pauseMs) {
    if (this.state === "closed") return;
    if (!error.retryable) return this.close(error);
    if (this.#isReady) this.#downSince = performance.now();
    this.#isAway = !this.#isReady;
    this.#hangUp(error);
    this.error = error;
    if (performance.now() - this.#downSince >= this.#options.giveUpAfterMs) this.#giveUp(error);
    this.#wait(pauseMs);
  }

  /** @param {number} [pauseMs] by default full jitter (section 11) */
  #wait(pauseMs) {
    clearTimeout(this.#timer);
    this.retryAt = undefined;
    if (this.#isOffline()) return this.#setState("offline");
    const delayMs = pauseMs ?? Math.random() * this.#ceilingMs;
    this.retryAt = Date.now() + delayMs;
    this.#setState("connecting");
    this.#timer = setTimeout(() => this.#dial(), delayMs);
    if (pauseMs === undefined) this.#ceilingMs = Math.min(2 * this.#ceilingMs, this.#options.backoff.maxMs);
  }

  // A server on this machine can be reached without a network.
  #isOffline() {
    const isLocal = /^(localhost|.*\.localhost|127(\.\d+){3}|\[::1\])$/.test(this.#options.url.hostname);
    return !isLocal && globalThis.navigator?.onLine === false;
  }

  /** Release the socket, and queue the requests without a response again. @param {ArcherError} error */
  #hangUp(error) {
    this.#attempt++;
    this.#isDialling = this.#isReady = false;
    this.retryAt = undefined;
    clearTimeout(this.#timer);
    clearInterval(this.#ticker);
    this.#trust();
    const socket = this.#socket;
    this.#socket = undefined;
    if (socket) {
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.close();
    }
    for (const log of this.#logs.values()) log.detached();
    this.#requests.takeBack(error, this.#options.giveUpAfterMs);
  }

  /** There was no connection for too long: fail what the server has not accepted. Accepted streams go on waiting. */
  #giveUp(/** @type {ArcherError} */ error) {
    for (const log of [...this.#logs.values()].filter((each) => !each.isAccepted)) {
      this.#forget(log);
      log.fail(error, log.isSent ? "lost" : "failed");
    }
    this.#requests.fail(error);
  }

  #whyClosed() {
    return this.error ?? closed("the client is closed");
  }

  /** @param {State} state */
  #setState(state) {
    if (this.state === state) return;
    this.state = state;
    notify(this.onState);
  }
}
