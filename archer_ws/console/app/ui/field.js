// The field for the next message, as the place where the focus goes when what had it is gone.

/** Move the focus to the field of a conversation, once that is drawn. @param {string} id */
export function focusField(id) {
  // A touch would open the keyboard of the screen.
  if (matchMedia("(pointer: coarse)").matches) return;
  requestAnimationFrame(() => {
    const field = /** @type {HTMLElement | null | undefined} */ (
      document.getElementById(`pane-${id}`)?.querySelector(".composer > textarea")
    );
    field?.focus({ preventScroll: true });
  });
}
