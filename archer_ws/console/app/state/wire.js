// The frames of the socket, seen where the client lets a program see them: in a WebSocket of its own.
//
// Keeps the newest frames for the developers' drawer, counts what a resume replays, and can cut the connection.

const FRAMES_MAX = 2000;
// Of one entry; the rest of a longer frame is not kept.
export const FRAME_CHARS_MAX = 16_384;
// How the server writes the frames that may come a thousand times a second. Others take places of their own.
const TEXT = /^\{"jsonrpc":"2\.0","method":"stream\/delta","params":\{"stream_id":"([^"]+)"/;

/**
 * A frame, or the pieces of one stream's text that came with nothing but text between them: a line for each of `count`.
 * `text`: its beginning where it is long; `chars`: how long it is; `streamId`: whose text it is; times as
 * performance.now() counts.
 * @typedef {{ n: number, at: number, lastAt: number, isOut: boolean, text: string, chars: number, count: number,
 *   streamId?: string }} Frame
 * @typedef {{ streamId: string, after: number, headSeq: number }} Replay
 */

/** The newest last. @type {Frame[]} */
export const frames = [];
/** Told of each frame that comes or goes. @type {Set<() => void>} */
export const frameListeners = new Set();
/** Told of each stream that is taken up again: the events behind `after` up to `headSeq` come once more, or late. */
export const replayListeners = /** @type {Set<(replay: Replay) => void>} */ (new Set());

/** The entries that further text is added to, by their streams. @type {Map<string, Frame>} */
const gathering = new Map();
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
      if (asked.size > 0 && /^\{"jsonrpc":"2.0","id":/.test(data)) responded(data);
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
function responded(data) {
  const { id, result } = JSON.parse(data);
  const params = asked.get(id);
  asked.delete(id);
  if (!params || !result) return;
  const replay = { streamId: params.stream_id, after: params.after ?? 0, headSeq: result.head_seq };
  for (const listener of replayListeners) listener(replay);
}

/** Add no more text to what is there. */
export function seal() {
  gathering.clear();
}

export function forgetFrames() {
  frames.length = 0;
  seal();
}

/** @param {string} data @param {boolean} isOut */
function record(data, isOut) {
  const at = performance.now();
  const streamId = isOut ? undefined : TEXT.exec(data)?.[1];
  const open = streamId === undefined ? undefined : gathering.get(streamId);
  if (streamId === undefined) seal();
  if (open && count - open.n < FRAMES_MAX && open.chars + data.length < FRAME_CHARS_MAX) {
    open.text += `\n${data}`;
    open.chars += data.length;
    open.count++;
    open.lastAt = at;
  } else {
    const kept = data.length > FRAME_CHARS_MAX ? data.slice(0, FRAME_CHARS_MAX) : data;
    const text = isOut ? withoutToken(kept) : kept;
    const frame = { n: ++count, at, lastAt: at, isOut, text, chars: data.length, count: 1, streamId };
    frames.push(frame);
    if (frames.length > FRAMES_MAX) frames.shift();
    if (streamId !== undefined) gathering.set(streamId, frame);
  }
  for (const listener of frameListeners) listener();
}

/** A ticket or token in a frame is shown to nobody. @param {string} text */
function withoutToken(text) {
  return text.replace(/("(?:token|ticket)":\s*")[^"]+/g, "$1…");
}
