// A table on the page. A long table is split into parts whose rows are laid out separately, with fixed column widths. If
// the widths depended on every row, each new row would cause a layout of the whole table.

import { directionByLetter } from "../letters.js";

/**
 * @typedef {import("./blocks.js").Block} Block
 * @typedef {import("./rendered.js").View} View
 * @typedef {import("./blocks.js").Leaf} Leaf
 * @typedef {import("./blocks.js").Row} Row
 * @typedef {import("./blocks.js").Table} Table
 * @typedef {import("./leaf.js").LeafView} LeafView
 * @typedef {(leaf: Leaf) => LeafView} MakeCell
 */

// A part has at most as many cells as can be laid out within one frame.
const PART_CELLS_MAX = 400;
const PART_ROWS_MAX = 50;

/** @implements {View} */
export class TableView {
  #table = document.createElement("table");
  #head;
  /** @type {RowView[]} */
  #open = [];
  /** How many rows are settled. */
  #count = 0;
  #makeCell;
  #rowsOfPart;

  /** @param {Table} block @param {MakeCell} makeCell */
  constructor(block, makeCell) {
    this.#makeCell = makeCell;
    this.element = document.createElement("div");
    this.element.className = "md-table";
    // A box that scrolls sideways must be reachable by keyboard.
    this.element.tabIndex = 0;
    this.#head = new RowView(block.children[0], makeCell);
    this.#table.createTHead().append(this.#head.element);
    this.element.append(this.#table);
    this.#direct(block.children[0]);
    const columns = block.children[0].children.length;
    this.#rowsOfPart = Math.max(1, Math.min(PART_ROWS_MAX, Math.floor(PART_CELLS_MAX / columns)));
  }

  /** Rows are added here, once the element is on the page. @param {Block} block */
  update(block) {
    if (block.kind !== "table" || block.children[0].children.length !== this.#head.length) return false;
    const [head, ...rows] = block.children;
    this.#head.update(head);
    this.#direct(head);
    rows.forEach((row, index) => {
      if (index < this.#open.length) return this.#open[index].update(row);
      this.#open.push(new RowView(row, this.#makeCell));
      this.#partOf(this.#count + index).append(this.#open[index].element);
    });
    if (!block.hasMore) this.#drop(rows.length);
    return true;
  }

  /** The columns follow each other in the direction of the head; each cell has its own. @param {Row} head */
  #direct({ children }) {
    const direction = directionByLetter(children.map(({ source }) => source).join(" "));
    if (this.element.dir !== direction) this.element.dir = direction;
  }

  settle() {
    this.#head.settle();
    this.settleRows(this.#open.length);
  }

  /** @param {number} count */
  settleRows(count) {
    for (const row of this.#open.splice(0, count)) row.settle();
    this.#count += count;
  }

  /** @param {number} count of the open rows that stay */
  #drop(count) {
    for (const { element } of this.#open.splice(count)) {
      const part = element.parentElement;
      element.remove();
      if (part?.childElementCount === 0) part.remove();
    }
    if (this.#table.tBodies.length < 2) this.#layInParts(false);
  }

  /** @param {number} index of a row */
  #partOf(index) {
    const part = this.#table.tBodies[Math.floor(index / this.#rowsOfPart)];
    if (part) return part;
    if (this.#table.tBodies.length === 1) this.#layInParts(true);
    return this.#table.createTBody();
  }

  /** @param {boolean} isLong */
  #layInParts(isLong) {
    if (this.#table.classList.contains("md-long") === isLong) return;
    if (!isLong) {
      this.#table.removeAttribute("class");
      return this.#table.style.removeProperty("--md-columns");
    }
    // Keep the widths of the first part, so that nothing moves. They are 0 if the page is not laid out.
    const widths = this.#head.cells.map((cell) => cell.getBoundingClientRect().width);
    const columns = widths.map((width) => (width > 0 ? `minmax(${width}px, ${width}fr)` : "minmax(8ch, 1fr)"));
    this.#table.style.setProperty("--md-columns", columns.join(" "));
    this.#table.className = "md-long";
  }
}

class RowView {
  element = document.createElement("tr");
  /** @type {LeafView[]} */
  #cells = [];
  #makeCell;

  /** @param {Row} row @param {MakeCell} makeCell */
  constructor(row, makeCell) {
    this.#makeCell = makeCell;
    this.update(row);
  }

  get length() {
    return this.#cells.length;
  }

  get cells() {
    return this.#cells.map(({ element }) => element);
  }

  /** @param {Row} row */
  update({ children }) {
    children.forEach((leaf, index) => {
      if (index < this.#cells.length && this.#cells[index].update(leaf)) return;
      const cell = this.#makeCell(leaf);
      if (index < this.#cells.length) this.#cells[index].element.replaceWith(cell.element);
      else this.element.append(cell.element);
      this.#cells[index] = cell;
    });
    for (const cell of this.#cells.splice(children.length)) cell.element.remove();
  }

  settle() {
    for (const cell of this.#cells) cell.settle();
  }
}
