// One conversation: what was said, what is being generated, and asking, again, otherwise, or no more.
//
// What the server has stored comes first, in its order; what is only here (not accepted yet, or failed before anything
// was stored) keeps its place behind what it answers.

import { ArcherError } from "../../archer-client.js";
import { computed, signal } from "../vendor/signals.js";
import { Completion } from "./completion.js";
import { client } from "./connection.js";
import { newId } from "./ids.js";
import { grouped, isOfModel, isRunning, messageOf, saidItem, titleOf } from "./items.js";
import { kept } from "./kept.js";
import { whenKnown } from "./models.js";
import { requestFields, settingsOf } from "./settings.js";
import { offered, tools } from "./tools.js";

/**
 * @typedef {import("../../archer.js").StoredMessage} StoredMessage
 * @typedef {import("../../archer.js").SessionChanged} SessionChanged
 * @typedef {import("./items.js").Said} Said
 * @typedef {import("./items.js").SaidItem} SaidItem
 * @typedef {import("./items.js").CompletionItem} CompletionItem
 * @typedef {import("./items.js").Item} Item
 */

const PAGE = 200;

export class Conversation {
  /** Not at the server yet. */
  isNew = signal(false);
  /** Whether the server is being asked for what it has. */
  isReading = signal(false);
  /** Why it can't be shown, or is not there any more. @type {import("../vendor/signals.js").Signal<ArcherError | undefined>} */
  trouble = signal(undefined);
  items = signal(/** @type {Item[]} */ ([]));
  hasOlder = signal(false);
  /** The id of the message that the view has to scroll to. @type {import("../vendor/signals.js").Signal<string | undefined>} */
  sought = signal(undefined);
  /** What is being written here: a reload keeps it. @type {import("../vendor/signals.js").Signal<string>} */
  draft;
  /** What it is called until the list has its name: after the first question. */
  firstTitle = computed(() => {
    const first = this.items.value.find((item) => item.kind === "said");
    return first?.kind === "said" ? titleOf(first.said.text) : "";
  });
  /** Whether an answer is being written. */
  isBusy = computed(() => this.items.value.some((item) => item.kind === "completion" && item.completion.isRunning));
  /** Whether one waits for somebody: to approve a call, say. */
  isWaiting = computed(() => this.running?.status.value === "waiting");
  /** @type {StoredMessage[]} */
  #stored = [];
  /** By their streams. @type {Map<string, Completion>} */
  #completions = new Map();
  /** @type {string | null | undefined} */
  #cursor;
  #wasRead = false;
  /** @type {Promise<void> | undefined} */
  #reading;

  /** @param {string} id */
  constructor(id) {
    this.id = id;
    this.draft = kept(sessionStorage, `archer.draft.${id}`, "");
  }

  /** The one that is being written. @returns {Completion | undefined} */
  get running() {
    return this.items.value.findLast(isRunning)?.completion;
  }

  get hasText() {
    return this.items.peek().length > 0;
  }

  /** Whether the server has it no more. */
  get isGone() {
    return this.trouble.value?.kind === "session_not_found";
  }

  get isBlank() {
    return this.isNew.peek() && !this.hasText && !this.draft.peek();
  }

  /**
   * Ask for an answer. `mustCall`: the tool that the model has to call, for models that know none.
   * @param {Said} said @param {{ mustCall?: string }} [how]
   */
  ask(said, { mustCall } = {}) {
    /** @type {SaidItem} */
    const item = {
      ...{ kind: "said", id: newId("msg"), role: "user", said, isLocal: true, createdAt: new Date().toISOString() },
    };
    const fields = { messages: [messageOf(item)], ...(mustCall !== undefined && { tool_choice: { name: mustCall } }) };
    return this.#begin([item], fields, said.text);
  }

  /** Ask for that answer anew: what follows it is dropped. @param {CompletionItem} item */
  async askAgain(item) {
    const items = this.items.peek();
    const asked = this.questionOf(item);
    const { messageId } = item.completion;
    this.items.value = items.slice(0, items.indexOf(item));
    if (messageId) return this.#begin([], { messages: [], replace_from: messageId }, "");
    if (!asked) return undefined;
    return this.askOtherwise(asked, asked.said);
  }

  /** What it answers. @param {CompletionItem} item @returns {SaidItem | undefined} */
  questionOf(item) {
    const items = this.items.peek();
    const before = items.slice(0, items.indexOf(item));
    return /** @type {SaidItem | undefined} */ (before.findLast(({ kind }) => kind === "said"));
  }

  /** Ask something else in place of that; what follows is dropped. @param {SaidItem} item @param {Said} said */
  askOtherwise(item, said) {
    const items = this.items.peek();
    this.items.value = items.slice(0, items.indexOf(item));
    /** @type {SaidItem} */
    const changed = { ...item, id: newId("msg"), said, isLocal: true, createdAt: new Date().toISOString() };
    const isStored = this.#stored.some(({ message_id }) => message_id === item.id);
    return this.#begin([changed], { messages: [messageOf(changed)], ...(isStored && { replace_from: item.id }) }, said.text);
  }

