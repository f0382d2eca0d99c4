// Pictures and files: uploads for the next message, and downloads of those in stored messages.

import { signal } from "../vendor/signals.js";
import { client } from "./connection.js";
import { request } from "./server.js";

/**
 * @typedef {import("../../archer.js").Part} Part
 */

/** Object URLs of downloaded files, by file id. @type {Map<string, Promise<string>>} */
const urls = new Map();

/** A file attached to the next message. The upload starts immediately. */
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

  /** Upload it. Resolves when the upload succeeded or failed; see `state`. */
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

/** An object URL for a stored file. @param {string} fileId */
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
