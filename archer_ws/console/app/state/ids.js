// Ids that this page mints, so that repeating a request is harmless. Pages over plain http have no crypto.randomUUID.

/** @param {"str" | "ses" | "msg"} prefix */
export function newId(prefix) {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return `${prefix}_${Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}
