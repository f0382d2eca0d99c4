// A paragraph, a heading or a cell on the page, and the link labels that it used.

import { inlineNodes } from "./inline.js";
import { parseInline } from "./parser.js";
import { piecesOf } from "./pieces.js";

/**
 * @typedef {import("./blocks.js").Block} Block
 * @typedef {import("./blocks.js").Leaf} Leaf
 * @typedef {import("./parser.js").Reference} Reference
 * @typedef {import("./rendered.js").View} View
 * @typedef {import("./rendered.js").ViewContext} ViewContext
 */

/** @implements {View} */
export class LeafView {
  #block;
  #context;
  /** @type {Piece[]} */
  #pieces = [];

  /** @param {Leaf} block @param {ViewContext} context */
  constructor(block, context) {
    this.#block = block;
    this.#context = context;
    this.element = document.createElement(block.tag);
    this.element.dir = "auto";
    if (block.side) this.element.className = `md-${block.side}`;
    this.#show(block.source);
  }

  /** @param {Block} block */
  update(block) {
    if (block.kind !== "leaf" || block.tag !== this.#block.tag || block.side !== this.#block.side) return false;
    this.#show(block.source);
    return true;
  }

  settle() {
    for (const piece of this.#pieces) if (piece.uses.size > 0) this.#context.definitions.watch(piece);
  }

  /** @param {string} source */
  #show(source) {
    const pieces = piecesOf(source);
    // A single piece is in the element itself; several have an element each.
    if (pieces.length > 1 !== this.#pieces.length > 1) {
      this.element.replaceChildren();
      this.#pieces = [];
    }
    pieces.forEach((text, index) => {
      this.#pieces[index] ??= new Piece(pieces.length === 1 ? this.element : this.#part(), this.#context);
      this.#pieces[index].show(text);
    });
    for (const piece of this.#pieces.splice(pieces.length)) piece.element.remove();
  }

  #part() {
    const part = document.createElement("span");
    part.className = "md-part";
    return this.element.appendChild(part);
  }
}

/** A text within a block, and the link labels that it used. */
class Piece {
  #source = "";
  #context;
  /** @type {Map<string, Reference | undefined>} */
  uses = new Map();

  /** @param {HTMLElement} element @param {ViewContext} context */
  constructor(element, context) {
    this.element = element;
    this.#context = context;
  }

  get labels() {
    return this.uses.keys();
  }

  /** @param {string} source */
  show(source) {
    if (source === this.#source && this.#isCurrent()) return;
    this.#source = source;
    this.uses = new Map();
    const { definitions } = this.#context;
    const tokens = parseInline(source, (label) => {
      const reference = definitions.resolve(label);
      this.uses.set(label, reference);
      return reference;
    });
    become(this.element, inlineNodes(tokens, this.#context));
  }

  refresh() {
    this.show(this.#source);
  }

  #isCurrent() {
    for (const [label, used] of this.uses) {
      const now = this.#context.definitions.resolve(label);
      if (now?.href !== used?.href || now?.title !== used?.title) return false;
    }
    return true;
  }
}

/**
 * Replace an element's children with these, from the first one that differs.
 * @param {HTMLElement} element @param {DocumentFragment} wanted
 */
function become(element, wanted) {
  let old = element.firstChild;
  for (let next = wanted.firstChild; old && next && old.isEqualNode(next); next = wanted.firstChild) {
    next.remove();
    old = old.nextSibling;
  }
  const next = wanted.firstChild;
  if (old instanceof Text && next instanceof Text && next.data.startsWith(old.data)) {
    old.appendData(next.data.slice(old.data.length));
    next.remove();
    old = old.nextSibling;
  }
  while (old) {
    const after = old.nextSibling;
    old.remove();
    old = after;
  }
  element.append(wanted);
}
