// A React hook over the client: one chat, its messages and the running stream; the chat survives a reload of the page.
//
// Works with React 18 and 19. Its interface is documented in archer-react.d.ts. `Chat` holds the state, and React reads
// it through useSyncExternalStore. archer-client.js handles the connection and the order of events.

import { useEffect, useLayoutEffect, useMemo, useState, useSyncExternalStore } from "react";
import { connect } from "./archer-client.js";

/**
 * @typedef {import("./archer-client.d.ts").ArcherClient} ArcherClient
 * @typedef {import("./archer-client.d.ts").ArcherError} ArcherError
 * @typedef {import("./archer-client.d.ts").ChatMessage} ChatMessage
 * @typedef {import("./archer-client.d.ts").ChatStream} ChatStream
 * @typedef {import("./archer-client.d.ts").ResultStatus} ResultStatus
 * @typedef {import("./archer-client.d.ts").StreamEnd} StreamEnd
 * @typedef {import("./archer-client.d.ts").StreamMessage} StreamMessage
 * @typedef {import("./archer-client.d.ts").Tools} Tools
 * @typedef {import("./archer-react.d.ts").ChatState} ChatState
 * @typedef {import("./archer-react.d.ts").UseChatOptions} UseChatOptions
 * A chat as it is stored in the tab's sessionStorage; it has a `streamId` while a stream runs.
 * @typedef {{ messages: ChatMessage[], streamId?: string }} Stored
 */

// StrictMode, Fast Refresh and Activity unmount a component and mount it again at once. So the connection is closed
// only this long after an unmount.
const LINGER_MS = 1000;
// The effects of a child run before those of its parent, and may send. So what these need is there earlier. On a server no
// effect runs, and React 18 warns of a layout effect.
const useEarlyEffect = typeof document === "undefined" ? useEffect : useLayoutEffect;
// Events that arrive within this time are rendered together.
const RENDER_EVERY_MS = 16;

/** @type {ChatState} */
const EMPTY = {
  messages: [],
  status: "ready",
  connection: "connecting",
  text: "",
  reasoning: "",
  toolCalls: [],
  error: undefined,
  ended: undefined,
  stream: undefined,
  client: undefined,
};

/** @type {typeof import("./archer-react.d.ts").useChat} */
export function useChat(options = {}) {
  const [chat] = useState(() => new Chat(options));
  useEarlyEffect(() => {
    chat.options = options;
  });
  const { token, storageKey } = options;
  const url = options.url && String(options.url);
  const ticket = options.ticket instanceof URL ? options.ticket.href : options.ticket;
  const given = [chat, url, token, ticket, storageKey];
  useEarlyEffect(() => void chat.open({ url, token, ticket, storageKey }), given);
  // Only this one closes: a layout effect also ends while Suspense shows a fallback in the component's place.
  useEffect(() => chat.open({ url, token, ticket, storageKey }), given);
  const state = useSyncExternalStore(chat.subscribe, chat.state, chat.firstState);
  return useMemo(() => ({ ...state, ...chat.actions }), [chat, state]);
}

class Chat {
  #firstState;
  #state;
  /** @type {Set<() => void>} */
  #listeners = new Set();
  /** The options that the connection was opened with, as JSON. */
  #opened = "";
  /** @type {ArcherClient | undefined} */
  #client;
  /** Why no client could be made. @type {ArcherError | undefined} */
  #refusal;
  /** @type {string | undefined} */
  #storageKey;
  /** The conversation, without the running stream. @type {ChatMessage[]} */
  #messages;
  /** The running stream, or the last one. @type {ChatStream | undefined} */
  #stream;
  /** @type {StreamEnd | undefined} */
  #ended;
  /** @type {ArcherError | undefined} */
  #error;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #closing;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #rendering;

  /** @param {UseChatOptions} options */
  constructor(options) {
    this.options = options;
    this.#messages = options.initialMessages ?? [];
    this.#firstState = this.#state = { ...EMPTY, messages: this.#messages };
  }

  subscribe = (/** @type {() => void} */ listener) => {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  };

  state = () => this.#state;

