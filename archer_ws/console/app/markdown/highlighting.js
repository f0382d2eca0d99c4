// Syntax highlighting: one worker serves all completions, and colours are applied slice by slice.

import { appendText } from "./characters.js";
import { languageOf } from "./languages.js";

/**
 * @typedef {import("./highlight-worker.js").Run} Run
 * @typedef {{ language: string, code: string, resolve: (runs: Run[] | undefined) => void }} Job
 */

// Longer code is not highlighted: it would need several elements per word.
const CODE_CHARS_MAX = 100_000;
// After this time, a regular expression is considered stuck, and the worker is ended.
const JOB_MS_MAX = 3000;

/** @type {Worker | undefined} */
let worker;
/** @type {Job[]} */
const jobs = [];
let isBusy = false;

/**
 * The highlighted runs of a code, or undefined if they are not available.
 * @param {string} name of the language, as written after the fence @param {string} code
 * @returns {Promise<Run[] | undefined>}
 */
export function highlight(name, code) {
  const language = languageOf(name);
  if (!language || !code || code.length > CODE_CHARS_MAX) return Promise.resolve(undefined);
  return new Promise((resolve) => {
    jobs.push({ language, code, resolve });
    void work();
  });
}

async function work() {
  if (isBusy) return;
  isBusy = true;
  for (let job = jobs.shift(); job; job = jobs.shift()) job.resolve(await done(job));
  isBusy = false;
}

/** @param {Job} job @returns {Promise<Run[] | undefined>} */
function done({ language, code }) {
  return new Promise((resolve) => {
    const giveUp = () => {
      worker?.terminate();
      worker = undefined;
      finish(undefined);
    };
    const timer = setTimeout(giveUp, JOB_MS_MAX);
    /** @param {Run[] | undefined} runs */
    const finish = (runs) => {
      clearTimeout(timer);
      resolve(runs);
    };
    try {
      worker ??= new Worker(scriptUrl(), { type: "module" });
    } catch {
      return finish(undefined); // the page's policy forbids workers: no colours
    }
    worker.onmessage = ({ data }) => finish(data.runs);
    worker.onerror = giveUp;
    worker.postMessage({ language, code });
  });
}

/** If the page requires trusted types, a worker's URL must be one; the page's policy allows this name. */
function scriptUrl() {
  const url = new URL("./highlight-worker.js", import.meta.url).href;
  const { trustedTypes } = /** @type {{ trustedTypes?: { createPolicy(name: string, rules: object): any } }} */ (globalThis);
  policy ??= trustedTypes?.createPolicy("archer-highlight", { createScriptURL: () => url });
  return policy ? policy.createScriptURL("") : url;
}
/** @type {any} */
let policy;

/**
 * Apply the colours, one slice per iteration.
 * @param {readonly { element: Element, text: string }[]} slices @param {readonly Run[]} runs
 * @returns {Generator<void>}
 */
export function* coloured(slices, runs) {
  let index = 0;
  let used = 0;
  for (const { element, text } of slices) {
    const made = document.createDocumentFragment();
    for (let at = 0; at < text.length && index < runs.length; ) {
      const [length, kind] = runs[index];
      const taken = Math.min(length - used, text.length - at);
      appendRun(made, text.slice(at, at + taken), kind);
      at += taken;
      used = used + taken === length ? 0 : used + taken;
      if (used === 0) index += 1;
    }
    element.replaceChildren(made);
    yield;
  }
}

/** @param {DocumentFragment} parent @param {string} text @param {string} kind */
function appendRun(parent, text, kind) {
  if (!kind) return appendText(parent, text, true);
  const span = document.createElement("span");
  span.className = `md-hl-${kind}`;
  appendText(span, text, true);
  parent.append(span);
}
