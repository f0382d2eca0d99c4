// The blocks of a text as a tree of plain values, made from the parser's tokens. rendered.js turns them into elements and
// compares them with existing elements. Pure.

/**
 * `lines`: the first line of the block in the parsed text, and the line after its last one.
 * @typedef {{ kind: "leaf", tag: string, side: string, source: string }} Leaf
 * `hasMore`: more children follow, which are not included here.
 * @typedef {{ kind: "item", task: boolean | undefined, children: Block[], lines: [number, number], hasMore?: boolean }} Item
 * @typedef {{ kind: "list", ordered: boolean, start: number, mark: string, loose: boolean, children: Item[],
 *   lines: [number, number], hasMore?: boolean }} List
 * @typedef {{ kind: "quote", children: Block[] }} Quote
 * @typedef {{ kind: "row", isHead: boolean, children: Leaf[] }} Row
 * @typedef {{ kind: "table", children: Row[], hasMore?: boolean }} Table
 * @typedef {{ kind: "code", info: string, fence: string, content: string }} Code
 * @typedef {{ kind: "rule" }} Rule
 * @typedef {{ kind: "definition", label: string }} Definition
 * @typedef {Leaf | Item | List | Quote | Row | Table | Code | Rule | Definition} Block
 * @typedef {Block & { lines: [number, number] }} Placed
 * @typedef {import("./parser.js").Token} Token
 */

// The page has its own h1, and each completion is below an h2.
const HEADING_LEVEL_FIRST = 3;
const TASK = /^\[([ xX])\][ \t\n]+/;

/**
 * The top-level blocks, in order.
 * @param {readonly Token[]} tokens @param {readonly string[]} lines of the parsed text
 * @returns {Placed[]}
 */
export function blocksOf(tokens, lines) {
  return new Reader(tokens, lines).until("");
}

/**
 * The last leaf of a block: the text that may still grow.
 * @param {Block | undefined} block @returns {Leaf | undefined}
 */
export function lastLeaf(block) {
  while (block && "children" in block) block = block.children.at(-1);
  return block?.kind === "leaf" ? block : undefined;
}

/** @param {readonly Item[]} items @param {readonly string[]} lines */
function hasGaps(items, lines) {
  const inner = items.flatMap((item) => /** @type {Placed[]} */ (item.children).slice(1));
  return [...items.slice(1), ...inner].some((block) => isBlank(lines[block.lines[0] - 1]));
}

/** @param {string | undefined} line */
function isBlank(line) {
  return line !== undefined && /^[ \t]*$/.test(line);
}

class Reader {
  #at = 0;
  /** @type {readonly Token[]} */
  #tokens;
  #lines;

  /** @param {readonly Token[]} tokens @param {readonly string[]} lines */
  constructor(tokens, lines) {
    this.#tokens = tokens;
    this.#lines = lines;
  }

  /** The blocks up to the token of this type, which is consumed. @param {string} end */
  until(end) {
    /** @type {Placed[]} */
    const blocks = [];
    for (let token = this.#next(); token && token.type !== end; token = this.#next()) {
      if (end && token.type === "reference_definition") continue;
      const lines = /** @type {[number, number]} */ (token.map ?? [0, 0]);
      blocks.push({ ...this.#block(token), lines });
    }
    return blocks;
  }

  #next() {
    return /** @type {Token | undefined} */ (this.#tokens[this.#at++]);
  }

  /** @param {Token} token @returns {Block} */
  #block(token) {
    switch (token.type) {
      case "paragraph_open":
        return this.#leaf("p");
      case "heading_open":
        return this.#leaf(`h${Math.min(Number(token.tag[1]) + HEADING_LEVEL_FIRST - 1, 6)}`);
      case "blockquote_open":
        return { kind: "quote", children: this.until("blockquote_close") };
      case "bullet_list_open":
      case "ordered_list_open":
        return this.#list(token);
      case "table_open":
        return { kind: "table", children: this.#rows() };
      case "hr":
        return { kind: "rule" };
      case "reference_definition":
        return { kind: "definition", label: String(token.meta?.label) };
      default: // fence, code_block
        return { kind: "code", info: token.info.trim(), fence: token.markup, content: token.content };
    }
  }

  /** @param {string} tag @param {string} [side] @returns {Leaf} */
  #leaf(tag, side = "") {
    const source = this.#next()?.content ?? "";
    this.#next();
    return { kind: "leaf", tag, side, source };
  }

  /** @param {Token} opening @returns {Block} */
  #list(opening) {
    const ordered = opening.type === "ordered_list_open";
    /** @type {Item[]} */
    const children = [];
    let loose = false;
    for (let token = this.#next(); token?.type === "list_item_open"; token = this.#next()) {
      const first = this.#at;
      const item = this.until("list_item_close");
      const isOwn = (/** @type {Token} */ { type, level }) => type === "paragraph_open" && level === token.level + 1;
      loose ||= this.#tokens.slice(first, this.#at).some((inner) => isOwn(inner) && !inner.hidden);
      children.push({ kind: "item", task: task(item[0]), children: item, lines: /** @type {[number, number]} */ (token.map) });
    }
    // The parser marks loose lists on their paragraphs. Blank lines decide for items without paragraphs.
    loose ||= hasGaps(children, this.#lines);
    const start = Number(opening.attrGet("start") ?? 1);
    return { kind: "list", ordered, start, mark: opening.markup, loose, children, lines: [0, 0] };
  }

  #rows() {
    /** @type {Row[]} */
    const rows = [];
    for (let token = this.#next(); token && token.type !== "table_close"; token = this.#next()) {
      if (token.type === "tr_open") rows.push(this.#row());
    }
    return rows;
  }

  /** @returns {Row} */
  #row() {
    /** @type {Leaf[]} */
    const children = [];
    let isHead = false;
    for (let token = this.#next(); token && token.type !== "tr_close"; token = this.#next()) {
      isHead ||= token.tag === "th";
      children.push(this.#leaf(token.tag, /\w+$/.exec(String(token.attrGet("style") ?? ""))?.[0] ?? ""));
    }
    // The parser pads rows with empty cells: with 100 columns, one-letter rows would grow a hundredfold. Drop the padding.
    while (!isHead && children.length > 1 && !children[children.length - 1].source) children.pop();
    return { kind: "row", isHead, children };
  }
}

/** Whether a task item is done (true) or open (false), undefined for other items; removes the mark. @param {Block | undefined} block */
function task(block) {
  const found = block?.kind === "leaf" && block.tag === "p" ? TASK.exec(block.source) : null;
  if (!found || block?.kind !== "leaf") return undefined;
  block.source = block.source.slice(found[0].length);
  return found[1] !== " ";
}
