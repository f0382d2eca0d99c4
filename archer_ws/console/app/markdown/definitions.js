// What links by a label lead to: `[text][label]`, with `[label]: address` anywhere in the text. The first one counts.
//
// A definition may come long after its links: whoever used a label that nobody had defined is told when somebody does.

/**
 * @typedef {import("./parser.js").Reference} Reference
 * @typedef {{ labels: Iterable<string>, refresh(): void }} User
 */

export class Definitions {
  /** @type {Map<string, Reference>} */
  #settled = new Map();
  /** Of blocks that may still change. @type {ReadonlyMap<string, Reference>} */
  #open = new Map();
  /** @type {Map<string, Set<User>>} */
  #waiting = new Map();

  /** @param {string} label @returns {Reference | undefined} */
  resolve(label) {
    return this.#settled.get(label) ?? this.#open.get(label);
  }

  /** What the open blocks define for now. @param {ReadonlyMap<string, Reference>} references */
  show(references) {
    this.#open = references;
  }

  /** These are so for good; they were shown. @param {readonly string[]} labels */
  settle(labels) {
    /** @type {Set<User>} */
    const told = new Set();
    for (const label of labels) {
      const reference = this.#open.get(label);
      if (this.#settled.has(label) || !reference) continue;
      this.#settled.set(label, reference);
      for (const user of this.#waiting.get(label) ?? []) told.add(user);
      this.#waiting.delete(label);
    }
    for (const user of told) user.refresh();
  }

  /** A block that changes no more by itself. @param {User} user */
  watch(user) {
    for (const label of user.labels) {
      if (this.#settled.has(label)) continue;
      const users = this.#waiting.get(label) ?? new Set();
      this.#waiting.set(label, users.add(user));
    }
  }

  /** Nothing more comes: whoever saw a definition that was none after all looks again. */
  end() {
    this.#open = new Map();
    for (const user of new Set([...this.#waiting.values()].flatMap((users) => [...users]))) user.refresh();
    this.#waiting.clear();
  }
}
