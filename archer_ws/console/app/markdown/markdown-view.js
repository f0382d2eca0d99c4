// A completion's Markdown on the page, while it grows and when it is complete. The text is untrusted.
//
// Work is done at most once per animation frame and for a part of it; the rest waits for the next frame. The text is never
// parsed as HTML, no address is loaded unless a person asks for it, and the text can't set styles or ids of the page.

import { Definitions } from "./definitions.js";
import { Growing } from "./growing.js";
import { coloured, highlight } from "./highlighting.js";
import { Children } from "./rendered.js";

/**
 * @typedef {import("./inline.js").Strings} Strings
 * @typedef {import("./code.js").CodeView} CodeView
 *
 * `onCopy`: a person pressed a code block's copy button; the button is passed so that it can show the confirmation.
 * @typedef {{ strings: Strings, onCopy?: (text: string, button: HTMLButtonElement) => void }} MarkdownOptions
 *
 * @typedef {object} MarkdownView
 * @property {(text: string) => void} append add more text
 * @property {(text: string) => void} set set the whole text so far; elements that stay the same are kept
 * @property {() => void} end the text is complete; text added later starts anew
 * @property {() => void} destroy stop working; the element is left as it is
 * @property {() => Promise<void>} whenIdle resolves when all text is on the page and highlighted
 */

// A frame has 16 ms, of which the browser's layout needs some.
const FRAME_WORK_MS = 6;
const STEP_CHARS = 4096;
// If a block is so large that updating it exceeds the budget, text is collected for this many times the cost.
const PAUSE_FACTOR = 4;
const PAUSE_MS_MAX = 400;
const CHEAP_MS = 4;
// A background page gets no animation frames.
const HIDDEN_MS = 500;

/**
 * @param {HTMLElement} element @param {MarkdownOptions} options
 * @returns {MarkdownView}
 */
export function createMarkdownView(element, options) {
  return new View(element, options);
}

/** @implements {MarkdownView} */
class View {
  #element;
  #context;
  #all = "";
  #pending = "";
  #isEnded = false;
  #isDone = false;
  /** @type {Growing} */
  #growing;
  /** Code that is being highlighted. @type {Set<Iterator<void>>} */
  #colouring = new Set();
  #asked = 0;
  #frame = 0;
  #timer = 0;
  #notBefore = 0;
  /** @type {(() => void)[]} */
  #waiting = [];

  /** @param {HTMLElement} element @param {MarkdownOptions} options */
  constructor(element, { strings, onCopy = () => {} }) {
    this.#element = element;
    this.#context = { strings, onCopy, wantedImages: new Set() };
    element.classList.add("md");
    this.#growing = this.#begin();
  }

  /** @param {string} text */
  append(text) {
    if (this.#isEnded) this.#restart(this.#all + text);
    else this.#take(text);
  }

  /** @param {string} text */
  set(text) {
    if (!this.#isEnded && text.startsWith(this.#all)) this.#take(text.slice(this.#all.length));
    else if (text !== this.#all) this.#restart(text);
  }

  end() {
    this.#isEnded = true;
    this.#notBefore = 0;
    this.#schedule();
  }

  destroy() {
    this.#unschedule();
    this.#pending = "";
    this.#isDone = true;
    this.#colouring.clear();
    this.#tell();
  }

  whenIdle() {
    return new Promise((/** @type {(nothing: void) => void} */ resolve) => {
      this.#waiting.push(resolve);
      this.#schedule();
    });
  }

  /** @param {string} text */
  #take(text) {
    this.#all += text;
    this.#pending += text;
    this.#schedule();
  }

  /** @param {string} text */
  #restart(text) {
    this.#isEnded = this.#isDone = false;
    this.#all = this.#pending = text;
    this.#growing = this.#begin();
    this.#schedule();
  }

  #begin() {
    this.#element.replaceChildren();
    this.#colouring.clear();
    const definitions = new Definitions();
    /** @param {CodeView} code */
    const highlighted = (code) => void this.#colour(code);
    const blocks = new Children(this.#element, { ...this.#context, definitions, highlighted });
    return new Growing(blocks, definitions);
  }

  /** @param {CodeView} code */
  async #colour(code) {
    this.#asked += 1;
    const runs = await highlight(code.language, code.content);
    this.#asked -= 1;
    if (runs && this.#element.contains(code.element)) this.#colouring.add(coloured(code.slices, runs));
    this.#schedule();
  }

  #schedule() {
    if (this.#frame || this.#timer) return;
    const pause = this.#notBefore - performance.now();
    if (pause > 0) {
      this.#timer = setTimeout(() => {
        this.#timer = 0;
        this.#schedule();
      }, pause);
      return;
    }
    this.#frame = requestAnimationFrame(() => this.#work());
    this.#timer = setTimeout(() => this.#work(), HIDDEN_MS);
  }

  #unschedule() {
    cancelAnimationFrame(this.#frame);
    clearTimeout(this.#timer);
    this.#frame = this.#timer = 0;
  }

  #work() {
    this.#unschedule();
    const began = performance.now();
    const until = began + FRAME_WORK_MS;
    while (this.#step() && performance.now() < until);
    const took = performance.now() - began;
    if (!this.#isEnded && took > CHEAP_MS && this.#growing.openLength > STEP_CHARS) {
      this.#notBefore = performance.now() + Math.min(took * PAUSE_FACTOR, PAUSE_MS_MAX);
    }
    if (this.#pending || (this.#isEnded && !this.#isDone) || this.#colouring.size > 0) this.#schedule();
    else if (this.#asked === 0) this.#tell();
  }

  /** Do one unit of work; false if there is none. */
  #step() {
    if (this.#pending) {
      const piece = this.#pending.slice(0, STEP_CHARS);
      this.#pending = this.#pending.slice(STEP_CHARS);
      this.#growing.append(piece);
      return true;
    }
    if (this.#isEnded && !this.#isDone) {
      this.#isDone = true;
      this.#growing.end();
      return true;
    }
    for (const colouring of this.#colouring) {
      if (colouring.next().done) this.#colouring.delete(colouring);
      return true;
    }
    return false;
  }

  #tell() {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }
}
