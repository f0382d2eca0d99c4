// The client's error class, and the errors that the socket's close codes stand for (protocol section 11).

/** @typedef {import("./archer.js").ErrorInfo} ErrorInfo */

/** An error that the server sent (its `kind` is the protocol's), or one of this client; see archer-client.d.ts. */
export class ArcherError extends Error {
  /**
   * @param {Partial<ErrorInfo> & { message: string }} info
   * @param {{ code?: number, cause?: unknown }} [more] `code`: the close code, or JSON-RPC's.
   */
  constructor(info, { code, cause } = {}) {
    super(info.message, cause === undefined ? undefined : { cause });
    this.name = "ArcherError";
    this.kind = info.kind ?? "internal_error";
    this.hint = info.hint ?? undefined;
    this.retryable = info.retryable === true;
    this.retryAfterMs = info.retry_after_ms ?? undefined;
    this.requestId = info.request_id || undefined;
    this.streamId = info.stream_id ?? undefined;
    this.provider = info.provider ?? undefined;
    this.errors = info.errors ?? undefined;
    this.code = code;
    /** The same in the protocol's form. @type {ErrorInfo} */
    this.info = { ...info, kind: this.kind, retryable: this.retryable, request_id: info.request_id ?? "" };
  }
}

/**
 * The error of a JSON-RPC response; an older or newer server may leave out its data.
 * @param {{ code?: number, message?: string, data?: Partial<ErrorInfo> }} error
 */
export function refusal({ code, message = "the server refused the request", data }) {
  return new ArcherError({ message, ...data }, { code });
}

/** @param {string} message @param {string} [hint] @param {unknown} [cause] */
export const unreachable = (message, hint = "Is the server running? See its log.", cause = undefined) =>
  new ArcherError({ kind: "unreachable", message, hint, retryable: true }, { cause });

/** @param {string} message */
export const closed = (message) =>
  new ArcherError({ kind: "closed", message, hint: "Call connect() again; resume(streamId) reads on where it was." });

/** @param {URL} url @param {string} what */
export const notArcher = (url, what) =>
  new ArcherError({
    kind: "not_archer",
    message: `${url} ${what}`,
    hint: "Is another program listening there, or is a path missing in the URL?",
  });

/**
 * The browser lets this page open no socket.
 * @param {URL} url @param {unknown} [cause] what it threw; WebKit throws for a Content-Security-Policy, too
 */
export function forbiddenByPage(url, cause) {
  const { origin, protocol } = url;
  const policy = `The page's Content-Security-Policy needs ${origin} and ${origin.replace(/^http/, "ws")} in its connect-src.`;
  const isMixed = cause !== undefined && protocol === "http:" && globalThis.location?.protocol === "https:";
  const hint = isMixed ? `A page served over https can use wss:// only, that is an https:// URL. ${policy}` : policy;
  return new ArcherError({ kind: "forbidden", message: `the page may not open a socket to ${url}`, hint }, { cause });
}

const TOKEN_HINT = "Pass the server's token (its setting AUTH_TOKEN), or a ticket made with it.";
/** @type {Record<number, [kind: string, meaning: string, hint?: string]>} */
const FINAL_CLOSES = {
  1009: ["content_too_large", "a message was larger than the server takes", "Send less text, or send it over REST."],
  4500: ["unauthenticated", "no credential came in time", TOKEN_HINT],
  4501: ["unauthenticated", "the credential is not one this server knows, or was made for another origin", TOKEN_HINT],
  4504: ["protocol_violation", "it got a frame that is not JSON-RPC", "Is it an Archer server of this version?"],
  4505: ["overloaded", "there are too many connections", "Close some first."],
};
// Deno has 0 where others have 1006: the connection is lost, or none came about.
const PASSING_CLOSES = new Set([0, 1001, 1005, 1006, 1011, 1012, 1013]);

/**
 * The error for a close code; `retryable` says whether to connect again.
 * @param {URL} url @param {number} code @param {string} reason
 */
export function closeError(url, code, reason) {
  if (PASSING_CLOSES.has(code) || (code >= 4000 && code <= 4499)) {
    const error = unreachable(`the connection to ${url} broke off (${code}${reason && ` ${reason}`})`);
    error.code = code;
    return error;
  }
  const [kind, meaning, hint] = FINAL_CLOSES[code] ?? ["closed", reason || "no reason given"];
  const message = `${url} closed the connection for good: ${meaning} (${code})`;
  return new ArcherError({ kind, message, hint }, { code });
}

// In Bun and Deno reportError ends the program.
const ENDS_WITH_REPORTS = /^(Bun|Deno)\//.test(globalThis.navigator?.userAgent ?? "");

/**
 * Call a listener of the program. If it throws, the error is reported and the client goes on.
 * @template {unknown[]} A
 * @param {((...args: A) => unknown) | undefined} listener @param {A} args
 */
export function notify(listener, ...args) {
  try {
    listener?.(...args);
  } catch (error) {
    if (typeof reportError === "function" && !ENDS_WITH_REPORTS) reportError(error);
    else console.error(error);
  }
}