  /** What a server renders, and the browser until the component is mounted. */
  firstState = () => this.#firstState;

  /**
   * Connect when the component mounts, if that is not done yet; returns the effect's cleanup function.
   * @param {Pick<UseChatOptions, "url" | "token" | "ticket" | "storageKey">} given
   */
  open({ storageKey, ...address }) {
    const ticket = typeof address.ticket === "function" ? "a function" : address.ticket;
    const key = JSON.stringify([address.url, address.token, ticket, storageKey]);
    clearTimeout(this.#closing);
    this.#closing = undefined;
    if (this.#opened !== key) {
      this.#close();
      if (this.#storageKey !== storageKey) this.#forget();
      this.#opened = key;
      this.#storageKey = storageKey;
      this.#connect(address);
    }
    return () => {
      this.#closing = setTimeout(() => {
        this.#close();
        this.#opened = "";
      }, LINGER_MS);
    };
  }

  /** @param {Pick<UseChatOptions, "url" | "token" | "ticket">} address */
  #connect(address) {
    let client;
    this.#refusal = undefined;
    try {
      client = connect(address);
    } catch (error) {
      this.#refusal = /** @type {ArcherError} */ (error);
      this.#render();
      return;
    }
    this.#client = client;
    client.on("state", () => this.#render());
    const stored = this.#stored();
    if (stored) {
      this.#messages = stored.messages;
      if (stored.streamId) this.#follow(client.resume(stored.streamId, this.#following()));
    }
    this.#render();
  }

