// A frame's method, stream and error, parsed once and only when the frame is shown.

/**
 * `method`: for a response, the method of its request; empty if unknown. `error`: the kind of the error.
 * @typedef {import("../state/wire.js").Frame} Frame
 * @typedef {{ method: string, streamId: string, isResponse: boolean, error: string, seq?: number, from?: number }} Facts
 */

const REQUESTS_MAX = 1000;

/** @type {WeakMap<Frame, Facts>} */
const known = new WeakMap();
/** Requests that have no response yet, by id. @type {Map<unknown, { method: string, streamId: string }>} */
const asked = new Map();
/** @type {WeakMap<Frame, { count: number, text: string, fits: boolean }>} */
const matches = new WeakMap();

/** Call it for all frames in order: a response does not name its method. @param {Frame} frame */
export function factsOf(frame) {
  let facts = known.get(frame);
  if (!facts) {
    facts = found(frame);
    known.set(frame, facts);
  }
  return facts;
}

/** Whether the frame contains the text, ignoring case. @param {Frame} frame @param {string} text in lower case */
export function includes(frame, text) {
  const { count } = frame;
  const last = matches.get(frame);
  if (last && last.count === count && last.text === text) return last.fits;
  const fits = frame.text.toLowerCase().includes(text);
  matches.set(frame, { count, text, fits });
  return fits;
}

/** @param {Frame} frame @returns {Facts} */
function found(frame) {
  if (frame.streamId !== undefined) {
    return { method: "stream/delta", streamId: frame.streamId, isResponse: false, error: "" };
  }
  const { id, method, params, result, error } = parsed(frame);
  const streamId = params?.stream_id ?? result?.stream_id ?? error?.data?.stream_id ?? "";
  if (method !== undefined) {
    if (frame.isOut && id !== undefined) {
      if (asked.size >= REQUESTS_MAX) asked.clear();
      asked.set(id, { method, streamId });
    }
    return { method, streamId, isResponse: false, error: "", seq: params?.seq, from: params?.from };
  }
  const request = asked.get(id);
  asked.delete(id);
  return {
    ...{ method: request?.method ?? "", streamId: streamId || (request?.streamId ?? ""), isResponse: true },
    error: error ? (error.data?.kind ?? String(error.code)) : "",
  };
}

/** A frame that was cut is not valid JSON: its fields are found by search. @param {Frame} frame @returns {any} */
function parsed({ text }) {
  try {
    return JSON.parse(text);
  } catch {
    const field = (/** @type {string} */ name) => new RegExp(`"${name}":\\s*"?([^",}]+)`).exec(text)?.[1];
    const id = field("id");
    return { id: id && Number(id), method: field("method"), params: { stream_id: field("stream_id") } };
  }
}

/**
 * The sequence numbers of the events in a frame.
 * @param {Frame} frame @returns {{ from?: number, seq?: number }}
 */
export function seqsOf(frame) {
  if (frame.streamId === undefined) return factsOf(frame);
  const first = /"(?:from|seq)":(\d+)/.exec(frame.text);
  const last = /"seq":(\d+)/.exec(frame.text.slice(frame.text.lastIndexOf("\n") + 1));
  return first && last ? { from: Number(first[1]), seq: Number(last[1]) } : {};
}
