// The text of a stream that one `for await` loop over it has not read yet.

/**
 * @typedef {import("./archer-client.d.ts").Delta} Delta
 * @typedef {import("./archer-transcript.js").Step} Step
 * @typedef {"content" | "reasoning"} Kind
 * @typedef {{ kind: Kind, text: string, reset?: true } | { kind: "step", step: number }} Piece
 * @typedef {{ resolve(result: IteratorResult<Delta>): void, reject(error: unknown): void }} Reader
 */

/** Adjacent pieces are merged, so that a slow reader needs no more memory than its text. */
export class Deltas {
  /** @type {Piece[]} */
  #pieces = [];
  /** @type {Reader[]} */
  #waiting = [];
  #isOver = false;
  #outcome;
  #left;

  /**
   * @param {readonly Step[]} steps what came before
   * @param {() => { error?: unknown } | undefined} outcome
   * @param {() => void} left
   */
  constructor(steps, outcome, left) {
    this.#outcome = outcome;
    this.#left = left;
    for (const [index, { number, reasoning, content }] of steps.entries()) {
      if (index > 0) this.begin(number);
      if (reasoning) this.push("reasoning", reasoning, false);
      if (content) this.push("content", content, false);
    }
  }

  [Symbol.asyncIterator]() {
    return this;
  }

  /** @param {Kind} kind @param {string} text @param {boolean} reset */
  push(kind, text, reset) {
    if (reset) this.#pieces = [];
    const last = this.#pieces.at(-1);
    if (last?.kind === kind && !reset) last.text += text;
    else this.#pieces.push({ kind, text, ...(reset && { reset }) });
    this.wake();
  }

  /** A step begins. @param {number} step */
  begin(step) {
    this.#pieces.push({ kind: "step", step });
    this.wake();
  }

  /** @returns {Promise<IteratorResult<Delta>>} */
  next() {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject });
      this.wake();
    });
  }

  /** @returns {Promise<IteratorResult<Delta>>} */
  async return() {
    if (!this.#isOver) {
      this.#isOver = true;
      this.#pieces = [];
      this.#left();
      this.wake();
    }
    return { done: true, value: undefined };
  }

  /** Discard the unread text, so that the loop throws the abort at once. */
  stop() {
    this.#pieces = [];
    this.wake();
  }

  wake() {
    while (this.#waiting.length > 0) {
      const piece = this.#pieces.shift();
      const outcome = this.#outcome();
      if (!piece && !outcome && !this.#isOver) return;
      const { resolve, reject } = /** @type {Reader} */ (this.#waiting.shift());
      if (piece) {
        resolve({ done: false, value: deltaOf(piece) });
      } else if (outcome?.error && !this.#isOver) {
        this.#isOver = true;
        reject(outcome.error);
      } else {
        this.#isOver = true;
        resolve({ done: true, value: undefined });
      }
    }
  }
}

/** @param {Piece} piece @returns {Delta} */
function deltaOf(piece) {
  if (piece.kind === "step") return { step: piece.step };
  return { [piece.kind]: piece.text, ...(piece.reset && { reset: true }) };
}
