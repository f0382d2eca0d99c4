// The template tag that every component uses.

import { h } from "../vendor/preact.js";
import htm from "../vendor/htm.js";

export const html = /** @type {(strings: TemplateStringsArray, ...values: any[]) => import("../vendor/preact.js").VNode} */ (
  htm.bind(h)
);
