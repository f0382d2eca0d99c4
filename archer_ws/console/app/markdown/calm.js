// How an incomplete text is shown: unfinished Markdown does not flash up as something it will not be. Pure.
//
// Emphasis and code that are open at the end are closed provisionally. Text that may become a link, a mark or a fence is
// held back for at most HELD_MAX characters. The final text is always shown as it was written.

const HELD_MAX = 160;
// The head of a table can be a long line, and it becomes a table only with the line below it.
const HELD_HEAD_MAX = 1000;
// Open code is shown as code, but a backtick that is still open after this many characters is taken as text.
const CODE_HELD_MAX = 640;

/** @typedef {{ at: number, run: string }} Mark */

// A line that contains only block markers, or the beginning of one.
const MARKS_ALONE = /^(?:[ \t]|[-*+=_~`#|:>]|\d{1,9}[.)]?(?=\s|$))*$/;
const FENCE_OPENS = /^[ \t>]*(?:(?:[-*+]|\d{1,9}[.)])[ \t]+)*(?:`{3,}|~{3,})/;
// A link definition is invisible once it is complete.
const DEFINES = /^ {0,3}\[[^\]]*(?:\](?::.*)?)?$/;

/**
 * The part of an incomplete text that is shown.
 * @param {string} text whose last line may not be complete
 * @param {boolean} isInTable whether the last line belongs to a table
 */
export function shownLines(text, isInTable) {
  const start = text.lastIndexOf("\n") + 1;
  const line = text.slice(start);
  const isHeld =
    (line.length <= HELD_MAX && (MARKS_ALONE.test(line) || FENCE_OPENS.test(line) || DEFINES.test(line))) ||
    (!isInTable && line.length <= HELD_HEAD_MAX && line.startsWith("|"));
  let shown = isHeld ? text.slice(0, start) : text;
  if (isInTable || !isHeld || start === 0) return shown;
  // The line before may be a table's head, whose second line has just begun.
  const before = shown.lastIndexOf("\n", shown.length - 2) + 1;
  if (shown.startsWith("|", before) && shown.length - before <= HELD_HEAD_MAX) shown = shown.slice(0, before);
  return shown;
}

/**
 * A paragraph's text so far, with open marks at its end closed or held back.
 * @param {string} text
 */
export function calmed(text) {
  /** @type {Mark[]} */
  const marks = [];
  /** @type {number[]} */
  const brackets = [];
  // Text from here on is held back.
  let held = text.length;
  for (let at = 0; at < text.length && held === text.length; ) {
    switch (text[at]) {
      case "\\":
        if (at + 1 === text.length) held = at;
        at += 2;
        continue;
      case "`": {
        const run = runAt(text, at);
        const end = closing(text, at + run.length, run);
        if (end < 0 && text.length - at <= CODE_HELD_MAX) return openCode(text, at, run, marks);
        at = end < 0 ? at + run.length : end;
        continue;
      }
      case "*":
      case "_":
      case "~": {
        const run = runAt(text, at);
        if (at + run.length === text.length) held = at;
        else note({ at, run }, text, marks);
        at += run.length;
        continue;
      }
      case "[":
        brackets.push(text[at - 1] === "!" ? at - 1 : at);
        break;
      case "]": {
        const open = brackets.pop();
        if (open !== undefined && mayBecomeLink(text, at + 1)) held = open;
      }
    }
    at += 1;
  }
  const tail = /(?:&#?\w{0,30}|<[a-z][\w.+:/@-]*|!)$/i.exec(text.slice(-HELD_MAX));
  held = Math.min(held, brackets.at(-1) ?? held, tail ? text.length - tail[0].length : held);
  if (text.length - held > HELD_MAX) held = text.length;
  return closed(text.slice(0, held), marks);
}

/** @param {string} text @param {number} at @param {string} run @param {Mark[]} marks */
function openCode(text, at, run, marks) {
  // Backticks at the end may be the beginning of the closing run.
  const inside = text.slice(at + run.length).replace(/`+$/, "");
  return closed(inside.trim() ? text.slice(0, at) + run + inside + run : text.slice(0, at), marks);
}

/**
 * The text with its marks closed. Trailing space is removed, because marks after a space close nothing.
 * @param {string} text @param {Mark[]} marks
 */
function closed(text, marks) {
  const kept = text.trimEnd();
  const open = marks.filter(({ at, run }) => at + run.length < kept.length);
  if (open.length === marks.length && open.length === 0) return text;
  // A mark with no text after it is not shown yet.
  const end = marks.find(({ at, run }) => at + run.length >= kept.length)?.at ?? kept.length;
  return kept.slice(0, end).trimEnd() + open.reverse().map(({ run }) => run).join("");
}

/** @param {string} text @param {number} at */
function runAt(text, at) {
  let end = at + 1;
  while (text[end] === text[at]) end += 1;
  return text.slice(at, end);
}

/**
 * The index after the closing run of backticks, or -1.
 * @param {string} text @param {number} from @param {string} run
 */
function closing(text, from, run) {
  for (let at = text.indexOf("`", from); at >= 0; ) {
    const found = runAt(text, at);
    at += found.length;
    if (found === run) return at;
    at = text.indexOf("`", at);
  }
  return -1;
}

/**
 * Note that emphasis opens or closes here, judged by the neighbouring characters.
 * @param {Mark} mark @param {string} text @param {Mark[]} marks
 */
function note({ at, run }, text, marks) {
  if (run[0] === "~" ? run.length !== 2 : run.length > 3) return;
  const before = text[at - 1] ?? " ";
  const after = text[at + run.length];
  const known = marks.findLastIndex((mark) => mark.run === run);
  if (!/\s/.test(before) && known >= 0) marks.length = known;
  else if (!/\s/.test(after) && (run[0] === "*" || !/[\p{L}\p{N}]/u.test(before))) marks.push({ at, run });
}

/**
 * Whether the text after a pair of brackets may still make them a link: it is not decided yet.
 * @param {string} text @param {number} at
 */
function mayBecomeLink(text, at) {
  if (at === text.length) return true;
  if (text[at] === "[") return text.indexOf("]", at) < 0;
  if (text[at] !== "(") return false;
  let depth = 0;
  for (let next = at; next < text.length; next += 1) {
    if (text[next] === "(") depth += 1;
    else if (text[next] === ")" && --depth === 0) return false;
    else if (text[next] === "\\") next += 1;
  }
  return true;
}
