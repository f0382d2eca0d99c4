// The HTTP requests for the socket: fetching a ticket, finding out why a browser's handshake failed, and whether the
// server is there again.

import { ArcherError, unreachable } from "./archer-errors.js";

// Firefox holds sockets back after failed ones: after a few minutes each for up to a minute, in all tabs, even if the
// server is there again. Requests over HTTP it does not hold back.
export const HOLDS_SOCKETS_BACK = /\bFirefox\//.test(globalThis.navigator?.userAgent ?? "");

// A page from a file has the origin "file://" or "null", and one in a sandbox "null".
const NAMEABLE = /:\/\/./;

// How long the server may take to tell that it is there.
const THERE_LIMIT_MS = 10_000;

/**
 * A ticket for one handshake (section 2).
 * @param {string | (() => Promise<string>)} source the program's function, or the URL of an endpoint of its backend
 * @returns {Promise<string>}
 * @throws {ArcherError} `retryable` says whether another try may succeed
 */
export async function fetchTicket(source) {
  try {
    const ticket = typeof source === "function" ? await source() : await postForTicket(source);
    if (typeof ticket === "string" && /^[\w-]+$/.test(ticket)) return ticket;
  } catch (error) {
    if (error instanceof ArcherError) throw error;
    const message = `no ticket could be fetched: ${error instanceof Error ? error.message : error}`;
    throw unreachable(message, "Check the function or the endpoint that `ticket` names.", error);
  }
  const hint = "It must return the `ticket` of the response of POST /api/v1/ws/tickets.";
  throw new ArcherError({ kind: "unauthenticated", message: "`ticket` returned something that is not a ticket", hint });
}

/** @param {string} url */
async function postForTicket(url) {
  const response = await fetch(url, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ origin: globalThis.location?.origin }),
  });
  if (response.ok) return (await response.json()).ticket;
  const isPassing = response.status >= 500 || response.status === 408 || response.status === 429;
  throw new ArcherError({
    kind: "unauthenticated",
    message: `${url} returned no ticket (${response.status})`,
    hint: "Is the user still signed in there?",
    retryable: isPassing,
  });
}

/**
 * The error to stop with if the server is running but forbids this page's origin; otherwise undefined.
 * A page can't read the response of a server that forbids its origin, but it can tell it from no response at all.
 * @param {URL} url
 */
export async function findRefusal(url) {
  const origin = globalThis.location?.origin;
  if (!origin || typeof fetch !== "function") return undefined;
  if (!(await isThere(url)) || (await readable(new URL("api/v1/ws", url), "cors"))) return undefined;
  if (!(await isThere(url))) return undefined; // The server stopped in between.
  return new ArcherError({
    kind: "forbidden",
    message: `${url.href} does not let pages of ${origin} use it`,
    hint: NAMEABLE.test(origin)
      ? `Add ${origin} to the server's setting CORS_ORIGINS, and ${url.hostname} to ALLOWED_HOSTS if it is not there.`
      : "Serve the page over http: one from a file, or in a sandbox, has no origin that a setting of the server can name.",
  });
}

/** Whether the server responds; not if the page's policy lets it reach the socket only. @param {URL} url */
export const isThere = (url) => readable(new URL("health/live", url), "no-cors");

/** @param {URL} url @param {RequestMode} mode */
async function readable(url, mode) {
  try {
    // Each that goes on would keep one of the browser's few connections to the server.
    const signal = AbortSignal.timeout(THERE_LIMIT_MS);
    await fetch(url, { mode, cache: "no-store", credentials: "omit", signal });
    return true;
  } catch {
    return false;
  }
}
