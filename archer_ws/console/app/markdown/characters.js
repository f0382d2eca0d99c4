// Appends text to the page. Characters that would reorder or hide the text around them are shown by name.
//
// The character itself stays in the page, alone in an isolate, so that copied text is the original text
// (https://trojansource.codes; tags: Unicode Technical Standard 51 allows them only after a black flag).

// Embeddings, overrides and isolates, and control characters that have no use in text.
const CONTROLS = "\\u0000-\\u0008\\u000b-\\u001f\\u007f-\\u009f\\u202a-\\u202e\\u2066-\\u2069";
const TAGS = "\\u{e0000}-\\u{e007f}";
// Tags after a black flag spell the flag's region.
const SPECIAL = new RegExp(`(?:[${CONTROLS}]|(?<!\\u{1f3f4}[${TAGS}]{0,6})[${TAGS}])+`, "gu");
// In code every character matters, so zero-width characters are included.
const SPECIAL_IN_CODE = new RegExp(`[${CONTROLS}${TAGS}\\u061c\\u200b\\u200e\\u200f\\u2060\\ufeff]+`, "gu");
const NAMED_MAX = 3;

/**
 * Append a text to an element, continuing the text there.
 * @param {Node} parent @param {string} text @param {boolean} [isCode]
 */
export function appendText(parent, text, isCode = false) {
  let done = 0;
  for (const match of text.matchAll(isCode ? SPECIAL_IN_CODE : SPECIAL)) {
    appendPlain(parent, text.slice(done, match.index));
    appendSpecial(parent, match[0]);
    done = match.index + match[0].length;
  }
  appendPlain(parent, done ? text.slice(done) : text);
}

/** @param {Node} parent @param {string} characters */
function appendSpecial(parent, characters) {
  const last = parent.lastChild;
  const isMark = last instanceof HTMLElement && last.className === "md-control";
  const mark = isMark ? last : document.createElement("span");
  mark.className = "md-control";
  mark.textContent += characters;
  const codes = Array.from((mark.textContent ?? "").slice(0, 2 * NAMED_MAX + 2), (one) => one.codePointAt(0) ?? 0);
  const names = codes.map((code) => `U+${code.toString(16).toUpperCase().padStart(4, "0")}`);
  mark.dataset.name = names.slice(0, NAMED_MAX).join(" ") + (names.length > NAMED_MAX ? " …" : "");
  parent.appendChild(mark);
}

/** @param {Node} parent @param {string} text */
function appendPlain(parent, text) {
  if (!text) return;
  const last = parent.lastChild;
  if (last instanceof Text) last.appendData(text);
  else parent.appendChild(document.createTextNode(text));
}
