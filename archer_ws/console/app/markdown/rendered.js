// Blocks as elements, and their updates: only differences are changed, so that nothing flickers, and a selection or a
// loaded picture stays.

import { CodeView } from "./code.js";
import { LeafView } from "./leaf.js";
import { TableView } from "./table.js";

/**
 * @typedef {import("./blocks.js").Block} Block
 * @typedef {import("./blocks.js").Item} Item
 * @typedef {import("./blocks.js").List} List
 * @typedef {import("./blocks.js").Quote} Quote
 * @typedef {import("./inline.js").Context & { definitions: import("./definitions.js").Definitions,
 *   highlighted: (code: CodeView) => void }} ViewContext
 *
 * A block on the page. `update` changes it into another block, or returns false if it can't. If the block `hasMore`, the
 * children after the given ones stay.
 * @typedef {{ element: HTMLElement, update(block: Block): boolean, settle(): void }} View
 */

/** The views in an element that may still change, in order. Settled content precedes them. */
export class Children {
  /** @type {View[]} */
  #open = [];
  #parent;
  #context;

  /** @param {HTMLElement} parent @param {ViewContext} context */
  constructor(parent, context) {
    this.#parent = parent;
    this.#context = context;
  }

  /**
   * @param {readonly Block[]} blocks
   * @param {boolean} isAll whether these are all: others after them are removed
   */
  patch(blocks, isAll) {
    blocks.forEach((block, index) => {
      const old = /** @type {View | undefined} */ (this.#open[index]);
      if (old?.update(block)) return;
      const made = viewOf(block, this.#context);
      if (old) old.element.replaceWith(made.element);
      else this.#parent.append(made.element);
      this.#open[index] = made;
      // Where the first part of its rows is laid out, the width of its columns can be seen.
      if (made instanceof TableView) made.update(block);
    });
    if (isAll) for (const view of this.#open.splice(blocks.length)) view.element.remove();
  }

  /** @param {number} [count] of the first ones; all */
  settle(count = this.#open.length) {
    for (const view of this.#open.splice(0, count)) view.settle();
  }

  /** @param {number} count */
  settleRows(count) {
    const view = this.#open[0];
    if (view instanceof TableView) view.settleRows(count);
  }

  /** @param {List} list */
  settleTail(list) {
    const view = this.#open[0];
    if (view instanceof ListView) view.settleTail(list);
  }

  /** @param {Item} item */
  settleChildrenOf(item) {
    const view = this.#open[0];
    if (view instanceof ItemView) view.settleTail(item);
  }

  /** @param {string} text */
  extendCode(text) {
    const view = this.#open[0];
    if (view instanceof CodeView) view.append(text);
  }
}

/** @param {Block} block @param {ViewContext} context @returns {View} */
function viewOf(block, context) {
  switch (block.kind) {
    case "leaf":
      return new LeafView(block, context);
    case "item":
      return new ItemView(block, context);
    case "list":
      return new ListView(block, context);
    case "quote":
      return new QuoteView(block, context);
    case "table":
      return new TableView(block, (leaf) => new LeafView(leaf, context));
    case "code":
      return new CodeView(block, context);
    default:
      return new RuleView();
  }
}

/** @implements {View} */
class ItemView {
  #task;
  #children;

  /** @param {Item} block @param {ViewContext} context */
  constructor(block, context) {
    this.#task = block.task;
    this.element = document.createElement("li");
    if (block.task !== undefined) {
      this.element.className = "md-to-do";
      this.element.append(box(block.task, context));
    }
    this.#children = new Children(this.element, context);
    this.#children.patch(block.children, true);
  }

  /** @param {Block} block */
  update(block) {
    if (block.kind !== "item" || block.task !== this.#task) return false;
    this.#children.patch(block.children, !block.hasMore);
    return true;
  }

  settle() {
    this.#children.settle();
  }

  /** @param {Item} item whose last child is a list that goes on */
  settleTail({ children }) {
    this.#children.settle(children.length - 1);
    this.#children.settleTail(/** @type {List} */ (children.at(-1)));
  }
}

/** @param {boolean} isDone @param {ViewContext} context */
function box(isDone, { strings }) {
  const element = document.createElement("input");
  element.type = "checkbox";
  element.className = "md-task";
  element.disabled = true;
  element.toggleAttribute("checked", isDone);
  element.ariaLabel = isDone ? strings.done : strings.open;
  return element;
}

/** @implements {View} */
class ListView {
  #block;
  #children;
  #hasSettled = false;
  #isLoose = false;

  /** @param {List} block @param {ViewContext} context */
  constructor(block, context) {
    this.#block = block;
    const element = document.createElement(block.ordered ? "ol" : "ul");
    if (element instanceof HTMLOListElement && block.start !== 1) element.start = block.start;
    element.dir = "auto";
    this.element = /** @type {HTMLElement} */ (element);
    this.#children = new Children(this.element, context);
    this.#patch(block);
  }

  /** @param {Block} block */
  update(block) {
    if (block.kind !== "list" || block.ordered !== this.#block.ordered || block.mark !== this.#block.mark) return false;
    // The numbers of items after settled ones are ignored.
    if (!this.#hasSettled && block.start !== this.#block.start) return false;
    this.#patch(block);
    return true;
  }

  settle() {
    this.#children.settle();
  }

  /** @param {List} list which goes on */
  settleTail({ children }) {
    if (children.length === 0) return;
    const last = /** @type {Item} */ (children.at(-1));
    const count = last.hasMore ? children.length - 1 : children.length;
    this.#hasSettled ||= count > 0;
    this.#isLoose ||= this.#block.loose;
    this.#children.settle(count);
    if (last.hasMore) this.#children.settleChildrenOf(last);
  }

  /** @param {List} block */
  #patch(block) {
    this.#block = block;
    this.element.classList.toggle("md-loose", this.#isLoose || block.loose);
    if (!this.element.classList.length) this.element.removeAttribute("class");
    this.#children.patch(block.children, !block.hasMore);
  }
}

/** @implements {View} */
class QuoteView {
  #children;

  /** @param {Quote} block @param {ViewContext} context */
  constructor(block, context) {
    this.element = document.createElement("blockquote");
    this.element.dir = "auto";
    this.#children = new Children(this.element, context);
    this.#children.patch(block.children, true);
  }

  /** @param {Block} block */
  update(block) {
    if (block.kind !== "quote") return false;
    this.#children.patch(block.children, true);
    return true;
  }

  settle() {
    this.#children.settle();
  }
}

/** @implements {View} */
class RuleView {
  element = document.createElement("hr");

  /** @param {Block} block */
  update(block) {
    return block.kind === "rule";
  }

  settle() {}
}
