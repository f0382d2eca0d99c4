// The server of this page: its facts, and the token that it may require.
//
// The token is stored only in sessionStorage, so it ends with the tab. The socket authenticates with a ticket instead.

import { ArcherError } from "../../archer-client.js";
import { signal } from "../vendor/signals.js";
import { readText, writeText } from "./kept.js";

/**
 * The JSON response of `GET /`; its addresses lack a path prefix of a proxy.
 * @typedef {{ name: string, version: string, needs_token: boolean }} Facts
 */

const TOKEN_KEY = "archer.token";

/** The server's base URL, including any path prefix of a proxy. */
export const base = new URL("../../../", import.meta.url);
export const clientUrl = new URL("console/archer-client.js", base).href;
export const openaiUrl = new URL("v1", base).href;
export const socketUrl = new URL("api/v1/ws", base).href.replace(/^http/, "ws");
/** @type {import("../vendor/signals.js").Signal<Facts | undefined>} */
export const facts = signal(undefined);
export const token = signal(readText("sessionStorage", TOKEN_KEY) ?? "");
/** Why the page asks for a token: there is none yet, or the server refused it. */
export const tokenWanted = signal(/** @type {"missing" | "refused" | undefined} */ (undefined));

/** Read the server's facts. Rejects if the server can't be reached. */
export async function readFacts() {
  const response = await fetch(base, { headers: { accept: "application/json" }, cache: "no-store" });
  if (!response.ok) throw await errorOf(response);
  facts.value = await response.json();
}

/** @param {string} value */
export function setToken(value) {
  token.value = value;
  writeText("sessionStorage", TOKEN_KEY, value);
}

/**
 * Request one of the server's routes, with the token if there is one. Rejects with an ArcherError.
 * @param {string} path relative to the server's root @param {RequestInit} [init]
 */
export async function request(path, init = {}) {
  const headers = new Headers(init.headers);
  if (token.value) headers.set("authorization", `Bearer ${token.value}`);
  let response;
  try {
    response = await fetch(new URL(path, base), { ...init, headers });
  } catch (cause) {
    if (init.signal?.aborted) throw cause;
    throw new ArcherError({ kind: "unreachable", message: `${base} can't be reached`, retryable: true }, { cause });
  }
  if (!response.ok) throw await errorOf(response);
  return response;
}

/** A ticket for the socket. If the server refuses the token, this rejects and the page asks for another token. */
export async function ticket() {
  try {
    const body = JSON.stringify({ origin: location.origin });
    const response = await request("api/v1/ws/tickets", {
      ...{ method: "POST", body, headers: { "content-type": "application/json" } },
    });
    return (await response.json()).ticket;
  } catch (error) {
    if (error instanceof ArcherError && error.kind === "unauthenticated") tokenWanted.value = "refused";
    throw error;
  }
}

/** @param {Response} response */
async function errorOf(response) {
  const info = await response.json().then(
    (body) => body?.error,
    () => undefined,
  );
  return new ArcherError({ message: `the server responded with ${response.status}`, ...info }, { code: response.status });
}