  /** Disconnect. A running stream goes on if the next mount can resume it, and is cancelled otherwise. */
  #close() {
    const stream = this.#isRunning ? this.#stream : undefined;
    if (stream && !this.#storageKey) {
      this.#messages = this.#conversation();
      stream.cancel().catch(() => {});
    }
    if (stream) this.#stream = undefined;
    this.#client?.close();
    this.#client = undefined;
    this.#render();
  }

  #forget() {
    this.#messages = this.options.initialMessages ?? [];
    this.#stream = this.#ended = this.#error = undefined;
  }

  get #isRunning() {
    return this.#stream !== undefined && this.#ended === undefined;
  }

  actions = {
    /** @type {import("./archer-react.d.ts").Chat["send"]} */
    send: (content) => {
      if (!this.#client || this.#isRunning) return false;
      const { request } = this.options;
      /** @type {ChatMessage} */
      const message = { role: "user", content };
      this.#messages = [...this.#messages, message];
      // With a session_id the server stores the conversation, and only the new message is sent.
      const messages = request?.session_id ? [message] : this.#messages.map(sendable);
      this.#follow(this.#client.send({ ...request, messages }, this.#following()));
      return true;
    },
    cancel: () => {
      if (this.#isRunning) this.#stream?.cancel().catch(() => {}); // the stream's end reports the failure as well
    },
    /** @type {import("./archer-react.d.ts").Chat["setMessages"]} */
    setMessages: (messages) => {
      if (this.#isRunning) this.#stream?.cancel().catch(() => {});
      this.#messages = [...messages];
      this.#stream = this.#ended = this.#error = undefined;
      this.#store();
      this.#render();
    },
  };

  /** @returns {import("./archer-client.d.ts").StreamOptions} */
  #following() {
    const { tools, approve } = this.options;
    return {
      // Leaving the stream must not cancel it, because a reload of the page leaves it too.
      detach: true,
      tools: tools && this.#latest(tools),
      approve: approve && ((call, context) => (this.options.approve ?? approve)(call, context)),
      onEvent: () => this.#renderSoon(),
    };
  }

  /**
   * The same tools, each run by its handler of the latest render: an older one sees the component's state of its time.
   * @param {Tools} tools @returns {Tools}
   */
  #latest(tools) {
    const entries = Object.entries(tools).map(([name, tool]) => {
      /** @type {NonNullable<Tools[string]["run"]>} */
      const run = (args, context) => {
        const latest = this.options.tools?.[name];
        return (latest?.run ? latest : tool).run?.(args, context);
      };
      return [name, tool.run ? { ...tool, run } : tool];
    });
    return Object.fromEntries(entries);
  }

  /** @param {ChatStream} stream */
  async #follow(stream) {
    this.#stream = stream;
    this.#ended = this.#error = undefined;
    this.#store();
    this.#render();
    /** @type {ArcherError | undefined} */
    let error;
    try {
      for await (const _ of stream); // onEvent renders the events; this loop waits for the end and throws its error
    } catch (problem) {
      error = /** @type {ArcherError} */ (problem);
    }
    const ended = await stream.ended;
    const messages = await this.#wholeMessages(stream);
    if (this.#stream !== stream) return; // the component was unmounted, or setMessages replaced the conversation
    this.#messages = [...this.#messages, .../** @type {ChatMessage[]} */ (messages)];
    this.#ended = ended;
    this.#error = error;
    // After an unmount, another component may already have stored what became of the conversation.
    if (this.#closing === undefined || this.#stored()?.streamId === stream.streamId) this.#store();
    this.#render();
  }

  /**
   * The messages of a stream that has ended. Its events have only the beginning of a long tool result that was not sent
   * from here, or before a reload; the server has all of it, and the model must get the same as before.
   * @param {ChatStream} stream
   */
  async #wholeMessages(stream) {
    const client = this.#client;
    if (!client || !stream.toolCalls.some(({ result }) => result?.truncated)) return stream.messages;
    /** @type {StreamMessage[]} */
    const messages = [];
    /** @type {string | null | undefined} */
    let cursor;
    try {
      do {
        const page = await client.call("stream/get", { stream_id: stream.streamId, messages: true, cursor });
        messages.push(...(page.messages ?? []));
        cursor = page.next_cursor;
      } while (cursor);
      return messages;
    } catch {
      return stream.messages; // it is no longer retained: the beginnings are all that there is
    }
  }

  /** The conversation with the running stream's messages so far. @returns {ChatMessage[]} */
  #conversation() {
    if (!this.#stream || !this.#isRunning) return this.#messages;
    return [...this.#messages, .../** @type {ChatMessage[]} */ (this.#stream.messages)];
  }

  #renderSoon() {
    this.#rendering ??= setTimeout(() => this.#render(), RENDER_EVERY_MS);
  }

  #render() {
    clearTimeout(this.#rendering);
    this.#rendering = undefined;
    const stream = this.#stream;
    const connection = this.#refusal ? "closed" : (this.#client?.state ?? "connecting");
    this.#state = {
      messages: this.#conversation(),
      status: this.#isRunning && stream ? stream.status : "ready",
      connection,
      text: stream?.text ?? "",
      reasoning: stream?.reasoning ?? "",
      toolCalls: stream?.toolCalls ?? [],
      error: this.#refusal ?? this.#error ?? (connection === "closed" ? this.#client?.error : undefined),
      ended: this.#ended,
      stream,
      client: this.#client,
    };
    for (const listener of [...this.#listeners]) listener();
  }

  /** @returns {Stored | undefined} */
  #stored() {
    if (!this.#storageKey) return undefined;
    try {
      const stored = JSON.parse(sessionStorage.getItem(this.#storageKey) ?? "null");
      return Array.isArray(stored?.messages) ? stored : undefined;
    } catch {
      return undefined; // there is no storage here, or the key has another program's value
    }
  }

  #store() {
    if (!this.#storageKey) return;
    /** @type {Stored} */
    const stored = { messages: this.#messages, ...(this.#isRunning && { streamId: this.#stream?.streamId }) };
    try {
      sessionStorage.setItem(this.#storageKey, JSON.stringify(stored));
    } catch {
      // There is no storage here, or it is full. A reload then shows what was stored before.
    }
  }
}

/**
 * Convert a message of an earlier stream to the form that requests have.
 * @param {ChatMessage & Partial<Pick<StreamMessage, "reasoning" | "refusal" | "result_status">>} message
 */
function sendable({ reasoning, refusal, result_status, ...message }) {
  return result_status ? { ...message, status: /** @type {ResultStatus} */ (result_status) } : message;
}
