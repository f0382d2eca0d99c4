// The place of the developers' drawer. Its code and style are loaded when it is first opened.

import { useEffect, useRef, useState } from "../vendor/preact-hooks.js";
import { isDrawerOpen } from "../state/developers.js";
import { strings } from "../strings.js";
import { announce } from "./announcer.js";
import { html } from "./html.js";

const STYLE = new URL("../developers/developers.css", import.meta.url).href;

/** @type {Promise<(props: { isFocused: boolean }) => unknown> | undefined} */
let loading;

export function DevelopersPlace() {
  const [Drawer, setDrawer] = useState(/** @type {unknown} */ (undefined));
  // If it was left open on the last visit, it does not take the focus.
  const wasClosed = useRef(!isDrawerOpen.peek());
  const isOpen = isDrawerOpen.value;
  if (!isOpen) wasClosed.current = true;
  useEffect(() => {
    if (!isOpen) return;
    loading ??= load();
    loading.then(
      (made) => setDrawer(() => made),
      () => {
        loading = undefined;
        isDrawerOpen.value = false;
        announce(strings.developers.failed);
      },
    );
  }, [isOpen]);
  return isOpen && Drawer ? html`<${Drawer} isFocused=${wasClosed.current} />` : null;
}

async function load() {
  const [{ Drawer }] = await Promise.all([import("../developers/drawer.js"), loadStyle()]);
  return Drawer;
}

function loadStyle() {
  return new Promise((resolve, reject) => {
    const link = document.createElement("link");
    link.rel = "stylesheet";
    link.href = STYLE;
    link.onload = resolve;
    link.onerror = reject;
    document.head.append(link);
  });
}
