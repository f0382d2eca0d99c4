// The texts of the developers' drawer, in English. In a file of their own, so that they are loaded only with the drawer.

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
  close: "Close the developer tools",
  tabs: { frames: "Frames", log: "Log", plots: "Plots", request: "Request", errors: "Errors" },

  frames: {
    list: "Frames of the socket, newest last",
    filter: "Filter",
    filterHint: "Text",
    method: "Method",
    anyMethod: "All methods",
    stream: "Stream",
    anyStream: "All streams",
    pause: "Pause",
    go: "Resume",
    clear: "Clear",
    none: "No frames yet. They appear with the next question.",
    noneFit: "No frame matches the filter.",
    shown: (/** @type {number} */ shown, /** @type {number} */ all) =>
      shown === all ? page.plural(all, "entry", "entries") : `${page.number(shown)} of ${page.plural(all, "entry", "entries")}`,
    paused: (/** @type {number} */ more) => `paused, ${page.number(more)} more since`,
    newest: "Scroll to the newest",
    out: "sent",
    in: "received",
    times: (/** @type {number} */ count) => `×${page.number(count)}`,
    response: "response",
    error: "error",
    copy: "Copy the frame",
    copyAll: "Copy the frames, one per line",
    closeDetail: "Close the frame",
    detail: "The frame",
    cut: (/** @type {number} */ kept, /** @type {number} */ all) => `The first ${size(kept)} of ${size(all)}.`,
    gathered: (/** @type {number} */ count, /** @type {number} */ ms) =>
      `${page.plural(count, "consecutive text frame")}${count > 1 ? `, in ${page.duration(ms)}` : ""}`,
  },

  log: {
    answer: "Answer",
    choice: (/** @type {number} */ number, /** @type {string} */ question) => `${number}. ${question}`,
    none: "No log yet: ask something.",
    stored: "This answer was loaded from the server's store. This page did not follow its stream.",
    read: "Read its log from the server",
    reading: "Reading…",
    forgotten: "The server no longer has this log.",
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
      resumed: "Resumed",
    }),
    texts: /** @type {Record<string, string>} */ ({
      content: "Text",
      reasoning: "Reasoning",
      arguments: "Arguments of a call",
      reset: "Text, restarted from its beginning",
    }),
    text: (/** @type {number} */ pieces, /** @type {number} */ chars, /** @type {number} */ ms) =>
      `${page.plural(pieces, "piece")}, ${page.plural(chars, "character")}${ms >= 1 ? ` in ${page.duration(ms)}` : ""}`,
    cut: (/** @type {number} */ seq) => (seq > 0 ? `after event ${page.number(seq)}` : "before any event"),
    resumed: (/** @type {number} */ from, /** @type {number} */ to) =>
      from > to ? `nothing was missed; continues with event ${page.number(from)}` : `from event ${page.number(from)}: ${page.number(from)}–${page.number(to)} replayed`,
  },

  plots: {
    rate: "Tokens per second",
    rateNote: "each piece of text counts as one token; all open conversations, last minute",
    now: (/** @type {number} */ value) => `now ${page.number(value)}`,
    most: (/** @type {string} */ value) => `max ${value}`,
    ago: (/** @type {number} */ seconds) => `${seconds} s ago`,
    nowAxis: "now",
    first: "Time to first token",
    firstNote: "for each answer requested on this page",
    last: (/** @type {string} */ value) => `last ${value}`,
    median: (/** @type {string} */ value) => `median ${value}`,
    gaps: "Gaps between pieces",
    gapsNote: (/** @type {number} */ count) =>
      `${count > 1 ? `the last ${page.number(count)} ` : ""}of the newest answer with several pieces; lost connections are highlighted`,
    p95: (/** @type {string} */ value) => `95 % within ${value}`,
    older: "older",
    newer: "newest",
    none: "nothing to show yet",
  },

  request: {
    about: "The last request of this conversation, as code to run elsewhere. It does not contain the server's token.",
    language: "Language",
    languages: { curl: "curl", javascript: "JavaScript", python: "Python" },
    stored: "Within this conversation",
    storedHint: "The server adds the question and the answer to it. Otherwise the request contains the earlier messages, and nothing is stored.",
    older: "Older messages are not loaded yet and are missing in it: show them first.",
    copy: "Copy",
    code: "The request",
    example: "Why is the sky blue?",
    needs: /** @type {Record<string, string>} */ ({
      curl: "For shells. The response is a stream of server-sent events.",
      javascript: "For a page whose origin the server allows, or for Node with a copy of the client.",
      python: "Needs httpx.",
    }),
    token: "Set ARCHER_TOKEN first.",
    tokenInPlace: "Replace YOUR_TOKEN with the token.",
  },

  errors: {
    none: "No answer failed, and the connection has no error.",
    copy: "Copy the error as JSON",
    asked: "The error you opened",
    connection: "Connection",
    answer: "Answer",
    absent: "not given",
    yes: "yes",
    no: "no",
    ms: (/** @type {number} */ ms) => `${page.number(ms)} ms`,
  },
};
