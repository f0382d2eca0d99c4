// A code block on the page: its language, a copy button, and its text in slices, which are laid out and coloured one by
// one.

import { appendText } from "./characters.js";

/**
 * @typedef {import("./blocks.js").Block} Block
 * @typedef {import("./rendered.js").View} View
 * @typedef {import("./blocks.js").Code} Code
 * @typedef {import("./rendered.js").ViewContext} ViewContext
 * @typedef {import("./highlighting.js").Run} Run
 */

const SLICE_LINES_MAX = 50;
const SLICE_CHARS_MAX = 4000;

/** @implements {View} */
export class CodeView {
  #context;
  #code = document.createElement("code");
  #info;
  #content = "";
  /** The last slice: its element and its length. */
  #slice = { element: this.#code, lines: SLICE_LINES_MAX, chars: 0 };

  /** @param {Code} block @param {ViewContext} context */
  constructor(block, context) {
    this.#context = context;
    this.#info = block.info;
    this.element = document.createElement("div");
    this.element.className = "md-code";
    const label = document.createElement("span");
    label.className = "md-language";
    appendText(label, this.language.slice(0, 40));
    const copy = document.createElement("button");
    copy.type = "button";
    copy.className = "md-copy";
    copy.textContent = context.strings.copyCode;
    copy.addEventListener("click", () => context.onCopy(this.#content, copy));
    const bar = document.createElement("div");
    bar.className = "md-code-bar";
    bar.append(label, copy);
    const pre = document.createElement("pre");
    pre.dir = "ltr";
    pre.append(this.#code);
    this.element.append(bar, pre);
    this.append(block.content);
  }

  /** The first word after the fence. */
  get language() {
    return /^[^\s{,]*/.exec(this.#info)?.[0] ?? "";
  }

  get content() {
    return this.#content;
  }

  /** @param {Block} block */
  update(block) {
    if (block.kind !== "code" || block.info !== this.#info || !block.content.startsWith(this.#content)) return false;
    this.append(block.content.slice(this.#content.length));
    return true;
  }

  /** @param {string} text */
  append(text) {
    this.#content += text;
    for (let at = 0; at < text.length; ) {
      if (this.#slice.lines >= SLICE_LINES_MAX || this.#slice.chars >= SLICE_CHARS_MAX) this.#begin();
      const room = SLICE_CHARS_MAX - this.#slice.chars;
      const newline = text.indexOf("\n", at);
      const end = Math.min(newline < 0 ? text.length : newline + 1, at + room);
      const isPair = end === at + room && /[\ud800-\udbff]/.test(text[end - 1]) && end < text.length;
      const line = text.slice(at, isPair ? end + 1 : end);
      appendText(this.#slice.element, line, true);
      this.#slice.lines += line.endsWith("\n") ? 1 : 0;
      this.#slice.chars += line.length;
      at += line.length;
    }
  }

  settle() {
    this.#context.highlighted(this);
  }

  /** The slices' elements, each with its text. @returns {{ element: Element, text: string }[]} */
  get slices() {
    return [...this.#code.children].map((element) => ({ element, text: element.textContent ?? "" }));
  }

  #begin() {
    const element = document.createElement("span");
    element.className = "md-slice";
    this.#code.append(element);
    this.#slice = { element, lines: 0, chars: 0 };
  }
}
