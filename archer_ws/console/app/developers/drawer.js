// The developers' drawer: on the right, or below on narrow screens. Only the panel of the chosen tab is rendered.

import { useLayoutEffect, useRef } from "../vendor/preact-hooks.js";
import { drawerTab, isDrawerOpen, shownError } from "../state/developers.js";
import { html } from "../ui/html.js";
import { Icon } from "../ui/icons.js";
import { ErrorsPanel } from "./errors-panel.js";
import { FramesPanel } from "./frames-panel.js";
import { LogPanel } from "./log-panel.js";
import { PlotsPanel } from "./plots-panel.js";
import { RequestPanel } from "./request-panel.js";
import { strings } from "./strings.js";

/** @type {Record<string, () => unknown>} */
const PANELS = { frames: FramesPanel, log: LogPanel, plots: PlotsPanel, request: RequestPanel, errors: ErrorsPanel };
const IDS = Object.keys(PANELS);

/** @param {{ isFocused: boolean }} props whether it takes the focus when it opens */
export function Drawer({ isFocused }) {
  const box = useRef(/** @type {HTMLElement | null} */ (null));
  const chosen = drawerTab.value in PANELS ? drawerTab.value : IDS[0];
  const focusTab = () => /** @type {HTMLElement | null} */ (box.current?.querySelector("[aria-selected=true][role=tab]"))?.focus();
  // Effects of the layout, here and below: after a paint, a person may have moved the focus.
  useLayoutEffect(() => {
    if (isFocused) focusTab();
  }, []);
  // The cleanup of a layout effect runs before the elements are removed, so keys never go to no element.
  useLayoutEffect(() => {
    const button = document.getElementById("developers-button");
    const drawer = box.current;
    return () => {
      if (!drawer || drawer.contains(document.activeElement) || document.activeElement === document.body) button?.focus();
    };
  }, []);
  useLayoutEffect(() => void (shownError.value && focusTab()), [shownError.value]);
  const keys = (/** @type {KeyboardEvent} */ event) => {
    const at = IDS.indexOf(chosen);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: IDS.length - 1 }[event.key];
    if (to === undefined || event.altKey) return;
    event.preventDefault();
    drawerTab.value = IDS[(to + IDS.length) % IDS.length];
    requestAnimationFrame(focusTab);
  };
  return html`
    <aside ref=${box} class="developers" aria-label=${strings.title}>
      <header>
        <div role="tablist" aria-label=${strings.title} onKeyDown=${keys}>
          ${IDS.map(
            (id) => html`<button key=${id} type="button" role="tab" id=${`tab-${id}`} aria-selected=${id === chosen} aria-controls="developers-panel"
              tabindex=${id === chosen ? 0 : -1} onClick=${() => (drawerTab.value = id)}>${strings.tabs[/** @type {keyof typeof strings.tabs} */ (id)]}</button>`,
          )}
        </div>
        <button type="button" class="quiet icon-only" aria-label=${strings.close} title=${strings.close}
          onClick=${() => (isDrawerOpen.value = false)}><${Icon} name="close" /></button>
      </header>
      <div id="developers-panel" class="panel" role="tabpanel" aria-labelledby=${`tab-${chosen}`} data-panel=${chosen}>
        <${PANELS[chosen]} />
      </div>
    </aside>
  `;
}
