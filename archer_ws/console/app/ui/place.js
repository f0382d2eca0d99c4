// Where in a conversation the reader is: at the end while it grows, somewhere further up, or at a message that was sought.

// The reader is at the end if no more than this is below.
const NEAR_END_PX = 64;
// How long a message that was sought is marked, and stays in view while what is around it is still being drawn.
const MARK_MS = 2500;
const HANDS = ["wheel", "touchmove", "pointerdown", "keydown"];

export class Place {
  #scroller;
  #hasText;
  #tell;
  #isAtEnd = true;
  #topBefore = 0;
  /** The message that is marked. @type {HTMLElement | undefined} */
  #marked;
  #timer = 0;
  #growth = new ResizeObserver(() => this.#grown());

  /**
   * @param {HTMLElement} scroller its first child is what grows
   * @param {() => boolean} hasText
   * @param {(isAway: boolean) => void} tell called with whether the reader is somewhere further up
   */
  constructor(scroller, hasText, tell) {
    this.#scroller = scroller;
    this.#hasText = hasText;
    this.#tell = tell;
    this.#growth.observe(/** @type {Element} */ (scroller.firstElementChild));
    this.#growth.observe(scroller);
    scroller.addEventListener("scroll", this.#scrolled, { passive: true });
    for (const kind of HANDS) scroller.addEventListener(kind, this.#letGo, { passive: true });
  }

  /** Observe the scroller no more. */
  leave() {
    this.#unmark();
    this.#growth.disconnect();
    this.#scroller.removeEventListener("scroll", this.#scrolled);
    for (const kind of HANDS) this.#scroller.removeEventListener(kind, this.#letGo);
  }

  /**
   * Scroll to a message, mark it for a moment, and move the focus to what was said there, so that a screen reader
   * reads it.
   * @param {string} messageId
   * @returns {boolean} false if the message has no element yet
   */
  seek(messageId) {
    const element = /** @type {HTMLElement | null} */ (
      this.#scroller.querySelector(`[data-message="${CSS.escape(messageId)}"]`)
    );
    if (!element) return false;
    this.#unmark();
    this.#isAtEnd = false;
    this.#marked = element;
    element.dataset.found = "";
    element.scrollIntoView();
    const said = /** @type {HTMLElement} */ (element.closest("article"));
    said.tabIndex = -1;
    said.focus({ preventScroll: true });
    this.#timer = window.setTimeout(() => this.#unmark(), MARK_MS);
    return true;
  }

  #unmark() {
    clearTimeout(this.#timer);
    delete this.#marked?.dataset.found;
    this.#marked = undefined;
  }

  /** The reader moves: stay no longer where the message is. */
  #letGo = () => {
    if (!this.#marked) return;
    delete this.#marked.dataset.found;
    this.#marked = undefined;
  };

  #scrolled = () => {
    const { scrollHeight, scrollTop, clientHeight } = this.#scroller;
    // A smaller scrollTop means that the reader has scrolled up; if only the height has grown, the end is followed.
    if (this.#marked) this.#isAtEnd = false;
    else if (scrollHeight - scrollTop - clientHeight < NEAR_END_PX) this.#isAtEnd = true;
    else if (scrollTop < this.#topBefore) this.#isAtEnd = false;
    this.#topBefore = scrollTop;
    this.#tell(!this.#isAtEnd && this.#hasText());
  };

  #grown() {
    // The welcome page is read from its beginning.
    if (!this.#hasText()) return;
    if (this.#marked) this.#marked.scrollIntoView();
    else if (this.#isAtEnd) this.#scroller.scrollTop = this.#scroller.scrollHeight;
    else this.#scrolled();
  }
}
