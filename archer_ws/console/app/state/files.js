// Pictures and files: uploads for the next message, and downloads of those in stored messages.

import { ArcherError } from "../../archer-client.js";
import { signal } from "../vendor/signals.js";
import { client } from "./connection.js";
import { request } from "./server.js";

/**
 * @typedef {import("../../archer.js").Part} Part
 */

/**
 * A downloaded file at its object URL, and how many hold it.
 * @typedef {{ url: Promise<string>, holders: number }} Download
 */

// How many files that nobody holds stay here, for who opens their conversation again.
const UNHELD_MAX = 20;

/** By file id; those that were held last are the last ones. @type {Map<string, Download>} */
const downloads = new Map();
let attachmentCount = 0;

/** A picture or a file attached to the next message. */
export class Attachment {
  sentBytes = signal(0);
  /** `gone`: it was sent, and the server no longer has it. */
  state = signal(/** @type {"sending" | "sent" | "failed" | "gone"} */ ("sending"));
  error = signal("");
  /** Where a picture can be shown from, once it can. */
  url = signal("");
  /** @type {Part | undefined} */
  #part;
  /** @type {File | undefined} */
  #file;
  #stop = new AbortController();
  #release = () => {};

  /** @param {string} name @param {boolean} isImage */
  constructor(name, isImage) {
    this.id = ++attachmentCount;
    this.name = name;
    this.isImage = isImage;
  }

  /** The upload starts immediately. @param {File} file */
  static of(file) {
    const made = new Attachment(file.name, file.type.startsWith("image/"));
    made.#file = file;
    if (made.isImage) {
      const url = URL.createObjectURL(file);
      made.url.value = url;
      made.#release = () => URL.revokeObjectURL(url);
    }
    made.send();
    return made;
  }

  /** One of a message that was written before. @param {Part} part */
  static again(part) {
    const { type, file_id: fileId, url, filename } = /** @type {any} */ (part);
    const made = new Attachment(filename ?? "", type === "image");
    made.#part = part;
    made.state.value = "sent";
    if (fileId) made.#find(fileId);
    else if (made.isImage && /^data:image\//.test(url)) made.url.value = url;
    return made;
  }

  /** How much of it is uploaded, in percent. */
  get percent() {
    const { size } = this.#file ?? { size: 0 };
    return size === 0 ? 100 : Math.floor((100 * this.sentBytes.value) / size);
  }

  /** Upload it. Resolves when the upload succeeded or failed; see `state`. */
  async send() {
    const file = /** @type {File} */ (this.#file);
    this.state.value = "sending";
    const { signal } = this.#stop;
    try {
      const now = client.peek();
      if (!now) throw new Error("not connected");
      const onProgress = (/** @type {{ sentBytes: number }} */ { sentBytes }) => (this.sentBytes.value = sentBytes);
      const { file_id } = await now.upload(file, { signal, onProgress });
      this.#part = this.isImage
        ? { type: "image", file_id }
        : { type: "file", file_id, ...(this.name && { filename: this.name }) };
      this.state.value = "sent";
    } catch (error) {
      const { message, hint } = /** @type {any} */ (error);
      this.error.value = [message, hint].filter(Boolean).join(". ");
      this.state.value = "failed";
    }
  }

  /** The server keeps a file for a while after its last use. @param {string} fileId */
  async #find(fileId) {
    try {
      if (this.isImage) {
        const { url, release } = holdFile(fileId);
        this.#release = release;
        this.url.value = await url;
      } else await request(pathOf(fileId), { method: "HEAD" });
    } catch (error) {
      if (error instanceof ArcherError && error.code === 404) this.state.value = "gone";
    }
  }

  /** It is in the composer no more: taken out, or sent. */
  leave() {
    this.#stop.abort();
    this.#release();
    this.#release = () => {};
  }

  /** Once it is sent. */
  get part() {
    return /** @type {Part} */ (this.#part);
  }
}

/**
 * A stored file: its object URL lasts until `release`, and most often longer.
 * @param {string} fileId
 */
export function holdFile(fileId) {
  const held = downloads.get(fileId) ?? download(fileId);
  held.holders++;
  const release = () => {
    held.holders--;
    if (held.holders > 0 || downloads.get(fileId) !== held) return;
    downloads.delete(fileId);
    downloads.set(fileId, held);
    forgetUnheld();
  };
  return { url: held.url, release };
}

/** @param {string} fileId */
function download(fileId) {
  const url = request(pathOf(fileId))
    .then((response) => response.blob())
    .then((blob) => URL.createObjectURL(blob));
  url.catch(() => downloads.delete(fileId));
  /** @type {Download} */
  const made = { url, holders: 0 };
  downloads.set(fileId, made);
  return made;
}

function forgetUnheld() {
  const unheld = [...downloads].filter(([, { holders }]) => holders === 0);
  for (const [fileId, { url }] of unheld.slice(0, -UNHELD_MAX)) {
    downloads.delete(fileId);
    url.then((made) => URL.revokeObjectURL(made), () => {});
  }
}

/** @param {string} fileId */
const pathOf = (fileId) => `api/v1/files/${encodeURIComponent(fileId)}`;
