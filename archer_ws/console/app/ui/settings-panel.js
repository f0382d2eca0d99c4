// The request settings: temperature, token limit, effort, system prompt, JSON schema, tools.

import { useState } from "../vendor/preact-hooks.js";
import { infoOf } from "../state/models.js";
import { changeSettings, settingsOf } from "../state/settings.js";
import { strings } from "../strings.js";
import { html } from "./html.js";
import { Icon } from "./icons.js";
import { Popover } from "./menu.js";

const EFFORTS = ["none", "minimal", "low", "medium", "high", "xhigh", "max"];

/** @param {{ sessionId: string }} props */
export function SettingsPanel({ sessionId }) {
  const { temperature, maxTokens, effort, system, schema } = settingsOf(sessionId);
  const changed = [temperature, maxTokens, effort, system, schema].filter((value) => value !== undefined && value !== "").length;
  const label = [strings.settings.label, ...(changed > 0 ? [strings.settings.changed(changed)] : [])].join(", ");
  return html`
    <${Popover} label=${label} panel="settings" kind="quiet"
      face=${html`<${Icon} name="sliders" />${changed > 0 && html` <span>${strings.settings.changed(changed)}</span>`}`}>
      ${() => html`<${Form} sessionId=${sessionId} />`}
    <//>
  `;
}

/** @param {{ sessionId: string }} props */
function Form({ sessionId }) {
  const says = strings.settings;
  const settings = settingsOf(sessionId);
  const change = (/** @type {object} */ fields) => changeSettings(sessionId, fields);
  const efforts = infoOf(settings.model)?.reasoning_efforts ?? EFFORTS;
  const number = (/** @type {any} */ { target }) =>
    target.value === "" || !target.validity.valid ? undefined : Number(target.value);
  const reset = () =>
    change({ temperature: undefined, maxTokens: undefined, effort: undefined, system: "", schema: "", tools: true });
  return html`
    <h2>${says.title}</h2>
    <div class="pair">
      <label>${says.temperature}
        <input type="number" min="0" max="2" step="0.1" inputmode="decimal" placeholder=${says.unset} value=${settings.temperature ?? ""}
          onInput=${(/** @type {Event} */ event) => change({ temperature: number(event) })} />
        <small>${says.temperatureHint}</small>
      </label>
      <label>${says.maxTokens}
        <input type="number" min="1" step="1" inputmode="numeric" placeholder=${says.unset} value=${settings.maxTokens ?? ""}
          onInput=${(/** @type {Event} */ event) => change({ maxTokens: number(event) })} />
        <small>${says.maxTokensHint}</small>
      </label>
    </div>
    <label>${says.effort}
      <select disabled=${efforts.length === 0} value=${settings.effort ?? ""}
        onChange=${(/** @type {any} */ { target }) => change({ effort: target.value || undefined })}>
        <option value="">${efforts.length === 0 ? says.effortNone : says.effortDefault}</option>
        ${efforts.map((effort) => html`<option value=${effort}>${effort}</option>`)}
      </select>
    </label>
    <label>${says.system}
      <textarea rows="3" dir="auto" value=${settings.system}
        onInput=${(/** @type {any} */ { target }) => change({ system: target.value })}></textarea>
      <small>${says.systemHint}</small>
    </label>
    <${Schema} value=${settings.schema} onChange=${(/** @type {string} */ schema) => change({ schema })} />
    <label class="check">
      <input type="checkbox" checked=${settings.tools} onChange=${(/** @type {any} */ { target }) => change({ tools: target.checked })} />
      <span>${says.tools}<small>${says.toolsHint}</small></span>
    </label>
    <p class="choices"><button type="button" class="quiet" onClick=${reset}>${says.reset}</button></p>
  `;
}

/** Invalid JSON is not sent. @param {{ value: string, onChange: (schema: string) => void }} props */
function Schema({ value, onChange }) {
  const [text, setText] = useState(value);
  const wrong = whyNoJson(text);
  const typed = (/** @type {any} */ { target }) => {
    setText(target.value);
    if (!whyNoJson(target.value)) onChange(target.value);
  };
  return html`
    <label>${strings.settings.schema}
      <textarea class="code" rows="4" spellcheck=${false} dir="ltr" aria-invalid=${wrong !== ""} value=${text} onInput=${typed}></textarea>
      <small class=${wrong ? "wrong" : ""}>${wrong ? strings.settings.schemaWrong(wrong) : strings.settings.schemaHint}</small>
    </label>
  `;
}

/** @param {string} text */
function whyNoJson(text) {
  if (!text.trim()) return "";
  try {
    JSON.parse(text);
    return "";
  } catch (error) {
    return /** @type {Error} */ (error).message;
  }
}
