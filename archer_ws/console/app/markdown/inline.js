// The content of a paragraph as nodes, made one by one from the parser's tokens, so that text is never parsed as HTML.

import { linkTarget, pictureSource } from "./addresses.js";
import { appendText } from "./characters.js";

/**
 * @typedef {import("./parser.js").Token} Token
 * @typedef {{ openImage: (host: string) => string, showImage: string, copyCode: string, done: string, open: string }} Strings
 * @typedef {{ strings: Strings, wantedImages: Set<string>,
 *   onCopy: (text: string, button: HTMLButtonElement) => void }} Context
 */

// The browser's layout recurses for each level; more than three levels look the same.
const DEPTH_MAX = 12;
const SHOWN_CHARS_MAX = 200;
/** @type {Record<string, string>} */
const MARKS = { strong_open: "strong", em_open: "em", s_open: "s" };

/**
 * @param {readonly Token[]} tokens @param {Context} context
 * @returns {DocumentFragment}
 */
export function inlineNodes(tokens, context) {
  const root = document.createDocumentFragment();
  // The stack of parents. A mark without an element of its own repeats the parent around it.
  /** @type {Node[]} */
  const path = [root];
  for (const token of tokens) {
    const parent = path[path.length - 1];
    if (token.nesting < 0) {
      if (path.length > 1) path.pop();
    } else if (token.nesting > 0) {
      const element = path.length <= DEPTH_MAX ? opened(token) : undefined;
      path.push(element ? parent.appendChild(element) : parent);
    } else {
      appendLeaf(parent, token, context);
    }
  }
  return root;
}

/** @param {Token} token */
function opened(token) {
  if (token.type === "link_open") return link(token);
  return token.type in MARKS ? document.createElement(MARKS[token.type]) : undefined;
}

/** @param {Token} token */
function link(token) {
  const address = String(token.attrGet("href") ?? "");
  const target = linkTarget(address);
  const element = target ? anchor(target.href) : document.createElement("span");
  if (!target) element.className = "md-no-link";
  // Of a link that leads elsewhere than its text says, this is where one sees it.
  element.title = [token.attrGet("title"), target?.href ?? address].filter(Boolean).join("\n");
  return element;
}

/** @param {string} address */
function anchor(address) {
  const element = document.createElement("a");
  element.href = address;
  element.target = "_blank";
  element.rel = "noopener noreferrer";
  return element;
}

/** @param {Node} parent @param {Token} token @param {Context} context */
function appendLeaf(parent, token, context) {
  switch (token.type) {
    case "softbreak":
      return appendText(parent, "\n");
    case "hardbreak":
      return void parent.appendChild(document.createElement("br"));
    case "code_inline": {
      const code = document.createElement("code");
      code.dir = "ltr";
      appendText(code, token.content, true);
      return void parent.appendChild(code);
    }
    case "image":
      return void parent.appendChild(image(parent, token, context));
    default:
      return appendText(parent, token.content);
  }
}

/**
 * A picture of another host becomes a link, as the page's policy forbids loading it. A data URL is shown after a click.
 * @param {Node} parent @param {Token} token @param {Context} context
 */
function image(parent, token, context) {
  const address = String(token.attrGet("src") ?? "");
  const description = plain(token.children ?? []);
  const source = pictureSource(address);
  // What stands in a link leads where the link does.
  const isInLink = parent instanceof Element && parent.closest("a") !== null;
  if (!source || (source.host && isInLink)) return noPicture(address, description);
  if (source.host) {
    const link = anchor(source.address);
    return labelled(link, context.strings.openImage(source.host), `${description ? `${description}: ` : ""}${source.address}`);
  }
  if (context.wantedImages.has(address)) return picture(address, description);
  const button = document.createElement("button");
  button.type = "button";
  button.addEventListener("click", (event) => {
    event.preventDefault();
    context.wantedImages.add(address);
    button.replaceWith(picture(address, description));
  });
  return labelled(button, context.strings.showImage, description);
}

/** @param {HTMLElement} element @param {string} label @param {string} note */
function labelled(element, label, note) {
  element.className = "md-image";
  appendText(element, label);
  const line = document.createElement("span");
  line.className = "md-image-address";
  appendText(line, note);
  element.append(line);
  element.title = note;
  return element;
}

/** @param {string} address @param {string} description */
function picture(address, description) {
  const img = document.createElement("img");
  img.decoding = "async";
  img.alt = description;
  img.addEventListener("error", () => img.replaceWith(noPicture(address, description)));
  img.src = address;
  return img;
}

/** @param {string} address @param {string} description */
function noPicture(address, description) {
  const span = document.createElement("span");
  span.className = "md-no-image";
  span.title = address.slice(0, SHOWN_CHARS_MAX);
  appendText(span, description || address.slice(0, SHOWN_CHARS_MAX));
  return span;
}

/** @param {readonly Token[]} tokens @returns {string} */
function plain(tokens) {
  return tokens.map((token) => (token.children ? plain(token.children) : /break$/.test(token.type) ? " " : token.content)).join("");
}
