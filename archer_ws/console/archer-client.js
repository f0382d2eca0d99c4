// A client of archer.v1 for browsers and Node: many chat streams over one WebSocket, resumed after a lost connection.
//
//   import { connect } from "http://127.0.0.1:8000/console/archer-client.js";
//   const archer = connect();
//   for await (const { content = "" } of archer.send("Why is the sky blue?")) document.body.append(content);
//
// No dependency, no build step. The interface is documented in archer-client.d.ts. This file has the functions that a
// program calls, and decides which clients share a connection. archer-link.js has the connection, archer-stream.js the
// streams.

import { ArcherError, closed, notify } from "./archer-errors.js";
import { Link } from "./archer-link.js";
import { newId } from "./archer-requests.js";
import { ChatStream, Log } from "./archer-stream.js";
import { DENIED, offering } from "./archer-tools.js";
import { contentOf, hasLargeData, upload, withUploads } from "./archer-upload.js";

export { ArcherError, ChatStream };

/**
 * @typedef {import("./archer-client.d.ts").ArcherClient} Client
 * @typedef {import("./archer-client.d.ts").ConnectOptions} ConnectOptions
 * @typedef {import("./archer-client.d.ts").AnyNotification} AnyNotification
 * @typedef {import("./archer-client.d.ts").ClientEvents} ClientEvents
 * @typedef {import("./archer-client.d.ts").StreamOptions} StreamOptions
 * @typedef {import("./archer-client.d.ts").SendOptions} SendOptions
 * @typedef {{ [E in keyof ClientEvents]: Set<(...args: ClientEvents[E]) => void> }} Listeners
 */

const SOCKET_PATH = "api/v1/ws";
// Where this module is. Apart from `new URL`: a bundler takes both in one expression for the name of a file to look for.
const HERE = import.meta.url;
// How long an unused connection is kept open: React's StrictMode closes and connects again within milliseconds.
const LINGER_MS = 1000;
// The `client` of `initialize`, unless the program passes its own.
const SELF = { name: "archer-client.js", version: "1" };

/** @type {typeof import("./archer-client.d.ts").connect} */
export function connect(options = {}) {
  return new ArcherClient(options);
}

/** @implements {Client} */
export class ArcherClient {
  #shared;
  #lingerMs;
  #tools;
  #approve;
  #isClosed = false;
  #signal;
  /** @type {Set<ChatStream>} */
  #streams = new Set();
  /** What ends each watch. @type {Set<() => void>} */
  #watches = new Set();
  /** @type {Listeners} */
  #listeners = { state: new Set(), notification: new Set() };

