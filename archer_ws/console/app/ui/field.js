// Fields that a person writes messages in: their height, and the focus, which goes to the field for the next message when
// what had it is gone.

// More than fits into the highest field: what is longer scrolls.
const COPIED_CHARS = 10_000;

/** The text by which a field's `.growing` makes it as high as its text (base.css). @param {string} text */
export const grownBy = (text) => text.slice(0, COPIED_CHARS);

/** Move the focus to the field of a conversation, once that is drawn. @param {string} id */
export function focusField(id) {
  // A touch would open the keyboard of the screen.
  if (matchMedia("(pointer: coarse)").matches) return;
  requestAnimationFrame(() => {
    const field = /** @type {HTMLElement | null | undefined} */ (
      document.getElementById(`pane-${id}`)?.querySelector(".composer > .growing > textarea")
    );
    field?.focus({ preventScroll: true });
  });
}
