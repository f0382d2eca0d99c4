// What is remembered of an answer's events, for the developers: when each came, its place in the log, how much it brought.

/**
 * An event of the log, in brief, or what became of its following: `cut`, behind `seq`, and `resumed`, the events from
 * `from` to `seq` come. `chars`: how much text it brought; `what`: which text, or what a person would look for.
 * @typedef {{ atMs: number, method: string, seq: number, from: number, chars: number, what: string }} Moment
 */

const MOMENTS_MAX = 20_000;

/** Pieces of text beyond the bound are added to the last; all else is kept. @param {Moment[]} moments @param {Moment} moment */
export function note(moments, moment) {
  const last = moments.at(-1);
  const isMore = last?.method === "stream/delta" && moment.method === last.method && moment.what === last.what;
  if (moments.length < MOMENTS_MAX || !isMore) moments.push(moment);
  else Object.assign(last, { seq: moment.seq, chars: last.chars + moment.chars });
}

/** @param {import("../../archer-client.d.ts").StreamEvent} event @returns {Moment} */
export function momentOf({ method, params }) {
  const { seq = 0, from = seq } = /** @type {{ seq?: number, from?: number }} */ (params);
  const chars = method === "stream/delta" ? textOf(params).length : 0;
  return { atMs: performance.now(), method, seq, from, chars, what: brief(method, params) };
}

/** What a `stream/delta` brings, whatever it is of. @param {any} params @returns {string} */
export function textOf({ content, reasoning, arguments: given }) {
  return content ?? reasoning ?? given ?? "";
}

/** @param {string} method @param {any} params */
function brief(method, params) {
  if (method === "stream/delta") {
    if (params.call_id) return "arguments";
    return params.reset ? "reset" : params.reasoning ? "reasoning" : "content";
  }
  const { phase, detail, name, call_id, state, status, provider, model } = params;
  const told = { "stream/started": [provider, model], "stream/progress": [phase, detail] }[method];
  return (told ?? [name, call_id, state ?? status]).filter(Boolean).join(" ");
}
