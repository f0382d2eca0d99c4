// A growing text: which of its blocks are final whatever follows (settled), and which may still change (open).
//
// A block is settled once another one has begun after it. In a long list or table, the items and rows before the last one
// are settled, too (also in a list within the last item), and so are the lines of an open code block as they arrive. So
// only a short text is parsed again with each piece, however long the completion. In the end the result is the same as
// if the whole text were parsed at once.

import { blocksOf, lastLeaf } from "./blocks.js";
import { calmed, shownLines } from "./calm.js";
import { openTail, withoutHead } from "./open-items.js";
import { parseBlocks } from "./parser.js";
import { piecesOf } from "./pieces.js";

/**
 * @typedef {import("./blocks.js").Block} Block
 * @typedef {import("./blocks.js").Placed} Placed
 * @typedef {import("./definitions.js").Definitions} Definitions
 *
 * The view of the blocks. Indexes count from the first block that is not settled.
 * @typedef {object} Shown
 * @property {(blocks: readonly Block[], isAll: boolean) => void} patch makes the open blocks be these; if they are not
 *   all, the ones after them stay, and so do further children of a block that `hasMore`
 * @property {(count: number) => void} settle the first ones change no more
 * @property {(count: number) => void} settleRows the first ones of the first one, which is a table
 * @property {(list: import("./blocks.js").List) => void} settleTail all items of the first one that `list` has, which was
 *   patched; of an item that `hasMore`, only its children, by the same rule
 * @property {(text: string) => void} extendCode the first one, which is code, goes on
 */

