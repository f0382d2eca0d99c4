// Text on its way to the page: characters that would reorder or hide what stands beside them are shown by their names.
//
// The character itself stays, alone in an isolate, so that a copy of the text is the text (https://trojansource.codes;
// tags: Unicode Technical Standard 51, which wants them behind a black flag and nowhere else).

// Embeddings, overrides and isolates, and what no text has but to disturb one that reads it.
const CONTROLS = "\\u0000-\\u0008\\u000b-\\u001f\\u007f-\\u009f\\u202a-\\u202e\\u2066-\\u2069";
const TAGS = "\\u{e0000}-\\u{e007f}";
// Tags behind a black flag spell whose it is.
const SPECIAL = new RegExp(`[${CONTROLS}]|(?<!\\u{1f3f4}[${TAGS}]{0,6})[${TAGS}]`, "gu");
// Where each character counts: what has no width, too.
const SPECIAL_IN_CODE = new RegExp(`[${CONTROLS}${TAGS}\\u061c\\u200b\\u200e\\u200f\\u2060\\ufeff]`, "gu");

/**
 * Put a text at the end of an element; it continues the text that stands there.
 * @param {Node} parent @param {string} text @param {boolean} [isCode]
 */
export function appendText(parent, text, isCode = false) {
  let done = 0;
  for (const match of text.matchAll(isCode ? SPECIAL_IN_CODE : SPECIAL)) {
    appendPlain(parent, text.slice(done, match.index));
    const mark = document.createElement("span");
    mark.className = "md-control";
    const code = /** @type {number} */ (match[0].codePointAt(0));
    mark.dataset.name = `U+${code.toString(16).toUpperCase().padStart(4, "0")}`;
    mark.textContent = match[0];
    parent.appendChild(mark);
    done = match.index + match[0].length;
  }
  appendPlain(parent, done ? text.slice(done) : text);
}

/** @param {Node} parent @param {string} text */
function appendPlain(parent, text) {
  if (!text) return;
  const last = parent.lastChild;
  if (last instanceof Text) last.appendData(text);
  else parent.appendChild(document.createTextNode(text));
}
