// Signals whose values survive a reload, in sessionStorage or localStorage. An unreadable value counts as missing.

import { effect, signal } from "../vendor/signals.js";

/**
 * @template T
 * @param {Storage} storage @param {string} key @param {T} initial
 * @returns {import("../vendor/signals.js").Signal<T>}
 */
export function kept(storage, key, initial) {
  const made = signal(read(storage, key, initial));
  effect(() => write(storage, key, made.value));
  return made;
}

/** @template T @param {Storage} storage @param {string} key @param {T} initial @returns {T} */
function read(storage, key, initial) {
  try {
    const text = storage.getItem(key);
    return text === null ? initial : JSON.parse(text);
  } catch {
    return initial;
  }
}

/** @param {Storage} storage @param {string} key @param {unknown} value */
function write(storage, key, value) {
  try {
    if (value === "") return storage.removeItem(key);
    storage.setItem(key, JSON.stringify(value));
  } catch {
    // Storage is full or forbidden: the value lasts until the page is closed.
  }
}
