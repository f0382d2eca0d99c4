// A picture or a file of a message. Its bytes are requested with the page's token.

import { useEffect, useState } from "../vendor/preact-hooks.js";
import { fileUrl } from "../state/files.js";
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
    let isOver = false;
    if (type === "image" && fileId) fileUrl(fileId).then((made) => !isOver && setShown(made), () => {});
    return () => void (isOver = true);
  }, [fileId]);
  const name = filename ?? (type === "image" ? strings.chat.picture : strings.chat.file);
  if (type === "image" && shown) return html`<img class="picture" src=${shown} alt=${name} />`;
  const open = async () => {
    try {
      const link = document.createElement("a");
      link.href = await fileUrl(fileId);
      link.download = name;
      link.click();
    } catch (error) {
      complain(error);
    }
  };
  return html`
    <button type="button" class="chip" disabled=${!fileId} onClick=${open}><${Icon} name="file" /> <span dir="auto">${name}</span></button>
  `;
}
