// markdown-it as an answer needs it: what it parses, and the limits within which a model's text stays harmless.
//
// Blocks and what is inside of them are parsed apart, so that a block which has not changed is not parsed again. No HTML
// comes out of it: the nodes are made from the tokens (inline.js, rendered.js).

import MarkdownIt from "../vendor/markdown-it.js";

/**
 * @typedef {import("../vendor/markdown-it.js").Token} Token
 * @typedef {{ href: string, title: string }} Reference
 * @typedef {(label: string) => Reference | undefined} Resolve
 */

// Quotes and lists within each other, two levels each but for quotes; deeper text is shown as it is written.
const BLOCK_DEPTH_MAX = 32;
// A row of a table makes as many elements: beyond, it is text.
const COLUMNS_MAX = 100;
// What such a line begins is known from it alone, and not from the one below it, which might make it a table's head.
const BEGINS_OTHER = /^(?:>|#{1,6}[ \t]|[-*+][ \t]|\d{1,9}[.)][ \t]|`{3}|~{3})/;

const md = new MarkdownIt({ html: false, linkify: true, maxNesting: 100 });
// A name with a dot in it is a file more often than a host. What remains is what addresses.js lets through.
md.linkify.set({ fuzzyLink: false, fuzzyEmail: false });
md.linkify.add("ftp:", null).add("//", null);
// Whether an address may be used is decided where the element is made; here, anything may stand.
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
 * The blocks of a text, of which nothing within paragraphs is parsed; and what it defines for links.
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
 * What stands in a paragraph, a cell or a heading.
 * @param {string} text @param {Resolve} resolve is asked for each label that stands in brackets
 * @returns {Token[]}
 */
export function parseInline(text, resolve) {
  /** @type {Record<string, Reference>} */
  const references = new Proxy({}, { get: (_, label) => (typeof label === "string" ? resolve(label) : undefined) });
  return md.parseInline(text, { references })[0]?.children ?? [];
}
