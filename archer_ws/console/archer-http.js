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
 * Why a page's handshakes fail, if the server is running and that can be found out. A page can read no response of a
 * server that forbids its origin, unless a proxy puts the server there.
 * @param {URL} url
 */
export async function findRefusal(url) {
  const origin = globalThis.location?.origin;
  if (!origin || typeof fetch !== "function" || !(await isThere(url))) return undefined;
  // By GET, browsers name no page of the same origin.
  const response = await requested(new URL("api/v1/ws", url), { method: "POST" });
  const { kind, hint } = response ? await errorIn(response) : { kind: "forbidden" };
  if (kind === "method_not_found") return unreachable(`${url} can't be reached`, hint);
  if (kind !== "forbidden" || !(await isThere(url))) return undefined; // The server stopped in between.
  const proxy = response ? " Or let the proxy pass on Host, and set X-Forwarded-Proto." : "";
  return new ArcherError({
    kind,
    message: `${url.href} does not let pages of ${origin} use it`,
    hint: NAMEABLE.test(origin)
      ? `Add ${origin} to the server's setting CORS_ORIGINS, and ${url.hostname} to ALLOWED_HOSTS if it is not there.${proxy}`
      : "Serve the page over http: one from a file, or in a sandbox, has no origin that a setting of the server can name.",
  });
}

/** @param {Response} response @returns {Promise<{ kind?: string, hint?: string }>} */
const errorIn = (response) => response.json().then(({ error }) => error ?? {}).catch(() => ({}));

/**
 * Whether the server responds, to which any page may read this response, and not only a proxy before it that can't
 * reach it; not if the page's policy lets it reach the socket only.
 * @param {URL} url
 */
export const isThere = async (url) => (await requested(new URL("health/live", url)))?.ok ?? false;

/** The response; undefined if there is none that the page may have. @param {URL} url @param {RequestInit} [request] */
async function requested(url, request) {
  try {
    // Each that goes on would keep one of the browser's few connections to the server.
    const signal = AbortSignal.timeout(THERE_LIMIT_MS);
    return await fetch(url, { ...request, cache: "no-store", credentials: "omit", signal });
  } catch {
    return undefined;
  }
}
