// The items of a list that are open, one within the other: what is before the last item of the innermost list is settled,
// and the text from there on is parsed again below the first lines of the items that it is in. Pure.

/**
 * @typedef {import("./blocks.js").List} List
 * @typedef {import("./blocks.js").Placed} Placed
 *
 * `opening`: a line that begins the item and says nothing. `task`: as an Item has it.
 * @typedef {{ opening: string, task: boolean | undefined }} OpenItem
 */

// With a tab, or more spaces, where the item's text begins is not known from this line alone.
const MARK = /^ *(?:[-*+]|\d{1,9}[.)]) {1,4}(?=\S)/;
// An empty heading: unlike text, no line below it becomes a part of it.
const SAYS_NOTHING = "#";

/**
 * What can be settled of the last list of a text, and in which line the rest begins.
 * @param {List} list @param {readonly string[]} lines of the parsed text
 * @returns {{ settled: List, openItems: OpenItem[], line: number }}
 */
export function openTail(list, lines) {
  const before = list.children.slice(0, -1);
  const last = list.children[before.length];
  const [line] = last.lines;
  const inner = /** @type {Placed | undefined} */ (last.children.at(-1));
  const mark = MARK.exec(lines[line])?.[0];
  // A list that begins in the item's own line has no line to be parsed below.
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
