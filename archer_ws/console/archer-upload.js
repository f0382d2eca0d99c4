// Pictures and documents on their way to the server: over HTTP, beside the socket, so that no cancel waits behind them.
//
// An upload may be repeated without harm: the server names a file by its content (protocol section 20).

import { ArcherError, notArcher, refusal, unreachable } from "./archer-errors.js";

/**
 * @typedef {import("./archer-client.d.ts").UploadProgress} UploadProgress
 * @typedef {import("./archer-client.d.ts").UploadedFile} UploadedFile
 * @typedef {{ status: number, text: string }} UploadResponse
 * @typedef {{ url: URL, authorize: (signal?: AbortSignal) => Promise<string | undefined>,
 *   giveUpAfterMs: number, backoff: { firstMs: number, maxMs: number } }} Target
 * @typedef {{ signal?: AbortSignal, onProgress?: (progress: UploadProgress) => void }} UploadOptions
 */

// Half of the frame size that every server accepts (section 2), so that there is room for the text.
const INLINE_CHARS_MAX = 512 * 1024;

/**
 * Upload a file. If the server can't be reached, or has no room now, try again.
 * @param {Target} target @param {Blob} blob @param {UploadOptions} [options]
 * @returns {Promise<UploadedFile>}
 */
export async function upload(target, blob, { signal, onProgress } = {}) {
  const giveUpAt = performance.now() + target.giveUpAfterMs;
  let ceilingMs = target.backoff.firstMs;
  for (;;) {
    try {
      const token = await target.authorize(signal);
      if (!(await isReadable(blob))) throw unreadable(blob);
      signal?.throwIfAborted();
      return fileIn(target.url, blob, await post(target.url, blob, token, signal, onProgress));
    } catch (error) {
      const isPassing = error instanceof ArcherError && error.retryable;
      const waitMs = isPassing ? (error.retryAfterMs ?? Math.random() * ceilingMs) : Infinity;
      if (performance.now() + waitMs > giveUpAt) throw error;
      ceilingMs = Math.min(2 * ceilingMs, target.backoff.maxMs);
      await pause(waitMs, signal);
    }
  }
}

/**
 * Upload the files, in order; returns the request with parts for them in its last message.
 * @param {any} request @param {(blob: Blob) => Promise<UploadedFile>} send
 * @param {readonly Blob[]} images @param {readonly Blob[]} files
 */
export async function withUploads(request, send, images, files) {
  const messages = [];
  for (const message of request.messages) messages.push(await withoutData(message, send));
  const parts = [];
  for (const image of images) parts.push({ type: "image", file_id: (await send(image)).file_id });
  for (const file of files) parts.push(documentOf((await send(file)).file_id, file));
  if (parts.length > 0) {
    const last = messages.pop();
    const content = last.content ?? [];
    const said = typeof content === "string" ? (content ? [{ type: "text", text: content }] : []) : content;
    messages.push({ ...last, content: [...said, ...parts] });
  }
  return { ...request, messages };
}

/**
 * Convert a value to the content of a message: a string is used as it is; a Blob, or an array of parts, Blobs and
 * strings, becomes parts, with the Blobs uploaded; anything else becomes JSON.
 * @param {unknown} given @param {(blob: Blob) => Promise<UploadedFile>} send
 * @returns {Promise<import("./archer.js").Content>}
 */
export async function contentOf(given, send) {
  if (typeof given === "string") return given;
  const items = given instanceof Blob ? [given] : given;
  const isMore = (/** @type {unknown} */ item) => item instanceof Blob || isPart(item);
  const isSaid = (/** @type {unknown} */ item) => typeof item === "string" || isMore(item);
  if (!Array.isArray(items) || !items.some(isMore) || !items.every(isSaid)) return JSON.stringify(given) ?? "";
  const parts = [];
  for (const item of items) parts.push(await partOf(item, send));
  const message = { content: parts };
  return hasLargeData({ messages: [message] }) ? (await withoutData(message, send)).content : parts;
}

/** @param {any} item @param {(blob: Blob) => Promise<UploadedFile>} send */
async function partOf(item, send) {
  if (typeof item === "string") return { type: "text", text: item };
  if (!(item instanceof Blob)) return item;
  const { file_id } = await send(item);
  return item.type.startsWith("image/") ? { type: "image", file_id } : documentOf(file_id, item);
}

/** @param {string} file_id @param {Blob} file */
const documentOf = (file_id, file) => ({ type: "file", file_id, ...(nameOf(file) && { filename: nameOf(file) }) });

/** Whether a value has the fields of a part; an array of other objects becomes JSON. @param {any} item */
function isPart(item) {
  if (item?.type === "text") return typeof item.text === "string";
  return (item?.type === "image" || item?.type === "file") && typeof (item.file_id ?? item.url) === "string";
}

/** Whether a request holds more base64 than may go over the socket with it. @param {any} request */
export function hasLargeData(request) {
  let length = 0;
  for (const message of request.messages ?? []) for (const part of dataIn(message)) length += part.url.length;
  return length > INLINE_CHARS_MAX;
}

