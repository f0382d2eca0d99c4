// How a text looks while it is written: what is half there does not show as what it will not be. Pure.
//
// Emphasis and code that are open at the end are closed for the time being. What may yet become a link, a mark or a
// fence is held back, and never for more characters than HELD_MAX: in the end all is shown as it was written.

const HELD_MAX = 160;
// The head of a table is a line that can be long, and no table before the line below it.
const HELD_HEAD_MAX = 1000;
// Open code is shown as code; but a backtick that nothing has followed for so long will not be closed.
const CODE_HELD_MAX = 640;

/** @typedef {{ at: number, run: string }} Mark */

// Of a line: nothing but what marks blocks, or as much of it as may become one.
const MARKS_ALONE = /^(?:[ \t]|[-*+=_~`#|:>]|\d{1,9}[.)]?(?=\s|$))*$/;
const FENCE_OPENS = /^[ \t>]*(?:(?:[-*+]|\d{1,9}[.)])[ \t]+)*(?:`{3,}|~{3,})/;
// A definition of links shows as nothing once it is whole.
const DEFINES = /^ {0,3}\[[^\]]*(?:\](?::.*)?)?$/;

/**
 * The part of an open text that is shown.
 * @param {string} text whose last line may not be complete
 * @param {boolean} isInTable the last line is one of a table
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
 * A paragraph's text so far, with what is open at its end closed or held back.
 * @param {string} text
 */
export function calmed(text) {
  /** @type {Mark[]} */
  const marks = [];
  /** @type {number[]} */
  const brackets = [];
  // From here on, it may yet become something.
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
  // A run of them at the end may be the one that closes it.
  const inside = text.slice(at + run.length).replace(/`+$/, "");
  return closed(inside.trim() ? text.slice(0, at) + run + inside + run : text.slice(0, at), marks);
}

/**
 * The text with its marks closed; behind a space they would close nothing.
 * @param {string} text @param {Mark[]} marks
 */
function closed(text, marks) {
  const kept = text.trimEnd();
  const open = marks.filter(({ at, run }) => at + run.length < kept.length);
  if (open.length === marks.length && open.length === 0) return text;
  // A mark with nothing behind it is not there yet.
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
 * Behind the run of backticks that closes one, or -1.
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
 * Note that emphasis opens or closes here, as far as its neighbours tell.
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
 * Whether what begins here, behind a pair of brackets, is not yet what makes a link of them, or no link.
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
