// Highlights code in a worker. A slow regular expression (hostile code can cause one) does not block the page and ends
// with the worker. The result is not HTML but runs: lengths and kinds.

import hljs from "../vendor/highlight/core.js";
import { WITHIN } from "./languages.js";

/** @typedef {{ language: string, code: string }} Job */

/** The length and the kind of the next characters. @typedef {[number, string]} Run */

class Runs {
  /** @type {string[]} */
  #scopes = [];
  /** @type {Run[]} */
  runs = [];

  /** @param {string} text */
  addText(text) {
    const kind = this.#scopes.at(-1) ?? "";
    const last = this.runs.at(-1);
    if (last?.[1] === kind) last[0] += text.length;
    else if (text) this.runs.push([text.length, kind]);
  }

  /** @param {string} scope such as title.function */
  startScope(scope) {
    this.#scopes.push(/^[a-z]+/.exec(scope)?.[0] ?? "");
  }

  openNode(/** @type {string} */ scope) {
    this.startScope(scope);
  }

  endScope() {
    this.#scopes.pop();
  }

  /** @param {Runs} inner */
  __addSublanguage(inner) {
    this.runs.push(...inner.runs);
  }

  closeNode() {
    this.endScope();
  }

  closeAllNodes() {}
  finalize() {}

  toHTML() {
    return "";
  }
}

hljs.configure({ __emitter: Runs, ignoreUnescapedHTML: true });

/** @param {string} language */
async function load(language) {
  if (hljs.getLanguage(language)) return;
  const grammar = await import(`../vendor/highlight/${language}.js`);
  hljs.registerLanguage(language, grammar.default);
}

/** @param {MessageEvent<Job>} event */
async function work({ data: { language, code } }) {
  for (const name of [language, ...(WITHIN[language] ?? [])]) await load(name);
  const result = hljs.highlight(code, { language, ignoreIllegals: true });
  const emitter = /** @type {unknown} */ (result._emitter);
  postMessage({ runs: /** @type {Runs} */ (emitter).runs });
}

addEventListener("message", (event) => void work(event));
