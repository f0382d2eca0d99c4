// The developers' drawer: whether it is open, which tab it shows, and the error that was opened in it.

import { signal } from "../vendor/signals.js";
import { kept } from "./kept.js";

/** @typedef {import("../../archer.js").ErrorInfo} ErrorInfo */

export const isDrawerOpen = kept("localStorage", "archer.developers", false);
/** The id of its tab. */
export const drawerTab = kept("localStorage", "archer.developers.tab", "frames");
/** The error that a person opened; shown above the others. */
export const shownError = signal(/** @type {ErrorInfo | undefined} */ (undefined));

/** @param {ErrorInfo} error */
export function showError(error) {
  shownError.value = error;
  drawerTab.value = "errors";
  isDrawerOpen.value = true;
}
