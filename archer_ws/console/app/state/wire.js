// The frames of the socket, seen where the client lets a program see them: in a WebSocket of its own.
//
// Keeps the newest frames for the developers' drawer, counts what a resume replays, and can cut the connection.

const FRAMES_MAX = 2000;
// Of one frame; the rest of it is not kept.
const FRAME_CHARS_MAX = 16_384;

/**
 * `text`: its beginning where it is long; `chars`: how long it is.
 * @typedef {{ n: number, at: number, isOut: boolean, text: string, chars: number }} Frame
 * @typedef {{ streamId: string, after: number, headSeq: number }} Replay
 */

/** The newest last. @type {Frame[]} */
export const frames = [];
/** Told of each frame. @type {Set<(frame: Frame) => void>} */
export const frameListeners = new Set();
/** Told of each stream that is taken up again: the events behind `after` up to `headSeq` come once more, or late. */
export const replayListeners = /** @type {Set<(replay: Replay) => void>} */ (new Set());

let count = 0;
let downUntil = 0;
/** @type {TappedSocket | undefined} */
let current;
/** Subscriptions without an answer yet, by the ids of their requests. @type {Map<unknown, { stream_id: string, after: number }>} */
const asked = new Map();

/** What `connect` is given as its WebSocket. */
export class TappedSocket extends WebSocket {
  /** @param {string | URL} url @param {string | string[]} [protocols] */
  constructor(url, protocols) {
    super(url, protocols);
    current = this;
    asked.clear();
    if (Date.now() < downUntil) queueMicrotask(() => this.close());
    this.addEventListener("message", ({ data }) => {
      record(data, false);
      if (asked.size > 0 && /^\{"jsonrpc":"2.0","id":/.test(data)) answered(data);
    });
  }

  /** @param {any} data */
  send(data) {
    // What is sent behind the cut is lost as it is on a dead network; the client repeats it.
    if (this.readyState > WebSocket.OPEN) return;
    record(data, true);
    if (data.includes('"stream/subscribe"')) {
      const { id, method, params } = JSON.parse(data);
      if (method === "stream/subscribe") asked.set(id, params);
    }
    super.send(data);
  }
}

/** Break the connection, and let no other come about for so long. @param {number} [downMs] */
export function cut(downMs = 0) {
  downUntil = Date.now() + downMs;
  current?.close();
}

/** @param {string} data */
function answered(data) {
  const { id, result } = JSON.parse(data);
  const params = asked.get(id);
  asked.delete(id);
  if (!params || !result) return;
  const replay = { streamId: params.stream_id, after: params.after ?? 0, headSeq: result.head_seq };
  for (const listener of replayListeners) listener(replay);
}

/** @param {string} data @param {boolean} isOut */
function record(data, isOut) {
  const text = data.length > FRAME_CHARS_MAX ? data.slice(0, FRAME_CHARS_MAX) : data;
  const frame = { n: ++count, at: performance.now(), isOut, text: withoutToken(text), chars: data.length };
  frames.push(frame);
  if (frames.length > FRAMES_MAX) frames.splice(0, frames.length - FRAMES_MAX);
  for (const listener of frameListeners) listener(frame);
}

/** A ticket or token in a frame is shown to nobody. @param {string} text */
function withoutToken(text) {
  return text.replace(/("(?:token|ticket)":\s*")[^"]+/g, "$1…");
}