  stop() {
    this.running?.stop();
  }

  /** Say something to the answer that is coming; false where it is too late for that. @param {string} text */
  async steer(text) {
    const completion = this.running;
    if (!completion?.stream) return false;
    const id = newId("msg");
    completion.steered.value = [...completion.steered.peek(), { id, text }];
    const { outcome } = await completion.stream.steer(text, { messageId: id });
    if (outcome === "accepted") return true;
    completion.steered.value = completion.steered.peek().filter((each) => each.id !== id);
    return false;
  }

  /** The id of the message behind that item: a branch with it ends there. @param {Item} item */
  idBehind(item) {
    const { completion } = item.kind === "completion" ? item : { completion: undefined };
    const ids = new Set(item.kind === "said" ? [item.id] : completion?.steps.peek().map(({ messageId }) => messageId));
    const last = this.#stored.findLastIndex((each) => ids.has(each.message_id) || each.stream_id === completion?.streamId);
    return this.#stored[last + 1]?.message_id;
  }

  /** Read what the server has. */
  refresh() {
    if (this.isNew.peek() || !client.peek()) return Promise.resolve();
    this.#reading ??= this.#read().finally(() => (this.#reading = undefined));
    return this.#reading;
  }

  async readOlder() {
    await this.#readPage();
    this.#arrange();
  }

  /** Have the view scroll to a stored message; pages of older messages are read until it is there. @param {string} messageId */
  async seek(messageId) {
    await this.refresh();
    while (!this.#has(messageId) && this.#cursor != null) await this.#readPage();
    this.#arrange();
    // It may have been deleted since the search.
    if (this.#has(messageId)) this.sought.value = this.#shownIn(messageId);
  }

  async #readPage() {
    const page = await this.#get(this.#cursor);
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
    // A steered message stands before the step that it is for.
    const isSteered = place > 0 && group[place].role === "user";
    const step = isSteered
      ? group.slice(place).find(({ role }) => role === "assistant")
      : group.slice(0, place + 1).findLast(({ role }) => role === "assistant");
    return step?.message_id ?? messageId;
  }

  /** @param {SessionChanged} change */
  changed(change) {
    if (!this.#wasRead && !this.hasText) return;
    // What runs here tells of itself; its end is read by itself, too.
    if (this.isBusy.peek() && change.active.length > 0) return;
    this.refresh();
  }

  /** It was deleted elsewhere, or the server that had it was another one: what is here stays to be read. */
  gone() {
    this.trouble.value = new ArcherError({ kind: "session_not_found", message: "" });
  }

  /** @param {string | null} [cursor] */
  async #get(cursor) {
    const now = /** @type {import("../../archer-client.d.ts").ArcherClient} */ (client.peek());
    return now.call("session/get", { session_id: this.id, limit: PAGE, ...(cursor != null && { cursor }) });
  }

  async #read() {
    this.isReading.value = !this.#wasRead;
    try {
      const page = await this.#get();
      const first = page.messages[0]?.message_id;
      const at = this.#stored.findIndex(({ message_id }) => message_id === first);
      if (at <= 0) this.#cursor = page.next_cursor;
      this.#stored = [...this.#stored.slice(0, Math.max(0, at)), ...page.messages];
      this.hasOlder.value = this.#cursor != null;
      this.#wasRead = true;
      this.trouble.value = undefined;
      for (const streamId of page.active_streams) if (!this.#completions.has(streamId)) this.#resume(streamId);
      this.#arrange();
    } catch (error) {
      if (!(error instanceof ArcherError) || error.retryable) return;
      // Begun in this tab and never asked, before a reload.
      if (error.kind === "session_not_found" && !this.hasText) this.isNew.value = true;
      else this.trouble.value = error;
    } finally {
      this.isReading.value = false;
    }
  }

  /** @param {string} streamId */
  #resume(streamId) {
    const now = /** @type {import("../../archer-client.d.ts").ArcherClient} */ (client.peek());
    const completion = new Completion(streamId);
    this.#completions.set(streamId, completion);
    completion.status.value = "running";
    // Calls that wait are taken over: of several windows one runs each.
    completion.follow((onEvent) => now.resume(streamId, { onEvent, tools }), { isNew: false });
    const asked = this.#stored.findLast((each) => each.stream_id === streamId && each.role === "user");
    const item = { kind: /** @type {const} */ ("completion"), id: streamId, completion, isLocal: true };
    this.items.value = [...this.items.peek(), { ...item, afterId: asked?.message_id }];
    completion.stream?.ended.then(() => this.refresh());
  }

  /**
   * @param {SaidItem[]} items @param {Partial<import("../../archer.js").ChatSendParams> & { messages: object[] }} fields
   * @param {string} said what a new conversation is called after
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
      completion.follow((onEvent) => now.send(request, { onEvent, tools: given }), { isNew: true });
      await completion.stream?.ended;
      await this.refresh();
    };
    begin().catch((error) => completion.fail(error));
    return completion;
  }

  /** Put what is stored and what is only here into one order. */
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
      if (!completion) {
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
  }
}
