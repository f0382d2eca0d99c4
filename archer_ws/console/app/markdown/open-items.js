// The open items of nested lists. Everything before the last item of the innermost list is settled; the text from there
// on is parsed again after the first lines of the items that contain it. Pure.

/**
 * @typedef {import("./blocks.js").List} List
 * @typedef {import("./blocks.js").Placed} Placed
 *
 * `opening`: a line that begins the item and has no content. `task`: as in Item.
 * @typedef {{ opening: string, task: boolean | undefined }} OpenItem
 */

// With a tab or more spaces, this line alone does not tell at which column the item's text begins.
const MARK = /^ *(?:[-*+]|\d{1,9}[.)]) {1,4}(?=\S)/;
// An empty heading: unlike text, no line below it becomes a part of it.
const SAYS_NOTHING = "#";

/**
 * The part of the last list that can be settled, and the line where the rest begins.
 * @param {List} list @param {readonly string[]} lines of the parsed text
 * @returns {{ settled: List, openItems: OpenItem[], line: number }}
 */
export function openTail(list, lines) {
  const before = list.children.slice(0, -1);
  const last = list.children[before.length];
  const [line] = last.lines;
  const inner = /** @type {Placed | undefined} */ (last.children.at(-1));
  const mark = MARK.exec(lines[line])?.[0];
  // A nested list that begins in the item's own line can't be parsed apart from it.
  if (inner?.kind !== "list" || inner.lines[0] === line || mark === undefined) {
    return { settled: { ...list, children: before, hasMore: true }, openItems: [], line };
  }
  const tail = openTail(inner, lines);
  const open = { ...last, children: [...last.children.slice(0, -1), tail.settled], hasMore: true };
  return {
    settled: { ...list, children: [...before, open], hasMore: true },
    openItems: [{ opening: mark + SAYS_NOTHING, task: last.task }, ...tail.openItems],
    line: tail.line,
  };
}

/**
 * The blocks of a text that was parsed below the lines of these items, as if those were not there.
 * @param {Placed[]} blocks @param {readonly OpenItem[]} openItems
 */
export function withoutHead(blocks, openItems) {
  let list = blocks[0];
  for (const { task } of openItems) {
    const item = /** @type {List} */ (list).children[0];
    item.task = task;
    item.children.shift();
    list = /** @type {Placed} */ (item.children[0]);
  }
  return blocks;
}
