// Pictures and files: on their way to the server with the next question, and those that stored messages name.

import { signal } from "../vendor/signals.js";
import { client } from "./connection.js";
import { request } from "./server.js";

/**
 * @typedef {import("../../archer.js").Part} Part
 */

/** What the server kept of them, as addresses of this page. @type {Map<string, Promise<string>>} */
const urls = new Map();

/** One that is added to a question: it is sent at once. */
export class Attachment {
  sentBytes = signal(0);
  state = signal(/** @type {"sending" | "sent" | "failed"} */ ("sending"));
  error = signal("");
  fileId = "";
  #stop = new AbortController();

  /** @param {File} file */
  constructor(file) {
    this.file = file;
    this.isImage = file.type.startsWith("image/");
    this.url = this.isImage ? URL.createObjectURL(file) : "";
    this.sent = this.send();
  }

  /** Ends when it is there, or is not. */
  async send() {
    this.state.value = "sending";
    const { signal } = this.#stop;
    try {
      const now = client.peek();
      if (!now) throw new Error("not connected");
      const onProgress = (/** @type {{ sentBytes: number }} */ { sentBytes }) => (this.sentBytes.value = sentBytes);
      this.fileId = (await now.upload(this.file, { signal, onProgress })).file_id;
      this.state.value = "sent";
    } catch (error) {
      const { message, hint } = /** @type {any} */ (error);
      this.error.value = [message, hint].filter(Boolean).join(". ");
      this.state.value = "failed";
    }
  }

  remove() {
    this.#stop.abort();
    if (this.url) URL.revokeObjectURL(this.url);
  }

  /** @returns {Part} */
  get part() {
    if (this.isImage) return { type: "image", file_id: this.fileId };
    return { type: "file", file_id: this.fileId, ...(this.file.name && { filename: this.file.name }) };
  }
}

/** A stored file as an address that this page may show. @param {string} fileId */
export function fileUrl(fileId) {
  let made = urls.get(fileId);
  if (!made) {
    made = request(`api/v1/files/${encodeURIComponent(fileId)}`)
      .then((response) => response.blob())
      .then((blob) => URL.createObjectURL(blob));
    made.catch(() => urls.delete(fileId));
    urls.set(fileId, made);
  }
  return made;
}
