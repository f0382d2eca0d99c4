// The choice of the model: all models by provider; for an unavailable provider, why and what to do.

import { useState } from "../vendor/preact-hooks.js";
import { changeSettings, settingsOf } from "../state/settings.js";
import { defaultModel, infoOf, isAsking, models, providers, readModels } from "../state/models.js";
import { strings } from "../strings.js";
import { html } from "./html.js";
import { Icon } from "./icons.js";
import { Popover } from "./menu.js";

/** @typedef {import("../../archer.js").ProviderStatus} ProviderStatus */

// With at least this many models there is a search field.
const SEARCH_FROM = 8;

/** @param {{ sessionId: string }} props */
export function ModelPicker({ sessionId }) {
  const chosen = settingsOf(sessionId).model;
  const shown = chosen ?? defaultModel.value;
  const known = infoOf(chosen);
  const name = known?.name ?? shown?.model;
  return html`
    <${Popover} label=${strings.models.pick(name)} panel="models" kind="quiet pick" onOpen=${readModels}
      face=${html`<span class="title">${name ?? strings.models.label}</span>`}>
      ${(/** @type {() => void} */ close) => html`<${List} sessionId=${sessionId} onDone=${close} />`}
    <//>
  `;
}

/** @param {{ sessionId: string, onDone: () => void }} props */
function List({ sessionId, onDone }) {
  const [wanted, setWanted] = useState("");
  const listed = models.value;
  const chosen = settingsOf(sessionId).model;
  const preset = defaultModel.value;
  const choose = (/** @type {import("../state/models.js").ModelName | undefined} */ model) => {
    changeSettings(sessionId, { model });
    onDone();
  };
  const names = [...new Set([...Object.keys(providers.value), ...(listed?.items ?? []).map(({ provider }) => provider)])];
  const fits = (/** @type {string} */ text) => text.toLowerCase().includes(wanted.toLowerCase());
  const rank = (/** @type {string} */ name) => (providers.value[name]?.available === false ? 1 : 0);
  return html`
    ${(listed?.items.length ?? 0) >= SEARCH_FROM &&
    html`<input type="search" placeholder=${strings.models.search} aria-label=${strings.models.search} autofocus
      onInput=${(/** @type {any} */ { target }) => setWanted(target.value)} />`}
    <div class="options" aria-busy=${isAsking.value}>
      <${Option} isChosen=${!chosen} name=${strings.models.server} detail=${preset && `${preset.provider}, ${preset.model}`}
        onChoose=${() => choose(undefined)} />
      ${names.length === 0 && html`<p class="empty">${isAsking.value ? strings.models.reading : strings.models.none}</p>`}
      ${names
        .sort((one, other) => rank(one) - rank(other))
        .map((name) => {
          const members = (listed?.items ?? []).filter(({ provider, id }) => provider === name && fits(`${name} ${id}`));
          return html`
            <section key=${name}>
              <${ProviderHead} name=${name} status=${providers.value[name]} />
              ${members.map((model) => {
                const can = (model.capabilities ?? []).map((each) => strings.models.can[each]).filter(Boolean);
                const size = model.context_window ? [strings.models.context(model.context_window)] : [];
                return html`<${Option} key=${model.id} name=${model.name} detail=${[...size, ...can].join(", ")}
                  isChosen=${chosen?.model === model.id && chosen.provider === name}
                  onChoose=${() => choose({ provider: name, model: model.id })} />`;
              })}
            </section>
          `;
        })}
    </div>
    <p class="foot">
      <button type="button" class="quiet" disabled=${isAsking.value} onClick=${readModels}>
        <${Icon} name="again" /> ${isAsking.value ? strings.models.reading : strings.models.refresh}
      </button>
    </p>
  `;
}

/** @param {{ name: string, detail?: string, isChosen: boolean, onChoose: () => void }} props */
function Option({ name, detail, isChosen, onChoose }) {
  return html`
    <button type="button" class="option" aria-pressed=${isChosen} onClick=${onChoose}>
      <span class="title">${name}</span>${detail && html`<span class="detail">${detail}</span>`}
    </button>
  `;
}

/** @param {{ name: string, status?: ProviderStatus }} props */
function ProviderHead({ name, status }) {
  const says = strings.models;
  const state = !status
    ? ""
    : status.available
      ? status.latency_ms == null ? says.available : says.ok(status.latency_ms)
      : status.configured === false ? says.notConfigured : says.missing;
  return html`
    <h3 data-available=${status?.available}><span class="dot"></span>${name} <span class="detail">${state}</span></h3>
    ${status?.error && html`<p class="why" dir="auto">${status.error}</p>`}
    ${status?.hint && html`<p class="hint" dir="auto">${status.hint}</p>`}
  `;
}
