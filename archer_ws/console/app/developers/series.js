// Data for the plots: token rate, time to first token, gaps between pieces of text.

/**
 * `cut`: whether the connection was lost during the gap.
 * @typedef {import("../state/completion.js").Completion} Completion
 * @typedef {{ ms: number, cut: boolean }} Gap
 */

/**
 * Pieces per second in equal bins up to now, oldest first.
 * @param {Completion[]} completions @param {number} nowMs @param {{ bins: number, binMs: number }} how
 */
export function rates(completions, nowMs, { bins, binMs }) {
  /** @type {number[]} */
  const counts = new Array(bins).fill(0);
  // Bins start at multiples of binMs, so that a bar keeps its height while it moves.
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

/** The time to first text of each completion in ms, in the order of the requests. @param {Completion[]} completions */
export function firsts(completions) {
  return completions
    .map(({ times: { askedMs, firstMs } }) => ({ askedMs: askedMs ?? 0, ms: askedMs && firstMs ? firstMs - askedMs : 0 }))
    .filter(({ ms }) => ms > 0)
    .sort((one, other) => one.askedMs - other.askedMs)
    .map(({ ms }) => ms);
}

/** The gaps between consecutive pieces of text; gaps with another event in between, such as a tool call, don't count. @param {Completion} completion @param {number} most */
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
