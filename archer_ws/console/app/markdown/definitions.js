// Link definitions: `[text][label]` with `[label]: address` anywhere in the text. The first definition of a label counts.
//
// A definition may arrive long after its links: blocks that used an undefined label are refreshed when it is defined.

/**
 * @typedef {import("./parser.js").Reference} Reference
 * @typedef {{ labels: Iterable<string>, refresh(): void }} User
 */

export class Definitions {
  /** @type {Map<string, Reference>} */
  #settled = new Map();
  /** Definitions in blocks that may still change. @type {ReadonlyMap<string, Reference>} */
  #open = new Map();
  /** @type {Map<string, Set<User>>} */
  #waiting = new Map();

  /** @param {string} label @returns {Reference | undefined} */
  resolve(label) {
    return this.#settled.get(label) ?? this.#open.get(label);
  }

  /** Set the definitions in the open blocks, which may still change. @param {ReadonlyMap<string, Reference>} references */
  show(references) {
    this.#open = references;
  }

  /** These labels are final. They were shown already. @param {readonly string[]} labels */
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

  /** Register a settled block, which changes only if its labels do. @param {User} user */
  watch(user) {
    for (const label of user.labels) {
      if (this.#settled.has(label)) continue;
      const users = this.#waiting.get(label) ?? new Set();
      this.#waiting.set(label, users.add(user));
    }
  }

  /** The text is complete: refresh blocks that used a definition which turned out to be none. */
  end() {
    this.#open = new Map();
    for (const user of new Set([...this.#waiting.values()].flatMap((users) => [...users]))) user.refresh();
    this.#waiting.clear();
  }
}