// The parser ends a table after it has added 65,536 padding cells: this many lines of at most 100 columns have fewer.
const LINES_AT_ONCE = 500;
const FENCE_HELD = /^ {0,3}(?:`*|~*)[ \t]*$/;

// A table's head, and the line below it.
const HEAD_LINES = 2;

/**
 * `before`: how many lines of the head stand before the open text. `offset`: where a line begins in the open text.
 * `labels`: what is defined, and in which line.
 * @typedef {{ blocks: Placed[], lines: string[], before: number, labels: { line: number, label: string }[],
 *   offset: (line: number) => number }} Parsed
 *
 * `shown`: how much of the line that has no end yet.
 * @typedef {{ mark: string, shown: number }} Fence
 */

export class Growing {
  /** The text from the first line that is not settled. */
  #text = "";
  /** How many of its characters were processed, in whole lines. */
  #known = 0;
  /** Lines parsed before the open text: the head of the table, or the first lines of the list items, that it is part of. */
  #head = "";
  /** Those items, the outermost first. @type {import("./open-items.js").OpenItem[]} */
  #openItems = [];
  /** @type {Fence | undefined} */
  #fence;
  /** A trailing character that may be incomplete. */
  #held = "";
  #display = "";
  #shown;
  #definitions;

  /** @param {Shown} shown @param {Definitions} definitions */
  constructor(shown, definitions) {
    this.#shown = shown;
    this.#definitions = definitions;
  }

  /** How many characters are parsed again with the next piece. */
  get openLength() {
    return this.#fence ? 0 : this.#text.length;
  }

  /** @param {string} piece */
  append(piece) {
    const text = this.#held + piece;
    // Half of a CRLF, or half of a surrogate pair.
    this.#held = /[\r\ud800-\udbff]$/.exec(text)?.[0] ?? "";
    this.#add(text.slice(0, text.length - this.#held.length));
    while (this.#settleSome(false));
    this.#showOpen();
  }

  /** The text is complete. */
  end() {
    this.#add(this.#held);
    while (this.#settleSome(true));
    this.#shown.settle(Infinity);
    this.#definitions.end();
  }

  /** @param {string} text */
  #add(text) {
    this.#text += text.replace(/\r\n?/g, "\n").replaceAll("\0", "\ufffd");
  }

  /**
   * Process the next lines; false if there are none.
   * @param {boolean} isEnd
   */
  #settleSome(isEnd) {
    if (this.#fence) return this.#text !== "" && this.#readCode(this.#fence, isEnd);
    const end = this.#linesEnd(isEnd);
    if (end === this.#known && !(isEnd && this.#text)) return false;
    const parsed = this.#parse(this.#text.slice(0, end));
    const { blocks } = parsed;
    const isAll = isEnd && end === this.#text.length;
    const count = isAll ? blocks.length : settledOf(blocks);
    const settled = blocks.slice(0, count).filter(hasElement);
    this.#shown.patch(settled, isAll);
    this.#shown.settle(settled.length);
    if (count > 0) this.#setHead("");
    const open = /** @type {Placed | undefined} */ (blocks[count]);
    const first = isAll ? Infinity : open ? this.#open(open, parsed, count === blocks.length - 1) : 0;
    this.#definitions.settle(parsed.labels.filter(({ line }) => line < first).map(({ label }) => label));
    const cut = Math.min(parsed.offset(first), end);
    this.#text = this.#text.slice(cut);
    this.#known = end - cut;
    return true;
  }

  /** The end of the lines to be processed. @param {boolean} isEnd */
  #linesEnd(isEnd) {
    let end = this.#known;
    for (let count = 0; count < LINES_AT_ONCE; count += 1) {
      const next = this.#text.indexOf("\n", end);
      if (next < 0) return isEnd ? this.#text.length : end;
      end = next + 1;
    }
    return end;
  }

  /** @param {string} text of the open lines @returns {Parsed} */
  #parse(text) {
    const lines = (this.#head + text).split("\n");
    const { tokens, references } = parseBlocks(this.#head + text);
    this.#definitions.show(references);
    const defining = tokens.filter(({ type }) => type === "reference_definition");
    const before = this.#head.split("\n").length - 1;
    return {
      blocks: withoutHead(blocksOf(tokens, lines), this.#openItems),
      lines,
      before,
      labels: defining.map(({ map, meta }) => ({ line: map?.[0] ?? 0, label: String(meta?.label) })),
      offset: (line) => lines.slice(before, line).reduce((sum, { length }) => sum + length + 1, 0),
    };
  }

  /**
   * Settle what can be of the first block that is not settled as a whole.
   * @param {Placed} block @param {Parsed} parsed @param {boolean} isLast
   * @returns {number} the first line that is not settled
   */
  #open(block, { lines, before }, isLast) {
    const [first, end] = block.lines;
    if (!isLast) return first;
    switch (block.kind) {
      case "list": {
        const { settled, openItems, line } = openTail(block, lines);
        this.#shown.patch([settled], false);
        this.#shown.settleTail(settled);
        // In the head's own lines nothing new is settled.
        if (line >= before) this.#setHead(openItems.map(({ opening }) => `${opening}\n`).join(""), openItems);
        return line;
      }
      case "table":
        this.#shown.patch([{ ...block, hasMore: true }], false);
        this.#shown.settleRows(block.children.length - 1);
        this.#setHead(lines.slice(first, first + HEAD_LINES).map((line) => `${line}\n`).join(""));
        return end;
      case "code": {
        const mark = /^(`{3,}|~{3,})/.exec(lines[first])?.[0];
        if (!mark || (end - first > 1 && closes(lines[end - 1], mark))) return first;
        this.#shown.patch([block], true);
        this.#fence = { mark, shown: 0 };
        return end;
      }
      default:
        return first;
    }
  }

  /** @param {string} head @param {import("./open-items.js").OpenItem[]} [openItems] */
  #setHead(head, openItems = []) {
    this.#head = head;
    this.#openItems = openItems;
  }

  /** Process the lines of an open code block; false if there are none left. @param {Fence} fence @param {boolean} isEnd */
  #readCode(fence, isEnd) {
    let code = "";
    let at = 0;
    for (let next = this.#text.indexOf("\n"); ; next = this.#text.indexOf("\n", at)) {
      const isWhole = next >= 0 || isEnd;
      const line = next < 0 ? this.#text.slice(at) : this.#text.slice(at, next);
      const isClosed = isWhole && closes(line, fence.mark);
      // Blanks after the last line end are not a line.
      const isLine = next >= 0 || (isEnd ? /[^ \t]/.test(line) : !FENCE_HELD.test(line));
      if (!isClosed && isLine) {
        code += line.slice(fence.shown) + (next < 0 ? "" : "\n");
        fence.shown = next < 0 ? line.length : 0;
      }
      at = next < 0 ? (isWhole ? this.#text.length : at) : next + 1;
      if (!isClosed && next >= 0) continue;
      this.#shown.extendCode(code);
      this.#text = this.#text.slice(at);
      if (isClosed || isEnd) {
        this.#shown.settle(1);
        this.#fence = undefined;
      }
      return isClosed;
    }
  }

  #showOpen() {
    if (this.#fence) return;
    const text = shownLines(this.#text, this.#head !== "" && this.#openItems.length === 0);
    if (this.#head + text === this.#display) return;
    this.#display = this.#head + text;
    const { blocks } = this.#parse(text);
    const last = lastLeaf(blocks.at(-1));
    if (last) {
      const pieces = piecesOf(last.source);
      last.source = pieces.slice(0, -1).join("") + calmed(pieces[pieces.length - 1]);
    }
    this.#shown.patch(blocks.filter(hasElement), true);
  }
}

/**
 * How many blocks nothing can change that follows: those before the last one. But what stands right below a definition
 * may yet be the rest of it.
 * @param {readonly Placed[]} blocks
 */
function settledOf(blocks) {
  let count = Math.max(blocks.length - 1, 0);
  const isJoined = () => blocks[count - 1].kind === "definition" && blocks[count - 1].lines[1] === blocks[count].lines[0];
  while (count > 0 && isJoined()) count -= 1;
  return count;
}

/** @param {Block} block */
function hasElement(block) {
  return block.kind !== "definition";
}

/** @param {string} line @param {string} mark */
function closes(line, mark) {
  const run = /^ {0,3}(`{3,}|~{3,})[ \t]*$/.exec(line)?.[1];
  return run !== undefined && run[0] === mark[0] && run.length >= mark.length;
}
