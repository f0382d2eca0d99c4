// The log of a stream for people: consecutive text of one kind is one entry, every other event an entry of its own.

/**
 * `pieces` and `chars`: of its text; `lastMs`: when its last piece arrived.
 * @typedef {import("../state/moments.js").Moment} Moment
 * @typedef {{ kind: string, what: string, from: number, seq: number, atMs: number, lastMs: number, pieces: number,
 *   chars: number }} Entry
 */

/** @param {Moment[]} moments @returns {Entry[]} */
export function entriesOf(moments) {
  /** @type {Entry[]} */
  const entries = [];
  for (const { method, what, from, seq, atMs, chars } of moments) {
    const last = entries.at(-1);
    const pieces = method === "stream/delta" ? seq - from + 1 : 0;
    if (pieces > 0 && last?.kind === method && last.what === what && what !== "reset") {
      last.seq = seq;
      last.lastMs = atMs;
      last.pieces += pieces;
      last.chars += chars;
    } else entries.push({ kind: method, what, from, seq, atMs, lastMs: atMs, pieces, chars });
  }
  return entries;
}
