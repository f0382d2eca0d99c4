// One conversation: its messages and completions; ask, ask again, edit a question, steer, stop.
//
// Stored messages come first, in the server's order. Items that only this page has (not accepted yet, or failed before
// anything was stored) keep their place after the message that they belong to.

import { ArcherError } from "../../archer-client.js";
import { computed, effect, signal } from "../vendor/signals.js";
import { Completion } from "./completion.js";
import { client } from "./connection.js";
import { Attachment } from "./files.js";
import { newId } from "./ids.js";
import { grouped, isOfModel, isRunning, messageOf, saidItem, titleOf } from "./items.js";
import { kept } from "./kept.js";
import { whenKnown } from "./models.js";
import { requestFields, settingsOf } from "./settings.js";
import { offered, tools } from "./tools.js";

/**
 * @typedef {import("../../archer.js").StoredMessage} StoredMessage
 * @typedef {import("../../archer.js").SessionChanged} SessionChanged
 * @typedef {import("../../archer.js").Part} Part
 * @typedef {import("./items.js").Said} Said
 * @typedef {import("./items.js").SaidItem} SaidItem
 * @typedef {import("./items.js").CompletionItem} CompletionItem
 * @typedef {import("./items.js").Item} Item
 */

const PAGE = 200;

export class Conversation {
  /** Not created at the server yet. */
  isNew = signal(false);
  /** Whether the stored messages are being loaded for the first time. */
  isReading = signal(false);
  /** Why it can't be loaded, or that it was deleted. @type {import("../vendor/signals.js").Signal<ArcherError | undefined>} */
  trouble = signal(undefined);
  items = signal(/** @type {Item[]} */ ([]));
  hasOlder = signal(false);
  /** The id of the message that the view should scroll to. @type {import("../vendor/signals.js").Signal<string | undefined>} */
  sought = signal(undefined);
  /** The text in the composer; it survives a reload. @type {import("../vendor/signals.js").Signal<string>} */
  draft;
  /** What is attached to the next message; what of it was sent survives a reload. @type {import("../vendor/signals.js").Signal<Attachment[]>} */
  files = signal([]);
  /** What is being written instead of questions, by their ids. The view of a conversation does not outlast a look at another one. @type {Map<string, string>} */
  edits = new Map();
  /** How often this page has asked here: what the view scrolls to the end for. */
  asks = signal(0);
  /** Its title as it was read with its messages: the list may not show it yet. */
  title = signal("");
  /** Its title until it has one: the first question. */
  firstTitle = computed(() => {
    const first = this.items.value.find((item) => item.kind === "said");
    return first?.kind === "said" ? titleOf(first.said.text) : "";
  });
  /** Whether a completion is being generated. */
  isBusy = computed(() => this.items.value.some((item) => item.kind === "completion" && item.completion.isRunning));
  /** Whether the running completion waits for a person, for example to approve a call. */
  isWaiting = computed(() => this.running?.status.value === "waiting");
  /** @type {StoredMessage[]} */
  #stored = [];
  /**
   * The question, or what is said meanwhile, that the server is not known to have. After a reload it is the draft again
   * (`isDraft`), until it turns out that the server has it.
   * @type {import("../vendor/signals.js").Signal<Said & { id: string, isDraft?: boolean } | "">}
   */
  #unsent;
  /** By stream id. @type {Map<string, Completion>} */
  #completions = new Map();
  /** @type {string | null | undefined} */
  #cursor;
  #wasRead = false;
  /** The newest version that was told of while the messages were being loaded: they may be older. */
  #newest = 0;
  /** @type {Promise<void> | undefined} */
  #reading;
  /** @type {Promise<void> | undefined} */
  #readingOlder;

  /** @param {string} id */
  constructor(id) {
    this.id = id;
    this.draft = kept("sessionStorage", `archer.draft.${id}`, "");
    this.#keepFiles();
    this.#unsent = kept("sessionStorage", `archer.unsent.${id}`, "");
    const unsent = this.#unsent.peek();
    if (!unsent || unsent.isDraft) return;
    this.#unsent.value = { ...unsent, isDraft: true };
    this.write(unsent);
  }

