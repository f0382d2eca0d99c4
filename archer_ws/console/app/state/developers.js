// The developers' drawer: whether it is open, what it shows, and the error that somebody wants to see in full.

import { signal } from "../vendor/signals.js";
import { kept } from "./kept.js";

/** @typedef {import("../../archer.js").ErrorInfo} ErrorInfo */

export const isDrawerOpen = kept(localStorage, "archer.developers", false);
/** The id of its tab. */
export const drawerTab = kept(localStorage, "archer.developers.tab", "frames");
/** The one that was asked for, above the others. */
export const shownError = signal(/** @type {ErrorInfo | undefined} */ (undefined));

/** @param {ErrorInfo} error */
export function showError(error) {
  shownError.value = error;
  drawerTab.value = "errors";
  isDrawerOpen.value = true;
}
