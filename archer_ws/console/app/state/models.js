// The available models, the state of each provider, and why one is unavailable.

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
/** The model of a request that names none. */
export const defaultModel = computed(() => models.value?.default);

// How long a request waits for the model's capabilities; after that it is sent without knowing them.
const KNOWN_WITHIN_MS = 1500;
/** @type {() => void} */
let known = () => {};
const isKnown = new Promise((/** @type {(nothing: void) => void} */ resolve) => (known = resolve));

/** Resolves when the models were loaded, or after KNOWN_WITHIN_MS. */
export function whenKnown() {
  if (models.peek()) return undefined;
  return Promise.race([isKnown, new Promise((resolve) => setTimeout(resolve, KNOWN_WITHIN_MS))]);
}

/** Load models and providers again. On failure the last state stays. */
export async function readModels() {
  const asked = client.peek();
  if (!asked || isAsking.peek()) return;
  isAsking.value = true;
  try {
    const [listed, states] = await Promise.all([asked.call("model/list"), asked.call("provider/status")]);
    models.value = listed;
    providers.value = states;
  } catch {
    // The connection's state shows the reason.
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
  // Ollama accepts a name without its tag.
  return called(wanted?.model) ?? called(`${wanted?.model}:latest`);
}

openListeners.add(() => void readModels());
