// Whether a key belongs to an input method, as for Japanese: there Enter and Esc end the composition, and nothing else.

/** @param {KeyboardEvent} event */
export function isComposing({ isComposing, keyCode }) {
  // Safari reports the Enter that ends a composition after its end, but with the code of such keys (UI Events, 229).
  return isComposing || keyCode === 229;
}
