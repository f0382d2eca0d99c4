// markdown-it configured for completions: the syntax, and the limits that keep a model's text harmless.
//
// Blocks and their inline content are parsed separately, so that an unchanged block is not parsed again. The output is
// tokens, never HTML; inline.js and rendered.js make nodes from them.

import MarkdownIt from "../vendor/markdown-it.js";

/**
 * @typedef {import("../vendor/markdown-it.js").Token} Token
 * @typedef {{ href: string, title: string }} Reference
 * @typedef {(label: string) => Reference | undefined} Resolve
 */

// Nesting limit: a list takes two levels, a quote one. Deeper text is shown as it was written.
const BLOCK_DEPTH_MAX = 32;
// Columns of a table, as each row makes this many elements. A wider table is shown as text.
const COLUMNS_MAX = 100;
// A line that begins another block by itself: the line below it can't make it a table's head.
const BEGINS_OTHER = /^(?:>|#{1,6}[ \t]|[-*+][ \t]|\d{1,9}[.)][ \t]|`{3}|~{3})/;

const md = new MarkdownIt({ html: false, linkify: true, maxNesting: 100 });
// A bare name with a dot is more often a file than a host. The remaining links are those that addresses.js allows.
md.linkify.set({ fuzzyLink: false, fuzzyEmail: false });
md.linkify.add("ftp:", null).add("//", null);
// The parser accepts every address; addresses.js decides when the element is made.
md.validateLink = () => true;

const { ruler } = md.block;
ruler.before("table", "too_deep", (state, startLine, endLine, silent) => {
  if (silent || state.level < BLOCK_DEPTH_MAX) return false;
  const token = state.push("code_block", "code", 0);
  token.content = state.getLines(startLine, endLine, state.blkIndent, true);
  token.map = [startLine, endLine];
  state.line = endLine;
  return true;
});
const [, table] = ruler.getRules("");
ruler.at(
  "table",
  (state, startLine, endLine, silent) => {
    const head = state.src.slice(state.bMarks[startLine] + state.tShift[startLine], state.eMarks[startLine]);
    const columns = head.split("|", COLUMNS_MAX + 3).length;
    if (columns < 2 || columns > COLUMNS_MAX + 2 || BEGINS_OTHER.test(head)) return false;
    return table(state, startLine, endLine, silent);
  },
  { alt: ["paragraph", "reference"] },
);

/**
 * The blocks of a text, without parsing their inline content, and its link definitions.
 * @param {string} text normalised: lines end with "\n"
 * @returns {{ tokens: Token[], references: Map<string, Reference> }}
 */
export function parseBlocks(text) {
  /** @type {Token[]} */
  const tokens = [];
  /** @type {Record<string, Reference>} */
  const references = Object.create(null);
  md.block.parse(text, md, { references }, tokens);
  return { tokens, references: new Map(Object.entries(references)) };
}

/**
 * The inline content of a paragraph, a cell or a heading.
 * @param {string} text @param {Resolve} resolve called for each label in brackets
 * @returns {Token[]}
 */
export function parseInline(text, resolve) {
  /** @type {Record<string, Reference>} */
  const references = new Proxy({}, { get: (_, label) => (typeof label === "string" ? resolve(label) : undefined) });
  return md.parseInline(text, { references })[0]?.children ?? [];
}
