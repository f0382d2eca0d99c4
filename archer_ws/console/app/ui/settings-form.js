// The form of the request settings: temperature, token limit, effort, system prompt, JSON schema, tools.

import { useLayoutEffect, useRef, useState } from "../vendor/preact-hooks.js";
import { infoOf } from "../state/models.js";
import { changeSettings, settingsOf } from "../state/settings.js";
import { strings } from "../strings.js";
import { html } from "./html.js";

const EFFORTS = ["none", "minimal", "low", "medium", "high", "xhigh", "max"];

/** @param {{ sessionId: string }} props */
export function SettingsForm({ sessionId }) {
  const says = strings.settings;
  const settings = settingsOf(sessionId);
  const change = (/** @type {object} */ fields) => changeSettings(sessionId, fields);
  const efforts = infoOf(settings.model)?.reasoning_efforts ?? EFFORTS;
  // Fields with what is not valid have text of their own: a reset makes them anew.
  const [resets, setResets] = useState(0);
  const reset = () => {
    change({ temperature: undefined, maxTokens: undefined, effort: undefined, system: "", schema: "", tools: true });
    setResets(resets + 1);
  };
  return html`
    <h2>${says.title}</h2>
    <div class="pair" key=${`numbers ${resets}`}>
      <label>${says.temperature}
        <${NumberField} min="0" max="2" step="any" inputmode="decimal" value=${settings.temperature}
          onChange=${(/** @type {number | undefined} */ temperature) => change({ temperature })} />
        <small>${says.temperatureHint}</small>
      </label>
      <label>${says.maxTokens}
        <${NumberField} min="1" step="1" inputmode="numeric" value=${settings.maxTokens}
          onChange=${(/** @type {number | undefined} */ maxTokens) => change({ maxTokens })} />
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
    <${Schema} key=${`schema ${resets}`} value=${settings.schema} onChange=${(/** @type {string} */ schema) => change({ schema })} />
    <label class="check">
      <input type="checkbox" checked=${settings.tools} onChange=${(/** @type {any} */ { target }) => change({ tools: target.checked })} />
      <span>${says.tools}<small>${says.toolsHint}</small></span>
    </label>
    <p class="choices"><button type="button" class="quiet" onClick=${reset}>${says.reset}</button></p>
  `;
}

/**
 * A number, or what is being typed of one: that stays in the field while it is not valid, and is not sent.
 * @param {{ value: number | undefined, onChange: (value: number | undefined) => void }} props the others are the input's
 */
function NumberField({ value, onChange, ...limits }) {
  const field = useRef(/** @type {HTMLInputElement | null} */ (null));
  const [isWrong, setWrong] = useState(false);
  useLayoutEffect(() => {
    const { current } = field;
    if (current && numberIn(current) !== value) current.value = value === undefined ? "" : String(value);
  }, [value]);
  const typed = (/** @type {any} */ { target }) => {
    setWrong(!target.validity.valid);
    onChange(numberIn(target));
  };
  return html`<input ref=${field} type="number" placeholder=${strings.settings.unset} aria-invalid=${isWrong}
    ...${limits} onInput=${typed} />`;
}

/** @param {HTMLInputElement} field */
function numberIn({ value, validity }) {
  return value === "" || !validity.valid ? undefined : Number(value);
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
