// A picture or a file of a message. Its bytes are requested with the page's token.

import { useEffect, useState } from "../vendor/preact-hooks.js";
import { holdFile } from "../state/files.js";
import { strings } from "../strings.js";
import { html } from "./html.js";
import { Icon } from "./icons.js";
import { complain } from "./notice.js";

/** @param {{ part: import("../../archer.js").Part }} props */
export function PartView({ part }) {
  const { type, file_id: fileId, url, filename } = /** @type {any} */ (part);
  const given = typeof url === "string" && url.startsWith("data:image/") ? url : undefined;
  const [shown, setShown] = useState(/** @type {string | undefined} */ (given));
  useEffect(() => {
    if (type !== "image" || !fileId) return undefined;
    let isOver = false;
    const { url: made, release } = holdFile(fileId);
    made.then((url) => !isOver && setShown(url), () => {});
    return () => {
      isOver = true;
      release();
    };
  }, [fileId]);
  const name = filename ?? (type === "image" ? strings.chat.picture : strings.chat.file);
  if (type === "image" && shown) return html`<img class="picture" src=${shown} alt=${name} />`;
  const open = async () => {
    const { url: made, release } = holdFile(fileId);
    try {
      const link = document.createElement("a");
      link.href = await made;
      link.download = name;
      link.click();
    } catch (error) {
      complain(error);
    } finally {
      setTimeout(release, 0);
    }
  };
  return html`
    <button type="button" class="chip" disabled=${!fileId} onClick=${open}><${Icon} name="file" /> <span dir="auto">${name}</span></button>
  `;
}
