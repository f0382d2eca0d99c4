// The entry point: renders the page and connects.

import { h, render } from "./vendor/preact.js";
import { start } from "./state/connection.js";
import { begin, openIds, shownId } from "./state/conversations.js";
import { strings } from "./strings.js";
import { App } from "./ui/app.js";
import { complain } from "./ui/notice.js";
import { loadSettingsForm } from "./ui/settings-panel.js";
import { loadMarkdown } from "./ui/step-text.js";

const root = /** @type {HTMLElement} */ (document.getElementById("app"));
if (openIds.value.length === 0) begin();
else if (!openIds.value.includes(shownId.value)) shownId.value = openIds.value[0];
root.replaceChildren();
render(h(App, { name: root.dataset.name ?? "" }), root);
start();
// The newest that the page can't do without: menus, and colours.
if (!("popover" in root && CSS.supports("color", "light-dark(red, red)"))) complain(new Error(strings.errors.oldBrowser));
// After the first screen is drawn.
requestAnimationFrame(() => setTimeout(() => (loadMarkdown(), loadSettingsForm())));
