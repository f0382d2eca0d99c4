// A virtual list: only visible rows have elements. Rows have one height and are chosen by click or arrow keys.

import { useEffect, useLayoutEffect, useRef, useState } from "../vendor/preact-hooks.js";
import { html } from "../ui/html.js";
import { Icon } from "../ui/icons.js";
import { strings } from "./strings.js";

/** In px; the same as in developers.css. */
export const ROW_PX = 28;
const BEYOND = 4;

/**
 * At the end, the list follows new rows; elsewhere the visible rows stay in place.
 * @template {{ n: number }} T `n` grows from row to row
 * @param {{ items: T[], label: string, chosen: number | undefined, onChoose: (item: T) => void,
 *   row: (item: T) => unknown }} props
 */
export function VirtualList({ items, label, chosen, onChoose, row }) {
  const box = useRef(/** @type {HTMLElement | null} */ (null));
  const [height, setHeight] = useState(0);
  const [first, setFirst] = useState(0);
  const [isAtEnd, setAtEnd] = useState(true);
  const anchor = useRef({ n: 0, index: 0 });
  const scrolled = () => {
    // A scroll event may be delivered after the list was removed.
    if (!box.current) return;
    const { scrollTop, clientHeight, scrollHeight } = box.current;
    const index = Math.floor(scrollTop / ROW_PX);
    setFirst(index);
    setAtEnd(scrollTop + clientHeight >= scrollHeight - ROW_PX);
    anchor.current = { n: items[index]?.n ?? 0, index };
  };
  useEffect(() => {
    const seen = /** @type {HTMLElement} */ (box.current);
    const observer = new ResizeObserver(() => setHeight(seen.clientHeight));
    observer.observe(seen);
    return () => observer.disconnect();
  }, []);
  useLayoutEffect(() => {
    const seen = /** @type {HTMLElement} */ (box.current);
    if (isAtEnd) {
      seen.scrollTop = seen.scrollHeight;
      return;
    }
    const { n, index } = anchor.current;
    const now = items.findIndex((item) => item.n >= n);
    if (now >= 0 && now !== index) seen.scrollTop += (now - index) * ROW_PX;
    anchor.current = { n, index: Math.max(0, now) };
  }, [items.at(0)?.n, items.at(-1)?.n, items.length, height]);
  const choose = (/** @type {number} */ index) => {
    const item = items[index];
    const seen = /** @type {HTMLElement} */ (box.current);
    if (!item) return;
    onChoose(item);
    const top = index * ROW_PX;
    if (top < seen.scrollTop) seen.scrollTop = top;
    else if (top + ROW_PX > seen.scrollTop + seen.clientHeight) seen.scrollTop = top + ROW_PX - seen.clientHeight;
  };
  const keys = (/** @type {KeyboardEvent} */ event) => {
    const at = items.findIndex(({ n }) => n === chosen);
    const page = Math.max(1, Math.floor(height / ROW_PX) - 1);
    /** @type {Record<string, number>} */
    const steps = { ArrowDown: at + 1, ArrowUp: at < 0 ? items.length - 1 : at - 1, PageDown: at + page, PageUp: at - page };
    const to = { Home: 0, End: items.length - 1, ...steps }[event.key];
    if (to === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    choose(Math.min(items.length - 1, Math.max(0, to)));
  };
  const from = Math.max(0, Math.min(first, items.length - Math.ceil(height / ROW_PX)) - BEYOND);
  const shown = items.slice(from, from + Math.ceil(height / ROW_PX) + 2 * BEYOND);
  const isChosenShown = shown.some(({ n }) => n === chosen);
  return html`
    <div class="virtual">
      <div ref=${box} class="rows" role="listbox" tabindex="0" aria-label=${label} onScroll=${scrolled} onKeyDown=${keys}
        aria-activedescendant=${isChosenShown ? `frame-${chosen}` : undefined}>
        <div class="length" role="presentation" style=${{ height: `${items.length * ROW_PX}px` }}>
          ${shown.map(
            (item, index) => html`<div key=${item.n} id=${`frame-${item.n}`} class="row-of" role="option"
              aria-selected=${item.n === chosen} aria-setsize=${items.length} aria-posinset=${from + index + 1}
              style=${{ top: `${(from + index) * ROW_PX}px` }} onClick=${() => choose(from + index)}>${row(item)}</div>`,
          )}
        </div>
      </div>
      ${!isAtEnd &&
      html`<button type="button" class="to-newest" aria-label=${strings.frames.newest} title=${strings.frames.newest}
        onClick=${() => box.current?.scrollTo(0, box.current.scrollHeight)}><${Icon} name="down" /></button>`}
    </div>
  `;
}
