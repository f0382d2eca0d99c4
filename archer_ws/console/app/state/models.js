// The models that can be named, the providers' state, and why one is missing.

import { computed, signal } from "../vendor/signals.js";
import { client, openListeners } from "./connection.js";

/**
 * @typedef {import("../../archer.js").ModelInfo} ModelInfo
 * @typedef {import("../../archer.js").ProviderStatus} ProviderStatus
 * @typedef {{ provider: string, model: string }} ModelName
 */

/** @type {import("../vendor/signals.js").Signal<import("../../archer.js").ModelListResult | undefined>} */
export const models = signal(undefined);
export const providers = signal(/** @type {Record<string, ProviderStatus>} */ ({}));
export const isAsking = signal(false);
/** What a request goes to that names no model. */
export const defaultModel = computed(() => models.value?.default);

/** Ask anew. What can't be asked keeps its last state. */
export async function readModels() {
  const asked = client.peek();
  if (!asked || isAsking.peek()) return;
  isAsking.value = true;
  try {
    const [listed, states] = await Promise.all([asked.call("model/list"), asked.call("provider/status")]);
    models.value = listed;
    providers.value = states;
  } catch {
    // The connection tells why.
  } finally {
    isAsking.value = false;
  }
}

/** @param {ModelName | undefined} name */
export function infoOf(name) {
  const wanted = name ?? defaultModel.value;
  return models.value?.items.find(({ id, provider }) => id === wanted?.model && provider === wanted?.provider);
}

openListeners.add(() => void readModels());
