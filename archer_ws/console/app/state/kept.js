// Signals whose values survive a reload, in sessionStorage or localStorage. An unreadable value counts as missing.

import { effect, signal } from "../vendor/signals.js";

/** By name, as a browser that forbids storage throws where it is only mentioned. @typedef {"sessionStorage" | "localStorage"} StorageName */

/**
 * @template T
 * @param {StorageName} storage @param {string} key @param {T} initial
 * @returns {import("../vendor/signals.js").Signal<T>}
 */
export function kept(storage, key, initial) {
  const made = signal(parsed(readText(storage, key), initial));
  effect(() => writeText(storage, key, made.value === "" ? "" : JSON.stringify(made.value)));
  return made;
}

/**
 * One that all tabs of this browser share: what another tab changes is changed here, too.
 * @template T
 * @param {string} key @param {T} initial
 * @returns {import("../vendor/signals.js").Signal<T>}
 */
export function shared(key, initial) {
  const made = kept("localStorage", key, initial);
  addEventListener("storage", (event) => {
    if (event.key === key) made.value = parsed(event.newValue, initial);
  });
  return made;
}

/** @template T @param {string | null} text @param {T} initial @returns {T} */
function parsed(text, initial) {
  try {
    return text === null ? initial : JSON.parse(text);
  } catch {
    return initial;
  }
}

/** @param {StorageName} storage @param {string} key */
export function readText(storage, key) {
  try {
    return globalThis[storage].getItem(key);
  } catch {
    return null;
  }
}

/** An empty text is not stored. @param {StorageName} storage @param {string} key @param {string} text */
export function writeText(storage, key, text) {
  try {
    if (text === "") globalThis[storage].removeItem(key);
    else globalThis[storage].setItem(key, text);
  } catch {
    // Storage is full or forbidden: the value lasts until the page is closed.
  }
}
