// A WebSocket subclass that the client uses, so that the page sees every frame of the socket.
//
// It retains the newest frames for the developers' drawer, counts replayed events, and can cut the connection.

const FRAMES_MAX = 2000;
// Per entry; the rest of a longer frame is dropped.
export const FRAME_CHARS_MAX = 16_384;
// How the server writes text deltas, which may arrive a thousand times per second. Only these share entries.
const TEXT = /^\{"jsonrpc":"2\.0","method":"stream\/delta","params":\{"stream_id":"([^"]+)"/;

/**
 * One frame, or `count` consecutive text deltas of one stream, one per line. `text`: the frame, cut if it is long;
 * `chars`: its full length; `streamId`: the stream of the text deltas; times are performance.now().
 * @typedef {{ n: number, at: number, lastAt: number, isOut: boolean, text: string, chars: number, count: number,
 *   streamId?: string }} Frame
 * @typedef {{ streamId: string, after: number, headSeq: number }} Replay
 */

/** Newest last. @type {Frame[]} */
export const frames = [];
/** Called for each frame received or sent. @type {Set<() => void>} */
export const frameListeners = new Set();
/** Called for each resumed stream: the events after `after` up to `headSeq` are replayed. */
export const replayListeners = /** @type {Set<(replay: Replay) => void>} */ (new Set());

/** The entries that further text is added to, by stream id. @type {Map<string, Frame>} */
const gathering = new Map();
let count = 0;
let downUntil = 0;
/** @type {TappedSocket | undefined} */
let current;
/** Subscriptions that have no response yet, by request id. @type {Map<unknown, { stream_id: string, after: number }>} */
const asked = new Map();

/** The WebSocket class passed to `connect`. */
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
    // After a cut, what is sent is lost, as on a dead network. The client sends it again.
    if (this.readyState > WebSocket.OPEN) return;
    record(data, true);
    if (data.includes('"stream/subscribe"')) {
      const { id, method, params } = JSON.parse(data);
      if (method === "stream/subscribe") asked.set(id, params);
    }
    super.send(data);
  }
}

/** Close the connection, and allow no new one for `downMs`. @param {number} [downMs] */
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

/** Add no more text to existing entries. */
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
    // A slice alone would keep the whole frame in memory.
    const kept = data.length > FRAME_CHARS_MAX ? structuredClone(data.slice(0, FRAME_CHARS_MAX)) : data;
    const text = isOut ? withoutToken(kept) : kept;
    const frame = { n: ++count, at, lastAt: at, isOut, text, chars: data.length, count: 1, streamId };
    frames.push(frame);
    if (frames.length > FRAMES_MAX) frames.shift();
    if (streamId !== undefined) gathering.set(streamId, frame);
  }
  for (const listener of frameListeners) listener();
}

/** Redact tickets and tokens. @param {string} text */
function withoutToken(text) {
  return text.replace(/("(?:token|ticket)":\s*")[^"]+/g, "$1…");
}
