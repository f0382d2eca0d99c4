// Which addresses in a completion are allowed: http, https, mailto, and small pictures as data URLs.

const DATA_CHARS_MAX = 256 * 1024;
const PICTURE = /^data:image\/(?:png|jpeg|gif|webp);base64,[a-z0-9+/]+=*$/i;

/**
 * The URL of a link, or undefined if the link is not allowed. Relative links are not: they would lead into the console.
 * @param {string} address @returns {URL | undefined}
 */
export function linkTarget(address) {
  const url = parsed(address);
  return url && /^(?:https?|mailto):$/.test(url.protocol) ? url : undefined;
}

/**
 * The source of a picture; `host` is empty if no host is contacted for it.
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
    return undefined; // relative or invalid
  }
}