  /** The completion that is being generated. @returns {Completion | undefined} */
  get running() {
    return this.items.value.findLast(isRunning)?.completion;
  }

  get hasText() {
    return this.items.peek().length > 0;
  }

  /** Whether the server no longer has it. */
  get isGone() {
    return this.trouble.value?.kind === "session_not_found";
  }

  get isBlank() {
    return this.isNew.peek() && !this.hasText && !this.draft.peek() && this.files.peek().length === 0;
  }

  /** Whether the server does not have all of it: what is being written, being generated, or was refused. */
  get isOnlyHere() {
    const isWritten = this.draft.peek() || this.#unsent.peek() || this.files.peek().length > 0 || this.edits.size > 0;
    return Boolean(isWritten) || this.isBusy.peek() || this.items.peek().some(({ isLocal }) => isLocal);
  }

  /** Put this into the composer, before what is there. @param {Said} said */
  write({ text, parts }) {
    this.draft.value = [text, this.draft.peek()].filter(Boolean).join("\n\n");
    this.files.value = [...parts.map((part) => Attachment.again(part)), ...this.files.peek()];
  }

  #keepFiles() {
    const parts = kept("sessionStorage", `archer.files.${this.id}`, /** @type {Part[] | ""} */ (""));
    this.files.value = (parts.peek() || []).map((part) => Attachment.again(part));
    effect(() => {
      const sent = this.files.value.filter(({ state }) => state.value === "sent");
      parts.value = sent.length > 0 ? sent.map(({ part }) => part) : "";
    });
  }

  /**
   * Send a message. `mustCall`: the tool that the model has to call, for models that are not known to call tools.
   * @param {Said} said @param {{ mustCall?: string }} [how]
   */
  ask(said, { mustCall } = {}) {
    /** @type {SaidItem} */
    const item = {
      ...{ kind: "said", id: newId("msg"), role: "user", said, isLocal: true, isStored: false },
      createdAt: new Date().toISOString(),
    };
    const fields = { messages: [messageOf(item)], ...(mustCall !== undefined && { tool_choice: { name: mustCall } }) };
    return this.#begin([item], fields, said.text);
  }

  /** Request that completion again. Everything after it is dropped. @param {CompletionItem} item */
  async askAgain(item) {
    const items = this.items.peek();
    const asked = this.questionOf(item);
    const { messageId } = item.completion;
    this.items.value = items.slice(0, items.indexOf(item));
    if (messageId) return this.#begin([], { messages: [], replace_from: messageId }, "");
    if (!asked) return undefined;
    return this.askOtherwise(asked, asked.said);
  }

  /** The message before this completion. @param {CompletionItem} item @returns {SaidItem | undefined} */
  questionOf(item) {
    const items = this.items.peek();
    const before = items.slice(0, items.indexOf(item));
    return /** @type {SaidItem | undefined} */ (before.findLast(({ kind }) => kind === "said"));
  }

  /** Replace that question and ask. Everything after it is dropped. @param {SaidItem} item @param {Said} said */
  askOtherwise(item, said) {
    const items = this.items.peek();
    this.items.value = items.slice(0, items.indexOf(item));
    /** @type {SaidItem} */
    const changed = {
      ...{ ...item, id: newId("msg"), said, isLocal: true, isStored: false },
      createdAt: new Date().toISOString(),
    };
    const isStored = this.#stored.some(({ message_id }) => message_id === item.id);
    return this.#begin([changed], { messages: [messageOf(changed)], ...(isStored && { replace_from: item.id }) }, said.text);
  }

  stop() {
    this.running?.stop();
  }

  /** Steer the running completion; false if it is too late for that. @param {string} text */
  async steer(text) {
    const completion = this.running;
    if (!completion?.stream) return false;
    const id = newId("msg");
    completion.steered.value = [...completion.steered.peek(), { id, text }];
    const unsent = this.#unsent.peek();
    if (!unsent || unsent.isDraft) this.#unsent.value = { id, text, parts: [] };
    let isTaken = false;
    try {
      isTaken = (await completion.stream.steer(text, { messageId: id })).outcome === "accepted";
    } finally {
      if (!isTaken) completion.steered.value = completion.steered.peek().filter((each) => each.id !== id);
      this.#sent(id);
    }
    return isTaken;
  }

  /** The id of the message after that item: a branch that includes the item ends before this id. @param {Item} item */
  idBehind(item) {
    const { completion } = item.kind === "completion" ? item : { completion: undefined };
    const ids = new Set(item.kind === "said" ? [item.id] : completion?.steps.peek().map(({ messageId }) => messageId.peek()));
    const last = this.#stored.findLastIndex((each) => ids.has(each.message_id) || each.stream_id === completion?.streamId);
    return this.#stored[last + 1]?.message_id;
  }

  /** Load the stored messages and running streams. */
  refresh() {
    if (this.isNew.peek() || !client.peek()) return Promise.resolve();
    this.#reading ??= this.#readUpToDate().finally(() => (this.#reading = undefined));
    return this.#reading;
  }

  async #readUpToDate() {
    /** @type {number | undefined} */
    let version;
    do {
      this.#newest = 0;
      version = await this.#read();
    } while (version !== undefined && version < this.#newest);
  }

  async readOlder() {
    await this.#readPage();
    this.#arrange();
  }

  /** Make the view scroll to a stored message; older pages are loaded until it is found. @param {string} messageId */
  async seek(messageId) {
    await this.refresh();
    // The conversation was deleted since the search.
    if (this.isNew.peek()) throw new ArcherError({ kind: "session_not_found", message: "" });
    while (!this.#has(messageId) && this.#cursor != null) await this.#readPage();
    this.#arrange();
    // It may have been deleted since the search.
    if (this.#has(messageId)) this.sought.value = this.#shownIn(messageId);
  }

  /** Read the page before the first message that is here; once, however often it is asked for meanwhile. */
  #readPage() {
    this.#readingOlder ??= this.#prepend().finally(() => (this.#readingOlder = undefined));
    return this.#readingOlder;
  }

  async #prepend() {
    const page = await this.#getWhole(this.#cursor, isOfModel);
    this.#stored = [...page.messages, ...this.#stored];
    this.#cursor = page.next_cursor;
    this.hasOlder.value = this.#cursor != null;
  }

  /** @param {string} messageId */
  #has(messageId) {
    return this.#stored.some(({ message_id }) => message_id === messageId);
  }

  /**
   * The id of the message whose element shows that one: a tool result and a steered message belong to a step.
   * @param {string} messageId
   */
  #shownIn(messageId) {
    const group = grouped(this.#stored).find((each) => each.some(({ message_id }) => message_id === messageId)) ?? [];
    const place = group.findIndex(({ message_id }) => message_id === messageId);
    // A steered message precedes the step that it was sent before.
    const isSteered = place > 0 && group[place].role === "user";
    const step = isSteered
      ? group.slice(place).find(({ role }) => role === "assistant")
      : group.slice(0, place + 1).findLast(({ role }) => role === "assistant");
    return step?.message_id ?? messageId;
  }

  /** `isShown`: in a tab. One that is closed is loaded when it is opened. @param {SessionChanged} change @param {{ isShown: boolean }} how */
  changed(change, { isShown }) {
    if (!this.#wasRead && !this.hasText) return;
    // A stream that this page follows updates itself, and the messages are loaded when it ends.
    if (this.isBusy.peek() && change.active.length > 0) return;
    this.#newest = change.version;
    if (isShown) this.refresh();
  }

  /** The conversation was deleted elsewhere, or the server was replaced. The loaded text stays readable. */
  gone() {
    this.#newest = Infinity; // What is being loaded is from before.
    this.trouble.value = new ArcherError({ kind: "session_not_found", message: "" });
  }

  /** @param {string | null} [cursor] */
  async #get(cursor) {
    const now = /** @type {import("../../archer-client.d.ts").ArcherClient} */ (client.peek());
    return now.call("session/get", { session_id: this.id, limit: PAGE, ...(cursor != null && { cursor }) });
  }

  /**
   * A page, and those before it for as long as its first message can't be the first one: an answer may have messages on
   * several pages, and its question too.
   * @param {string | null | undefined} cursor @param {(first: StoredMessage) => boolean} hasMoreBefore
   */
  async #getWhole(cursor, hasMoreBefore) {
    const page = await this.#get(cursor);
    while (page.next_cursor != null && hasMoreBefore(page.messages[0])) {
      const older = await this.#get(page.next_cursor);
      page.messages = [...older.messages, ...page.messages];
      page.next_cursor = older.next_cursor;
    }
    return page;
  }

  /** @returns {Promise<number | undefined>} the version that was loaded; undefined if it can't be loaded */
  async #read() {
    this.isReading.value = !this.#wasRead;
    try {
      // What is new may be longer than a page: then what was shown before is further up.
      const isApart = (/** @type {StoredMessage} */ first) =>
        !this.#has(first.message_id) && (isOfModel(first) || this.#stored.length > 0);
      const page = await this.#getWhole(undefined, isApart);
      const first = page.messages[0]?.message_id;
      const at = this.#stored.findIndex(({ message_id }) => message_id === first);
      if (at <= 0) this.#cursor = page.next_cursor;
      this.#stored = [...this.#stored.slice(0, Math.max(0, at)), ...page.messages];
      this.hasOlder.value = this.#cursor != null;
      this.title.value = page.title ?? "";
      this.#wasRead = true;
      this.trouble.value = undefined;
      for (const streamId of page.active_streams) this.#showRunning(streamId);
      this.#arrange();
      this.#lookForUnsent();
      return page.version ?? undefined;
    } catch (error) {
      if (!(error instanceof ArcherError) || error.retryable) return undefined;
      // Opened in this tab before a reload, but nothing was ever sent.
      if (error.kind === "session_not_found" && !this.hasText) this.isNew.value = true;
      else this.trouble.value = error;
      return undefined;
    } finally {
      this.isReading.value = false;
    }
  }

  /** @param {string} messageId */
  #sent(messageId) {
    const { id } = this.#unsent.peek() || {};
    if (id === messageId) this.#unsent.value = "";
  }

  #lookForUnsent() {
    const unsent = this.#unsent.peek();
    if (!unsent || !this.#has(unsent.id)) return;
    this.#unsent.value = "";
    // It was on its way when the page was loaded anew.
    if (unsent.isDraft) this.#takeOut(unsent);
  }

  /** Take out of the composer what was put into it, and leave what is behind; nothing if it was changed. @param {Said} said */
  #takeOut({ text, parts }) {
    const draft = this.draft.peek();
    const head = text && `${text}\n\n`;
    if (draft !== text && !draft.startsWith(head)) return;
    this.draft.value = draft.slice(head.length);
    const files = [...this.files.peek()];
    for (const part of parts) {
      const at = files.findIndex((file) => JSON.stringify(file.part) === JSON.stringify(part));
      if (at >= 0) files.splice(at, 1)[0].leave();
    }
    this.files.value = files;
  }

  /** @param {string} streamId */
  #showRunning(streamId) {
    const known = this.#completions.get(streamId);
    const completion = known && !known.isLost ? known : this.#resume(streamId);
    const others = this.items.peek().filter(({ id }) => id !== streamId);
    // A question that was refused may have taken its place: what is here of it is shown again.
    const isShown = others.length < this.items.peek().length;
    if (completion === known && (isShown || !completion.isRunning)) return;
    const asked = this.#stored.findLast((each) => each.stream_id === streamId && each.role === "user");
    const item = { kind: /** @type {const} */ ("completion"), id: streamId, completion, isLocal: true };
    this.items.value = [...others, { ...item, afterId: asked?.message_id }];
  }

  /** @param {string} streamId */
  #resume(streamId) {
    const now = /** @type {import("../../archer-client.d.ts").ArcherClient} */ (client.peek());
    const completion = new Completion(streamId);
    this.#completions.set(streamId, completion);
    completion.status.value = "running";
    // This page may claim the waiting tool calls. Of several windows, one runs each call.
    completion.follow((onEvent) => now.resume(streamId, { onEvent, tools }), { isNew: false });
    completion.stream?.ended.then(() => this.refresh());
    return completion;
  }

  /**
   * @param {SaidItem[]} items @param {Partial<import("../../archer.js").ChatSendParams> & { messages: object[] }} fields
   * @param {string} said the text that a new conversation's title is made from
   */
  #begin(items, fields, said) {
    const now = client.peek();
    if (!now) return undefined;
    const streamId = newId("str");
    const completion = new Completion(streamId);
    this.#completions.set(streamId, completion);
    const afterId = items.at(-1)?.id ?? this.items.peek().at(-1)?.id;
    /** @type {CompletionItem} */
    const item = { kind: "completion", id: streamId, completion, afterId, isLocal: true };
    this.items.value = [...this.items.peek(), ...items, item];
    this.asks.value++;
    const [asked] = items;
    if (asked) this.#unsent.value = { id: asked.id, ...asked.said };
    const accepted = () => {
      if (!asked) return;
      asked.isStored = true;
      this.#sent(asked.id);
    };
    const settings = settingsOf(this.id);
    const request = /** @type {import("../../archer.js").ChatSendParams} */ ({
      ...{ session_id: this.id, stream_id: streamId, ...requestFields(settings), ...fields },
    });
    completion.request = request;
    const begin = async () => {
      const title = titleOf(said);
      if (this.isNew.peek()) await now.call("session/create", { session_id: this.id, title });
      this.isNew.value = false;
      await whenKnown();
      if (!completion.isRunning) return;
      const given = fields.tool_choice === undefined ? offered(settings) : tools;
      /** @param {(event: import("../../archer-client.d.ts").StreamEvent) => void} take */
      const open = (take) => {
        /** @param {import("../../archer-client.d.ts").StreamEvent} event */
        const onEvent = (event) => {
          if (completion.status.peek() === "queued") accepted();
          take(event);
        };
        return now.send(request, { onEvent, tools: given });
      };
      completion.follow(open, { isNew: true });
      await completion.stream?.ended;
      await this.refresh();
    };
    begin().catch((error) => completion.fail(error));
    return completion;
  }

  /** Merge stored items and items that only this page has into one list. */
  #arrange() {
    /** @type {Item[]} */
    const items = [];
    const known = new Set();
    for (const group of grouped(this.#stored)) {
      const [first] = group;
      if (!isOfModel(first)) {
        items.push(saidItem(first));
        known.add(first.message_id);
        continue;
      }
      const streamId = first.stream_id ?? first.message_id;
      let completion = this.#completions.get(streamId);
      if (!completion || completion.isLost) {
        completion = Completion.stored(group);
        this.#completions.set(streamId, completion);
      } else completion.adopt(group);
      items.push({ kind: "completion", id: streamId, completion, isLocal: false });
      known.add(streamId);
    }
    for (const item of this.items.peek()) {
      if (known.has(item.id) || !item.isLocal) continue;
      const at = item.kind === "completion" ? items.findIndex(({ id }) => id === item.afterId) : -1;
      if (at < 0) items.push(item);
      else items.splice(at + 1, 0, item);
    }
    this.items.value = items;
    this.#forgetReplaced();
  }

  /** Forget completions that others have taken the place of. */
  #forgetReplaced() {
    const shown = new Set(this.items.peek().map(({ id }) => id));
    for (const [streamId, { isRunning }] of this.#completions) {
      if (!shown.has(streamId) && !isRunning) this.#completions.delete(streamId);
    }
  }
}