/** @param {any} message @param {(blob: Blob) => Promise<UploadedFile>} send */
async function withoutData(message, send) {
  const found = new Set(dataIn(message));
  if (found.size === 0) return message;
  const content = [];
  for (const part of message.content) {
    const blob = found.has(part) ? blobOf(part.url) : undefined;
    const { url, ...rest } = part;
    // Data that can't be decoded is sent unchanged: the server's error says what is wrong with it, and where.
    content.push(blob ? { ...rest, file_id: (await send(blob)).file_id } : part);
  }
  return { ...message, content };
}

/** The parts of a message that hold base64. @param {any} message @returns {any[]} */
function dataIn(message) {
  const parts = Array.isArray(message?.content) ? message.content : [];
  return parts.filter((/** @type {any} */ part) => typeof part?.url === "string" && /^data:/i.test(part.url));
}

/** @param {string} url */
function blobOf(url) {
  const comma = url.indexOf(",");
  try {
    const bytes = Uint8Array.from(atob(url.slice(comma + 1)), (character) => character.charCodeAt(0));
    return new Blob([bytes], { type: url.slice(5, comma).split(";")[0] });
  } catch {
    return undefined;
  }
}

/** @param {Blob} blob @returns {string} */
const nameOf = (blob) => (blob instanceof File ? blob.name : "");

/**
 * @param {URL} url @param {Blob} blob @param {string | undefined} token @param {AbortSignal} [signal]
 * @param {(progress: UploadProgress) => void} [onProgress]
 * @returns {Promise<UploadResponse>}
 */
function post(url, blob, token, signal, onProgress) {
  const headers = { "Content-Type": blob.type || "application/octet-stream", ...(token && { Authorization: `Bearer ${token}` }) };
  const told = (/** @type {number} */ sentBytes) => onProgress?.({ filename: nameOf(blob), sentBytes, totalBytes: blob.size });
  // Only XMLHttpRequest reports the progress of an upload.
  if (typeof XMLHttpRequest !== "function") return postByFetch(url, blob, headers, signal, told);
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const abort = () => request.abort();
    request.open("POST", url);
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    request.upload.onprogress = ({ loaded }) => told(Math.min(loaded, blob.size));
    request.onload = () => resolve({ status: request.status, text: request.responseText });
    request.onerror = () => reject(unreachable(`a file could not be sent to ${url.href}`));
    request.onabort = () => reject(signal?.reason);
    request.onloadend = () => signal?.removeEventListener("abort", abort);
    signal?.addEventListener("abort", abort);
    request.send(blob);
  });
}

/**
 * @param {URL} url @param {Blob} blob @param {Record<string, string>} headers @param {AbortSignal | undefined} signal
 * @param {(sentBytes: number) => void} told
 * @returns {Promise<UploadResponse>}
 */
async function postByFetch(url, blob, headers, signal, told) {
  try {
    const response = await fetch(url, { method: "POST", body: blob, headers, signal });
    told(blob.size);
    return { status: response.status, text: await response.text() };
  } catch (cause) {
    if (signal?.aborted) throw signal.reason;
    throw unreachable(`a file could not be sent to ${url.href}`, undefined, cause);
  }
}

/**
 * Whether its bytes are there: a file may have been changed, moved or removed since it was chosen, or is a folder. A
 * browser reports that as it reports a server that can't be reached; Firefox sends no more, and never ends the request.
 * @param {Blob} blob
 */
async function isReadable(blob) {
  try {
    // A folder is as large as an empty file, and a slice of either has nothing to read.
    const end = blob.size > 0 ? blob.slice(-1) : blob;
    return (await end.arrayBuffer()).byteLength === Math.min(1, blob.size);
  } catch {
    return false;
  }
}

/** @param {Blob} blob */
const unreadable = (blob) =>
  new ArcherError({
    kind: "invalid_params",
    message: `${nameOf(blob) || "the file"} can't be read`,
    hint: "It was changed, moved or removed after it was chosen, or is a folder: choose it again.",
  });

/** @param {URL} url @param {Blob} blob @param {UploadResponse} response @returns {UploadedFile} */
function fileIn(url, blob, { status, text }) {
  const body = parsed(text);
  if (status >= 200 && status < 300 && typeof body?.file_id === "string") return body;
  if (typeof body?.error?.message === "string") throw refusal({ message: body.error.message, data: body.error });
  if (status === 413) {
    const hint = "Make it smaller, or raise the proxy's limit (of nginx, client_max_body_size).";
    const message = `a proxy before ${url.origin} takes no file of ${blob.size} bytes`;
    throw new ArcherError({ kind: "content_too_large", message, hint });
  }
  if (status >= 500 || status === 408 || status === 429) throw unreachable(`${url.href} takes no files now (${status})`);
  throw notArcher(url, `responded to an upload with ${status}, unlike an Archer server`);
}

/** @param {string} text @returns {any} */
function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** @param {number} ms @param {AbortSignal} [signal] @returns {Promise<void>} */
function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    const over = () => signal?.removeEventListener("abort", abort);
    const timer = setTimeout(() => (over(), resolve()), ms);
    const abort = () => (clearTimeout(timer), over(), reject(signal?.reason));
    signal?.addEventListener("abort", abort);
  });
}
