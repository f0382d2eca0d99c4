// A record of a completion's events for the developers' drawer: arrival time, place in the log, amount of text.

/**
 * An event of the log in brief, or a change of the connection: `cut` after `seq`, or `resumed` with the events `from` to
 * `seq` replayed. `chars`: the length of its text; `what`: the kind of text, or a short description.
 * @typedef {{ atMs: number, method: string, seq: number, from: number, chars: number, what: string }} Moment
 */

const MOMENTS_MAX = 20_000;

/** Add a moment. Beyond MOMENTS_MAX, text of the same kind is merged into the last one. @param {Moment[]} moments @param {Moment} moment */
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

/** The text of a `stream/delta`, of whichever kind. @param {any} params @returns {string} */
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
