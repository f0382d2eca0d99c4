// A button that opens a menu or a panel above the page. Esc or a click elsewhere closes it and restores the focus.

import { useId, useLayoutEffect, useRef, useState } from "../vendor/preact-hooks.js";
import { html } from "./html.js";
import { Icon } from "./icons.js";

const MARGIN_PX = 8;

/**
 * @typedef {{ label: string, icon?: Parameters<typeof Icon>[0]["name"], isDangerous?: boolean, run: () => void }} MenuItem
 */

/**
 * `children` are rendered only while it is open; `face` is the button's content.
 * @param {{ label: string, face: unknown, kind?: string, role?: string, panel?: string, onOpen?: () => void,
 *   children: (close: () => void) => unknown }} props
 */
export function Popover({ label, face, kind = "quiet", role, panel = "", onOpen, children }) {
  const id = useId();
  const button = useRef(/** @type {HTMLButtonElement | null} */ (null));
  const box = useRef(/** @type {HTMLElement | null} */ (null));
  const [isOpen, setOpen] = useState(false);
  const close = () => box.current?.hidePopover();
  const toggled = (/** @type {ToggleEvent} */ event) => {
    const opens = event.newState === "open";
    setOpen(opens);
    if (opens) {
      onOpen?.();
      requestAnimationFrame(() => box.current && focusFirst(box.current));
    }
  };
  // Its content may arrive after it opened, and may need more room: place it again.
  useLayoutEffect(() => {
    if (!isOpen || !button.current || !box.current) return undefined;
    const [from, placed] = [button.current, box.current];
    const grown = new ResizeObserver(() => place(from, placed));
    grown.observe(placed);
    return () => grown.disconnect();
  }, [isOpen]);
  return html`
    <button type="button" ref=${button} class=${kind} aria-label=${label} title=${label} popovertarget=${id}
      aria-haspopup=${role ?? "dialog"} aria-expanded=${isOpen}>${face}</button>
    <div id=${id} ref=${box} popover="auto" class=${`popover ${panel}`} role=${role ?? "dialog"} aria-label=${label}
      onToggle=${toggled} onKeyDown=${role === "menu" ? moveFocus : undefined}>
      ${isOpen && children(close)}
    </div>
  `;
}

/** @param {{ label: string, items: MenuItem[], kind?: string }} props */
export function Menu({ label, items, kind = "quiet icon-only" }) {
  return html`
    <${Popover} label=${label} face=${html`<${Icon} name="more" />`} kind=${kind} role="menu" panel="menu">
      ${(/** @type {() => void} */ close) =>
        items.map(
          (item) => html`
            <button type="button" role="menuitem" class=${item.isDangerous ? "dangerous" : ""}
              onClick=${() => (close(), item.run())}>
              ${item.icon && html`<${Icon} name=${item.icon} />`}${item.label}
            </button>
          `,
        )}
    <//>
  `;
}

/** Place the box next to its button, inside the window. @param {HTMLElement} button @param {HTMLElement} box */
function place(button, box) {
  const from = button.getBoundingClientRect();
  const { offsetWidth, offsetHeight } = box;
  const below = from.bottom + MARGIN_PX / 2;
  const above = from.top - offsetHeight - MARGIN_PX / 2;
  const isBelow = below + offsetHeight + MARGIN_PX <= innerHeight || above < MARGIN_PX;
  const left = Math.min(from.left, innerWidth - offsetWidth - MARGIN_PX);
  box.style.left = `${Math.max(MARGIN_PX, left)}px`;
  box.style.top = `${Math.max(MARGIN_PX, isBelow ? Math.min(below, innerHeight - offsetHeight - MARGIN_PX) : above)}px`;
}

/** Focus the first thing in a box that has just opened. @param {HTMLElement} box */
function focusFirst(box) {
  if (box.contains(document.activeElement)) return; // Somebody was faster.
  const first = box.querySelector("[autofocus], button, input, select, textarea");
  if (first instanceof HTMLElement) first.focus({ preventScroll: true });
}

/** @param {KeyboardEvent} event */
function moveFocus(event) {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (step === undefined) return;
  event.preventDefault();
  const box = /** @type {HTMLElement} */ (event.currentTarget);
  const items = [.../** @type {NodeListOf<HTMLElement>} */ (box.querySelectorAll("[role=menuitem]"))];
  const at = items.indexOf(/** @type {HTMLElement} */ (document.activeElement));
  items[(at + step + items.length) % items.length]?.focus();
}
