// Every text that people read in the drawer, in English; apart from the page's, as it is loaded with the drawer.

import { strings as page } from "../strings.js";

const TIME = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3 });

/** @param {number} bytes */
const size = (bytes) => (bytes < 1000 ? `${bytes} B` : `${(bytes / 1000).toFixed(bytes < 10_000 ? 1 : 0)} kB`);

/** @param {number} from @param {number} seq */
const range = (from, seq) => (from === seq ? `${seq}` : `${from}–${seq}`);

export const strings = {
  size,
  range,
  duration: page.duration,
  number: page.number,
  plural: page.plural,
  /** @param {number} at as performance.now() counts */
  clock: (at) => TIME.format(performance.timeOrigin + at),
  /** @param {number} ms since something */
  offset: (ms) => (Math.abs(ms) < 10_000 ? `+${Math.round(ms)} ms` : `+${(ms / 1000).toFixed(1)} s`),

  title: "Developers",
  close: "Close the developers' part",
  tabs: { frames: "Frames", log: "Log", plots: "Plots", request: "Request", errors: "Errors" },

  frames: {
    list: "Frames of the socket, the newest last",
    filter: "Filter",
    filterHint: "Text",
    method: "Method",
    anyMethod: "All methods",
    stream: "Stream",
    anyStream: "All streams",
    pause: "Pause",
    go: "Go on",
    clear: "Clear",
    none: "No frames yet. They come with the next question.",
    noneFit: "No frame fits the filter.",
    shown: (/** @type {number} */ shown, /** @type {number} */ all) =>
      shown === all ? page.plural(all, "entry", "entries") : `${page.number(shown)} of ${page.plural(all, "entry", "entries")}`,
    paused: (/** @type {number} */ more) => `paused, ${page.number(more)} more since`,
    newest: "To the newest",
    out: "sent",
    in: "received",
    times: (/** @type {number} */ count) => `×${page.number(count)}`,
    response: "response",
    error: "error",
    copy: "Copy the frame",
    copyAll: "Copy the frames, a line each",
    closeDetail: "Close the frame",
    detail: "The frame",
    cut: (/** @type {number} */ kept, /** @type {number} */ all) => `The first ${size(kept)} of ${size(all)}.`,
    gathered: (/** @type {number} */ count, /** @type {number} */ ms) =>
      `${page.plural(count, "frame")} of text in a row${count > 1 ? `, in ${page.duration(ms)}` : ""}`,
  },

  log: {
    answer: "Answer",
    choice: (/** @type {number} */ number, /** @type {string} */ question) => `${number}. ${question}`,
    none: "Here stands the log of an answer: ask something.",
    stored: "This answer was read as the server stored it. Its log was not followed here.",
    read: "Read its log from the server",
    reading: "Reading…",
    forgotten: "The server does not keep this log any more.",
    seq: (/** @type {number} */ from, /** @type {number} */ to) => `seq ${range(from, to)}`,
    entries: (/** @type {number} */ shown, /** @type {number} */ all) => `The last ${page.number(shown)} of ${page.number(all)} entries.`,
    kinds: /** @type {Record<string, string>} */ ({
      asked: "Asked",
      "stream/started": "Started",
      "stream/progress": "Progress",
      "stream/tool_call": "Tool call",
      "stream/tool_update": "Tool update",
      "stream/tool_result": "Tool result",
      "stream/step": "Step",
      "stream/ended": "Ended",
      cut: "Connection lost",
      resumed: "Taken up",
    }),
    texts: /** @type {Record<string, string>} */ ({
      content: "Text",
      reasoning: "Reasoning",
      arguments: "Arguments of a call",
      reset: "Text, anew from its beginning",
    }),
    text: (/** @type {number} */ pieces, /** @type {number} */ chars, /** @type {number} */ ms) =>
      `${page.plural(pieces, "piece")}, ${page.plural(chars, "character")}${ms >= 1 ? ` in ${page.duration(ms)}` : ""}`,
    cut: (/** @type {number} */ seq) => (seq > 0 ? `behind event ${page.number(seq)}` : "before any event"),
    resumed: (/** @type {number} */ from, /** @type {number} */ to) =>
      from > to ? `nothing was missed; it goes on with event ${page.number(from)}` : `from event ${page.number(from)}: ${page.number(from)}–${page.number(to)} replayed`,
  },

  plots: {
    rate: "Tokens per second",
    rateNote: "a piece of text counts as one; all open conversations, the last minute",
    now: (/** @type {number} */ value) => `now ${page.number(value)}`,
    most: (/** @type {string} */ value) => `max ${value}`,
    ago: (/** @type {number} */ seconds) => `${seconds} s ago`,
    nowAxis: "now",
    first: "Time to first token",
    firstNote: "of each answer that was asked for here",
    last: (/** @type {string} */ value) => `last ${value}`,
    median: (/** @type {string} */ value) => `median ${value}`,
    gaps: "Gaps between pieces",
    gapsNote: (/** @type {number} */ count) =>
      `${count > 1 ? `the last ${page.number(count)} ` : ""}of the newest answer in several pieces; lost connections stand out`,
    p95: (/** @type {string} */ value) => `95 % within ${value}`,
    older: "older",
    newer: "newest",
    none: "nothing to show yet",
  },

  request: {
    about: "What was asked last here, to be run anywhere else. It takes the server's token from you; none is in it.",
    language: "Language",
    languages: { curl: "curl", javascript: "JavaScript", python: "Python" },
    stored: "Within this conversation",
    storedHint: "The server adds question and answer to it; otherwise the request brings what was said before, and stores nothing.",
    older: "Older messages were not read yet, and are missing in it: show them first.",
    copy: "Copy",
    code: "The request",
    example: "Why is the sky blue?",
    needs: /** @type {Record<string, string>} */ ({
      curl: "For shells; answers with server-sent events.",
      javascript: "For a page of an origin that the server knows, or for Node with a copy of the client.",
      python: "Needs httpx.",
    }),
    token: "Set ARCHER_TOKEN first.",
    tokenInPlace: "Put the token in.",
  },

  errors: {
    none: "No answer failed, and the connection holds.",
    copy: "Copy the error as JSON",
    asked: "The one you opened",
    connection: "Of the connection",
    answer: "Of an answer",
    absent: "not told",
    yes: "yes",
    no: "no",
    ms: (/** @type {number} */ ms) => `${page.number(ms)} ms`,
  },
};
