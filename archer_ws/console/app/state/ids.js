// Ids made by this page, so that a repeated request is idempotent. Pages over plain HTTP have no crypto.randomUUID.

/** @param {"str" | "ses" | "msg"} prefix */
export function newId(prefix) {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return `${prefix}_${Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}
