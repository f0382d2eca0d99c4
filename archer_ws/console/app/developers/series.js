// Figures of answers, to be plotted: how fast text came, how long the first took, and how long between pieces.

/**
 * `cut`: whether the connection was lost meanwhile.
 * @typedef {import("../state/completion.js").Completion} Completion
 * @typedef {{ ms: number, cut: boolean }} Gap
 */

/**
 * Pieces a second, by equal parts of the time until now; the first is the oldest.
 * @param {Completion[]} completions @param {number} nowMs @param {{ bins: number, binMs: number }} how
 */
export function rates(completions, nowMs, { bins, binMs }) {
  /** @type {number[]} */
  const counts = new Array(bins).fill(0);
  // Whole parts: none changes its height while it moves on.
  const endMs = Math.ceil(nowMs / binMs) * binMs;
  const beginMs = endMs - bins * binMs;
  for (const { moments } of completions) {
    for (let index = moments.length - 1; index >= 0 && moments[index].atMs >= beginMs; index--) {
      const { method, chars, seq, from, atMs } = moments[index];
      if (method !== "stream/delta" || chars === 0) continue;
      counts[Math.min(bins - 1, Math.floor((atMs - beginMs) / binMs))] += seq - from + 1;
    }
  }
  return counts.map((count) => (count * 1000) / binMs);
}

/** How long the first text of each took, in the order in which they were asked for. @param {Completion[]} completions */
export function firsts(completions) {
  return completions
    .map(({ times: { askedMs, firstMs } }) => ({ askedMs: askedMs ?? 0, ms: askedMs && firstMs ? firstMs - askedMs : 0 }))
    .filter(({ ms }) => ms > 0)
    .sort((one, other) => one.askedMs - other.askedMs)
    .map(({ ms }) => ms);
}

/** Between pieces of text that follow each other; what a tool took in between is none. @param {Completion} completion @param {number} most */
export function gaps({ moments }, most) {
  /** @type {Gap[]} */
  const found = [];
  let laterMs = 0;
  let cut = false;
  for (let index = moments.length - 1; index >= 0 && found.length < most; index--) {
    const { method, atMs, chars } = moments[index];
    if (method === "cut" || method === "resumed") cut = true;
    else if (method === "stream/delta" && chars > 0) {
      if (laterMs > 0) found.push({ ms: laterMs - atMs, cut });
      laterMs = atMs;
      cut = false;
    } else laterMs = 0;
  }
  return found.reverse();
}

/** @param {number[]} values @param {number} share 0 to 1 */
export function quantile(values, share) {
  const sorted = [...values].sort((one, other) => one - other);
  return sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)] ?? 0;
}
