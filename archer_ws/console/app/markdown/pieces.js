// A paragraph of many thousand characters is shown in pieces, one below the other. Brackets and emphasis are matched only
// within a piece, which limits the work, and the page is laid out piece by piece. Pure.

const PIECE_MIN = 3000;
const PIECE_MAX = 4000;

/**
 * Split a text. When the text grows, all pieces but the last one stay the same.
 * @param {string} text
 */
export function piecesOf(text) {
  const pieces = [];
  let from = 0;
  while (text.length - from > PIECE_MAX) {
    const end = from + cutIn(text.slice(from, from + PIECE_MAX));
    pieces.push(text.slice(from, end));
    from = end;
  }
  pieces.push(text.slice(from));
  return pieces;
}

/** The best place to split: after a line, else a sentence, else a word. @param {string} text */
function cutIn(text) {
  const tail = text.slice(PIECE_MIN);
  for (const end of [/\n(?=[^\n]*$)/, /[.!?](?:[*_"')\]]*) (?=[^.!?]*$)|[\u3002\uff01\uff1f](?=[^\u3002\uff01\uff1f]*$)/, / (?=\S*$)/]) {
    const found = end.exec(tail);
    if (found) return PIECE_MIN + found.index + found[0].length;
  }
  return /[\ud800-\udbff]$/.test(text) ? text.length - 1 : text.length;
}
