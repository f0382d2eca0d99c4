// A page with an answer on it: what the tests of the console's Markdown do there.

import { blocksOf } from "/console/app/markdown/blocks.js";
import { Definitions } from "/console/app/markdown/definitions.js";
import { coloured, highlight } from "/console/app/markdown/highlighting.js";
import { createMarkdownView } from "/console/app/markdown/markdown-view.js";
import { parseBlocks } from "/console/app/markdown/parser.js";
import { Children } from "/console/app/markdown/rendered.js";

const strings = {
  openImage: (host) => `Open image at ${host}`,
  showImage: "Show image",
  copyCode: "Copy",
  done: "Done",
  open: "To do",
};
const root = document.getElementById("root");
const drawn = requestAnimationFrame;
/** Frames as soon as they are asked for: what a piece of text does is done before the next one comes. */
const atOnce = (callback) => (queueMicrotask(() => callback(performance.now())), 1);

/** A new answer, alone on the page. */
function fresh(options = {}) {
  root.replaceChildren();
  const element = root.appendChild(document.createElement("div"));
  const copied = [];
  return { element, copied, view: createMarkdownView(element, { strings, onCopy: (text) => copied.push(text), ...options }) };
}

/** Hands the pieces on, each in a frame of its own; `then` is called after each. */
async function feed(view, pieces, then = () => {}) {
  globalThis.requestAnimationFrame = atOnce;
  for (const piece of pieces) {
    view.append(piece);
    await view.whenIdle();
    then();
  }
  globalThis.requestAnimationFrame = drawn;
}

/** What stands on the page once the pieces have come, all at once or each in a frame of its own. */
async function shown(pieces, { framed = false, ...options } = {}) {
  const { element, view } = fresh(options);
  if (framed) await feed(view, pieces);
  else for (const piece of pieces) view.append(piece);
  view.end();
  await view.whenIdle();
  return element.innerHTML;
}

/** What stands on the page of a text that is parsed once, as a whole. */
async function plainly(text) {
  const { element, view } = fresh();
  view.destroy();
  const definitions = new Definitions();
  const colours = [];
  const highlighted = (code) =>
    colours.push(highlight(code.language, code.content).then((runs) => runs && [...coloured(code.slices, runs)]));
  const context = { strings, onCopy() {}, wantedImages: new Set(), definitions, highlighted };
  text = text.replace(/\r\n?/g, "\n").replaceAll("\0", "\ufffd");
  const { tokens, references } = parseBlocks(text);
  definitions.show(references);
  const children = new Children(element, context);
  children.patch(blocksOf(tokens, text.split("\n")).filter(({ kind }) => kind !== "definition"), true);
  children.settle();
  await Promise.all(colours);
  return element.innerHTML;
}

/** Of texts, each with the lengths of the pieces it comes in: those that came to something else than they do as a whole. */
async function differing(cases) {
  const found = [];
  for (const { text, cuts } of cases) {
    const wanted = await plainly(text);
    const pieces = [];
    let at = 0;
    for (let index = 0; at < text.length; index += 1) {
      pieces.push(text.slice(at, at + cuts[index % cuts.length]));
      at += cuts[index % cuts.length];
    }
    const got = await shown(pieces, { framed: true });
    // How wide a long table's columns are is measured, and depends on what stood there first.
    const same = [got, wanted].map((html) => html.replace(/ style="--md-columns: [^"]*"/g, ""));
    if (same[0] !== same[1]) found.push({ text, cuts, wanted, got });
  }
  return found;
}

/** What stands there after each piece. */
async function steps(pieces) {
  const { element, view } = fresh();
  const seen = [];
  await feed(view, pieces, () => seen.push(element.innerHTML));
  return seen;
}

/** The longest tasks and frames while a text comes so many characters a frame, in ms. */
async function smoothness(text, perFrame, scroll) {
  const tasks = [];
  const observer = new PerformanceObserver((list) => tasks.push(...list.getEntries().map(({ duration }) => duration)));
  observer.observe({ type: "longtask" });
  const frame = () => new Promise(requestAnimationFrame);
  const { element, view } = fresh();
  let longestFrame = 0;
  let last = await frame();
  const began = last;
  let frames = 0;
  const next = async () => {
    const now = await frame();
    longestFrame = Math.max(longestFrame, now - last);
    last = now;
    frames += 1;
    if (scroll) scrollTo(0, document.documentElement.scrollHeight);
  };
  for (let at = 0; at < text.length; at += perFrame) {
    view.append(text.slice(at, at + perFrame));
    await next();
  }
  view.end();
  const idle = { is: false };
  view.whenIdle().then(() => (idle.is = true));
  while (!idle.is) await next();
  for (let rest = 0; rest < 10; rest += 1) await next();
  tasks.push(...observer.takeRecords().map(({ duration }) => duration));
  observer.disconnect();
  return {
    longestTask: Math.max(0, ...tasks),
    longTasks: tasks.length,
    longestFrame,
    frames,
    seconds: (last - began) / 1000,
    elements: element.querySelectorAll("*").length,
  };
}

/** How long each part of a text takes that comes at once, and what stands there: its texts' length and elements. */
async function whole(text) {
  const began = performance.now();
  const { element, view } = fresh();
  view.set(text);
  view.end();
  await view.whenIdle();
  const elements = element.querySelectorAll("*");
  let depth = 0;
  for (const one of elements) {
    let level = 0;
    for (let up = one; up !== element; up = up.parentElement) level += 1;
    depth = Math.max(depth, level);
    if (depth > 200) break;
  }
  return { ms: performance.now() - began, characters: element.textContent.length, elements: elements.length, depth };
}

window.tests = { fresh, feed, shown, differing, steps, smoothness, whole };