  /** @param {ConnectOptions} options */
  constructor(options = {}) {
    this.#shared = share(options);
    this.#lingerMs = options.lingerMs ?? LINGER_MS;
    this.#tools = options.tools ?? {};
    this.#approve = options.approve;
    this.#shared.users.set(this, this.#listeners);
    clearTimeout(this.#shared.lingering);
    const { signal } = options;
    this.#signal = signal;
    if (signal?.aborted) this.close();
    else signal?.addEventListener("abort", this.#abort);
  }

  // Vue's `ref` wraps what is called an Object, and then the private fields can't be read.
  get [Symbol.toStringTag]() {
    return "ArcherClient";
  }

  get state() {
    return this.#isClosed ? "closed" : this.#shared.link.state;
  }

  get error() {
    return this.#shared.link.error;
  }

  get retryAt() {
    return this.#isClosed ? undefined : this.#shared.link.retryAt;
  }

  /** @type {Client["send"]} */
  send(request, options = {}) {
    /** @type {{ stream_id?: string | null, messages: object[] }} */
    const params = typeof request === "string" ? { messages: [{ role: "user", content: request }] } : request;
    const streamId = params.stream_id ?? newId("str");
    const asked = offering({ ...params, stream_id: streamId }, options.tools ?? this.#tools);
    const { images = [], files = [] } = options;
    if (images.length > 0 || files.length > 0 || hasLargeData(asked)) return this.#sendWithFiles(asked, options);
    return this.#follow(streamId, JSON.stringify(asked), 0, options);
  }

  /** @type {Client["upload"]} */
  upload(blob, options) {
    return upload(this.#shared.files, blob, options);
  }

  /** @type {Client["resume"]} */
  resume(streamId, { after = 0, detach = true, ...options } = {}) {
    return this.#follow(streamId, undefined, after, { detach, ...options });
  }

  /** @type {Client["approve"]} */
  async approve(streamId, callId, approved, reason) {
    const mayRunHere = [...this.#streams]
      .filter((stream) => stream.streamId === streamId)
      .map(({ tools }) => tools?.decided(callId, approved))
      .includes(true);
    const asked = { stream_id: streamId, call_id: callId, approved, ...(reason && { reason }) };
    const told = await this.call("tool/approve", asked);
    if (approved || told.outcome !== "too_late" || !mayRunHere) return told;
    // Another window's approval came first: unless a client has claimed the call by now, the denial is its result.
    return this.answer(streamId, callId, reason || DENIED, { status: "denied" });
  }

  /** @type {Client["answer"]} */
  async answer(streamId, callId, given, { status = "ok", claim } = {}) {
    const content = await contentOf(given, (blob) => this.upload(blob));
    return this.call("tool/result", { stream_id: streamId, call_id: callId, content, status, ...(claim && { claim }) });
  }

  /** @type {Client["call"]} */
  async call(/** @type {string} */ method, /** @type {[object?, { signal?: AbortSignal }?]} */ ...rest) {
    const [params, { signal } = {}] = rest;
    if (NOT_CALLS.has(method)) {
      const message = `${method} is not for call()`;
      throw new ArcherError({ kind: "invalid_params", message, hint: "Use send(), resume() or watch()." });
    }
    if (this.#isClosed) throw closed("the client is closed");
    // With an id that is made here, repeating the request is harmless.
    const ids = method === "session/create" ? { session_id: newId("ses") } : {};
    return this.#shared.link.call(method, JSON.stringify({ ...ids, ...params }), signal);
  }

  /** @type {Client["on"]} */
  on(event, listener) {
    // A new wrapper for each call, so that the same function can be registered twice.
    const entry = /** @type {typeof listener} */ ((...args) => listener(...args));
    this.#listeners[event].add(entry);
    return () => void this.#listeners[event].delete(entry);
  }

  /** @type {Client["watch"]} */
  watch(listener, { sessionId, onError } = {}) {
    if (this.#isClosed) {
      if (onError) notify(onError, closed("the client is closed"));
      return () => {};
    }
    const end = this.#shared.link.watches.add((change) => listener(change), sessionId, onError);
    const stop = () => {
      this.#watches.delete(stop);
      end();
    };
    this.#watches.add(stop);
    return stop;
  }

  #abort = () => this.close();

  close() {
    if (this.#isClosed) return;
    this.#isClosed = true;
    // The signal may be the whole program's, and would keep each client in memory.
    this.#signal?.removeEventListener("abort", this.#abort);
    for (const stop of [...this.#watches]) stop();
    for (const stream of this.#streams) stream.leave(closed("the client was closed before the stream ended"));
    leave(this.#shared, this, this.#lingerMs);
    for (const listener of this.#listeners.state) notify(listener, "closed", undefined);
  }

  /** Upload the files, then send the request. @param {any} request @param {SendOptions} options */
  #sendWithFiles(request, { images = [], files = [], onUpload, ...options }) {
    const { link } = this.#shared;
    // The log's request stays empty until the uploads are done. A cancel before that sends nothing to the server.
    const log = new Log(link, request.stream_id, "", 0);
    if (this.#isClosed) log.fail(closed("the client is closed"), "lost");
    else if (link.logOf(request.stream_id)) log.fail(conflict(request.stream_id), "failed");
    const stream = this.#streamOf(log, options);
    const unwanted = new AbortController();
    stream.ended.then(() => unwanted.abort());
    const send = (/** @type {Blob} */ blob) => this.upload(blob, { signal: unwanted.signal, onProgress: onUpload });
    withUploads(request, send, images, files).then(
      (whole) => {
        log.request = JSON.stringify(whole);
        if (!unwanted.signal.aborted) link.open(log);
      },
      (error) => unwanted.signal.aborted || log.fail(asArcherError(error), "failed"),
    );
    return stream;
  }

  /**
   * @param {string} streamId @param {string | undefined} request as JSON
   * @param {number} after @param {StreamOptions} options
   */
  #follow(streamId, request, after, options) {
    const { link } = this.#shared;
    const known = this.#isClosed ? undefined : link.logOf(streamId);
    const isSame = known && (request === undefined ? known.after === after : known.request === request);
    const log = known && isSame ? known : new Log(link, streamId, request, after);
    if (this.#isClosed) log.fail(closed("the client is closed"), "lost");
    else if (known && !isSame) log.fail(conflict(streamId), "failed");
    const stream = this.#streamOf(log, options);
    // If its signal was aborted before, nobody follows it.
    if (log !== known && log.views.size > 0) link.open(log);
    return stream;
  }

  /** @param {Log} log @param {StreamOptions} options */
  #streamOf(log, options) {
    const { tools = this.#tools, approve = this.#approve } = options;
    /** @type {import("./archer-tools.js").Upload} */
    const send = (blob, signal) => this.upload(blob, { signal });
    const stream = new ChatStream(log, { ...options, tools, approve }, send);
    this.#streams.add(stream);
    stream.ended.then(() => this.#streams.delete(stream));
    return stream;
  }
}

/** @type {Set<string>} */
const NOT_CALLS = new Set(["initialize", "chat/send", "stream/subscribe", "stream/unsubscribe", "session/watch", "session/unwatch"]);

/** @param {unknown} error */
function asArcherError(error) {
  if (error instanceof ArcherError) return error;
  return new ArcherError({ kind: "invalid_params", message: `the files could not be sent: ${error}` }, { cause: error });
}

/** @param {string} streamId */
function conflict(streamId) {
  return new ArcherError({
    kind: "stream_id_conflict",
    message: `stream ${streamId} is followed here already, with another request or from another event`,
    hint: "Give each request an id of its own, or leave it out.",
    stream_id: streamId,
  });
}

/**
 * A connection and who uses it.
 * @typedef {{ link: Link, files: import("./archer-upload.js").Target, users: Map<ArcherClient, Listeners>,
 *   lingering?: ReturnType<typeof setTimeout> }} Shared
 */

/** The page's connections, one for each URL and credential. @type {Map<string, Shared>} */
const connections = new Map();
/** @type {WeakMap<object, number>} */
const identities = new WeakMap();
let identityCount = 0;

/** @param {ConnectOptions} options @returns {Shared} */
function share({ url, token, ticket, coalesceMs, giveUpAfterMs = 60_000, backoff, shared = true, ...rest }) {
  const { client = SELF } = rest;
  const WebSocket = /** @type {typeof globalThis.WebSocket} */ (rest.WebSocket ?? globalThis.WebSocket);
  if (typeof WebSocket !== "function") {
    const message = "there is no WebSocket here";
    throw new ArcherError({ kind: "not_supported", message, hint: "Pass one, such as ws's." });
  }
  const base = baseOf(url);
  const key = JSON.stringify([base, token, identityOf(ticket), coalesceMs, identityOf(WebSocket)]);
  const known = shared ? connections.get(key) : undefined;
  if (known) return known;
  const socketUrl = new URL(SOCKET_PATH, base).href.replace(/^http/, "ws");
  const times = { firstMs: 500, maxMs: 20_000, ...backoff };
  const link = new Link({
    ...{ url: base, socketUrl, token, ticket: ticket instanceof URL ? ticket.href : ticket, client, coalesceMs },
    ...{ giveUpAfterMs, backoff: times, WebSocket },
  });
  // A page without the token requests a ticket for each upload, over the socket.
  const authorize = async (/** @type {AbortSignal | undefined} */ signal) =>
    ticket === undefined ? token : (await link.call("ticket/create", "{}", signal)).ticket;
  const files = { url: new URL("api/v1/files", base), authorize, giveUpAfterMs, backoff: times };
  /** @type {Shared} */
  const made = { link, files, users: new Map() };
  link.onState = () => {
    if (link.state === "closed" && connections.get(key) === made) connections.delete(key);
    for (const { state } of [...made.users.values()]) for (const tell of state) notify(tell, link.state, link.error);
  };
  link.onNotification = (message) => {
    for (const { notification } of made.users.values()) for (const tell of notification) notify(tell, message);
  };
  if (shared) connections.set(key, made);
  return made;
}

/** @param {Shared} shared @param {ArcherClient} client @param {number} lingerMs */
function leave(shared, client, lingerMs) {
  shared.users.delete(client);
  if (shared.users.size > 0) return;
  if (lingerMs > 0) shared.lingering = setTimeout(() => shared.link.close(), lingerMs);
  else shared.link.close();
}

/** @param {unknown} value */
function identityOf(value) {
  if (typeof value !== "function") return value;
  if (!identities.has(value)) identities.set(value, ++identityCount);
  return ["function", identities.get(value)];
}

/** Where the server is: by default where this module came from. @param {string | URL | undefined} given */
function baseOf(given) {
  try {
    if (given === undefined) return checked(new URL("../", HERE));
    const text = String(given);
    if (!/^((http|ws)s?:\/\/|\/)/.test(text)) throw new TypeError("neither a whole URL nor a path");
    return checked(new URL(text, globalThis.location?.href));
  } catch (cause) {
    const message = given === undefined ? "the server's URL is missing" : `${given} is not the URL of a server`;
    throw new ArcherError({ kind: "invalid_params", message, hint: "Write it like http://127.0.0.1:8000." }, { cause });
  }
}

/** @param {URL} url */
function checked(url) {
  const base = new URL(url.href.replace(/^ws/, "http"));
  const isPlain = !base.username && !base.password && !base.search;
  if (!/^https?:$/.test(base.protocol) || !isPlain) throw new TypeError("not a server's");
  base.pathname = base.pathname.replace(/\/?(api\/v1\/ws)?\/?$/, "/");
  base.hash = "";
  return base;
}
