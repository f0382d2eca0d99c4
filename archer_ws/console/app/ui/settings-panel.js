// The request settings: a button that says how many were changed, and opens their form.

import { signal } from "../vendor/signals.js";
import { settingsOf } from "../state/settings.js";
import { strings } from "../strings.js";
import { html } from "./html.js";
import { Icon } from "./icons.js";
import { Popover } from "./menu.js";

/** Loaded after the first screen. */
const form = signal(/** @type {typeof import("./settings-form.js").SettingsForm | undefined} */ (undefined));

/** @param {{ sessionId: string }} props */
export function SettingsPanel({ sessionId }) {
  const { temperature, maxTokens, effort, system, schema } = settingsOf(sessionId);
  const changed = [temperature, maxTokens, effort, system, schema].filter((value) => value !== undefined && value !== "").length;
  const label = [strings.settings.label, ...(changed > 0 ? [strings.settings.changed(changed)] : [])].join(", ");
  return html`
    <${Popover} label=${label} panel="settings" kind="quiet" onOpen=${loadSettingsForm}
      face=${html`<${Icon} name="sliders" />${changed > 0 && html` <span>${strings.settings.changed(changed)}</span>`}`}>
      ${() => (form.value ? html`<${form.value} sessionId=${sessionId} />` : html`<p>${strings.settings.reading}</p>`)}
    <//>
  `;
}

/** Load the form; if that fails, it is tried again when the panel is next opened. */
export async function loadSettingsForm() {
  const loaded = await import("./settings-form.js").catch(() => undefined);
  if (loaded) form.value = loaded.SettingsForm;
}
