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

// So long a question waits to know what its model can; then it is asked as if that were not known.
const KNOWN_WITHIN_MS = 1500;
/** @type {() => void} */
let known = () => {};
const isKnown = new Promise((/** @type {(nothing: void) => void} */ resolve) => (known = resolve));

/** Once the models were asked for, or could not be in time. */
export function whenKnown() {
  if (models.peek()) return undefined;
  return Promise.race([isKnown, new Promise((resolve) => setTimeout(resolve, KNOWN_WITHIN_MS))]);
}

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
    known();
  }
}

/** @param {ModelName | undefined} name */
export function infoOf(name) {
  const wanted = name ?? defaultModel.value;
  const called = (/** @type {string | undefined} */ model) =>
    models.value?.items.find(({ id, provider }) => id === model && provider === wanted?.provider);
  // Ollama takes a name without its tag.
  return called(wanted?.model) ?? called(`${wanted?.model}:latest`);
}

openListeners.add(() => void readModels());
