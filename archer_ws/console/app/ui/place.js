// The scroll position in a conversation: at the end while it grows, further up, or at a message that was searched for.

// The reader is at the end if at most this much is below.
const NEAR_END_PX = 64;
// How long a found message is marked, and kept in view while the content around it is still being rendered.
const MARK_MS = 2500;
const HANDS = ["wheel", "touchmove", "pointerdown", "keydown"];
// How long the end is not followed after each of these. A turn of the wheel takes so long in Firefox, and is lost if the
// page scrolls meanwhile; and two fingers may scroll by a few pixels at a time, less than what comes in between.
const HAND_MS = 300;

export class Place {
  #scroller;
  #hasText;
  #tell;
  #isAtEnd = true;
  /** Whether it scrolls to the end by itself, smoothly. */
  #isReturning = false;
  #topBefore = 0;
  /** The message that is marked. @type {HTMLElement | undefined} */
  #marked;
  #timer = 0;
  /** Runs while the reader scrolls. @type {number | undefined} */
  #hand;
  /** The message that stays where it is while older ones are put before it, and where. @type {{ element: Element, top: number } | undefined} */
  #held;
  #growth = new ResizeObserver(() => this.#grown());

  /**
   * @param {HTMLElement} scroller its first child is what grows
   * @param {() => boolean} hasText
   * @param {(isAway: boolean) => void} tell called with whether the reader is further up
   */
  constructor(scroller, hasText, tell) {
    this.#scroller = scroller;
    this.#hasText = hasText;
    this.#tell = tell;
    this.#growth.observe(/** @type {Element} */ (scroller.firstElementChild));
    this.#growth.observe(scroller);
    scroller.addEventListener("scroll", this.#scrolled, { passive: true });
    scroller.addEventListener("scrollend", this.#arrived, { passive: true });
    for (const kind of HANDS) scroller.addEventListener(kind, this.#letGo, { passive: true });
  }

  /** Stop observing the scroller. */
  leave() {
    this.#unmark();
    clearTimeout(this.#hand);
    this.#growth.disconnect();
    this.#scroller.removeEventListener("scroll", this.#scrolled);
    this.#scroller.removeEventListener("scrollend", this.#arrived);
    for (const kind of HANDS) this.#scroller.removeEventListener(kind, this.#letGo);
  }

  /**
   * Scroll to a message, mark it briefly, and move the focus to it, so that a screen reader reads it.
   * @param {string} messageId
   * @returns {boolean} false if the message has no element yet
   */
  seek(messageId) {
    const element = /** @type {HTMLElement | null} */ (
      this.#scroller.querySelector(`[data-message="${CSS.escape(messageId)}"]`)
    );
    if (!element) return false;
    this.#unmark();
    this.#held = undefined;
    this.#isAtEnd = false;
    this.#isReturning = false;
    this.#marked = element;
    element.dataset.found = "";
    element.scrollIntoView();
    const said = /** @type {HTMLElement} */ (element.closest("article"));
    said.tabIndex = -1;
    said.focus({ preventScroll: true });
    this.#timer = window.setTimeout(() => this.#unmark(), MARK_MS);
    return true;
  }

  /** Follow the end, wherever the reader is: what was just asked appears there. */
  follow() {
    this.#unmark();
    this.#held = undefined;
    this.#isAtEnd = true;
    this.#isReturning = false;
    this.#takeHandOff();
    this.#toEnd();
  }

  /** Scroll to the end, smoothly where the browser tells when it is there: the end may have moved on by then. */
  return() {
    if (!("onscrollend" in window)) return this.follow();
    this.#unmark();
    this.#held = undefined;
    this.#isReturning = true;
    this.#scroller.scrollTo({ top: this.#scroller.scrollHeight, behavior: "smooth" });
  }

  /** Keep the messages that are in view where they are while older ones are loaded, until the reader scrolls. */
  hold() {
    const { top } = this.#scroller.getBoundingClientRect();
    const element = [...this.#scroller.querySelectorAll("article")].find((each) => each.getBoundingClientRect().bottom > top);
    if (!element) return;
    this.#isAtEnd = false;
    this.#isReturning = false;
    this.#held = { element, top: element.getBoundingClientRect().top };
  }

  #toEnd() {
    this.#scroller.scrollTop = this.#scroller.scrollHeight;
    // A slow browser tells of this scroll and of the reader's next one with one event.
    this.#topBefore = this.#scroller.scrollTop;
  }

  #unmark() {
    clearTimeout(this.#timer);
    delete this.#marked?.dataset.found;
    this.#marked = undefined;
  }

  /** The reader scrolls or types: stop keeping a message in view, and the end until it is known where to. */
  #letGo = () => {
    clearTimeout(this.#hand);
    this.#hand = window.setTimeout(() => {
      this.#scrolled();
      this.#takeHandOff();
      this.#grown();
    }, HAND_MS);
    this.#held = undefined;
    this.#isReturning = false;
    if (!this.#marked) return;
    delete this.#marked.dataset.found;
    this.#marked = undefined;
  };

  #takeHandOff() {
    clearTimeout(this.#hand);
    this.#hand = undefined;
  }

  #scrolled = () => {
    const { scrollHeight, scrollTop, clientHeight } = this.#scroller;
    // A smaller scrollTop means that the reader has scrolled up; if only the height has grown, the end is followed.
    if (this.#marked || this.#held) this.#isAtEnd = false;
    else if (scrollHeight - scrollTop - clientHeight < NEAR_END_PX) this.#isAtEnd = true;
    else if (scrollTop < this.#topBefore) this.#isAtEnd = false;
    // All that a hand does counts together.
    if (this.#hand === undefined) this.#topBefore = scrollTop;
    this.#tell(!this.#isAtEnd && this.#hasText());
  };

  /** The end has moved on if messages that were passed got their heights only then. */
  #arrived = () => {
    if (this.#isReturning) this.follow();
  };

  #grown() {
    // The welcome page stays at its beginning.
    if (!this.#hasText()) return;
    if (this.#marked) this.#marked.scrollIntoView();
    else if (this.#held?.element.isConnected) this.#scroller.scrollTop += this.#held.element.getBoundingClientRect().top - this.#held.top;
    else if (this.#isAtEnd && this.#hand === undefined) this.#toEnd();
    else this.#scrolled();
  }
}
