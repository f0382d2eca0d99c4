// The direction of a text where `dir="auto"` does not tell it. Pure.

/** The blocks of the scripts that are written from right to left, within Unicode's first plane. */
const RIGHT_TO_LEFT = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]/;

/**
 * That of its first letter.
 * @param {string} text
 */
export function directionByLetter(text) {
  const [letter = ""] = /\p{L}/u.exec(text) ?? [];
  return RIGHT_TO_LEFT.test(letter) ? "rtl" : "ltr";
}
