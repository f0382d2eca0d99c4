// Which addresses of an answer lead anywhere: those of the web and of mail, and small pictures in the address itself.

const DATA_CHARS_MAX = 256 * 1024;
const PICTURE = /^data:image\/(?:png|jpeg|gif|webp);base64,[a-z0-9+/]+=*$/i;

/**
 * Where a link leads, or nothing if it may lead nowhere: not within the console either.
 * @param {string} address @returns {URL | undefined}
 */
export function linkTarget(address) {
  const url = parsed(address);
  return url && /^(?:https?|mailto):$/.test(url.protocol) ? url : undefined;
}

/**
 * What a picture is loaded from; `host` is empty where nobody is asked for it.
 * @param {string} address @returns {{ address: string, host: string } | undefined}
 */
export function pictureSource(address) {
  if (address.length <= DATA_CHARS_MAX && PICTURE.test(address)) return { address, host: "" };
  const url = parsed(address);
  return url && /^https?:$/.test(url.protocol) ? { address: url.href, host: url.host } : undefined;
}

/** @param {string} address */
function parsed(address) {
  try {
    return new URL(address);
  } catch {
    return undefined; // relative, or none
  }
}
