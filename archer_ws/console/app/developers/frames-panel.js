// The frames of the socket: a filtered list, and one frame in full.

import { useMemo } from "../vendor/preact-hooks.js";
import { useSignal } from "../vendor/signals.js";
import { FRAME_CHARS_MAX, forgetFrames, frames, seal } from "../state/wire.js";
import { CopyButton } from "../ui/copy-button.js";
import { html } from "../ui/html.js";
import { Icon } from "../ui/icons.js";
import { useChanges } from "./changes.js";
import { factsOf, includes, seqsOf } from "./frame-facts.js";
import { JsonText, pretty } from "./json-text.js";
import { strings } from "./strings.js";
import { VirtualList } from "./virtual-list.js";

/** @typedef {import("../state/wire.js").Frame} Frame */

const GATHER_MS = 100;
const STREAM_CHARS = 10;

export function FramesPanel() {
  const says = strings.frames;
  const draw = useChanges(GATHER_MS);
  const text = useSignal("");
  const method = useSignal("");
  const stream = useSignal("");
  const held = useSignal(/** @type {Frame[] | undefined} */ (undefined));
  const chosen = useSignal(/** @type {Frame | undefined} */ (undefined));
  const all = held.value ?? frames;
  const methods = new Set(method.value ? [method.value] : []);
  const streams = new Set(stream.value ? [stream.value] : []);
  const wanted = text.value.trim().toLowerCase();
  const shown = all.filter((frame) => {
    const facts = factsOf(frame);
    if (facts.method) methods.add(facts.method);
    if (facts.streamId) streams.add(facts.streamId);
    if (method.value && facts.method !== method.value) return false;
    if (stream.value && facts.streamId !== stream.value) return false;
    return !wanted || includes(frame, wanted);
  });
  const pause = () => {
    seal();
    held.value = held.peek() ? undefined : frames.slice();
  };
  const clear = () => {
    forgetFrames();
    held.value &&= [];
    chosen.value = undefined;
    draw();
  };
  const more = held.value ? frames.filter(({ n }) => n > (held.value?.at(-1)?.n ?? 0)).length : 0;
  return html`
    <div class="frames">
      <div class="filters">
        <input type="search" aria-label=${says.filter} placeholder=${says.filterHint} value=${text.value}
          onInput=${(/** @type {any} */ { target }) => (text.value = target.value)} />
        <${Choice} label=${says.method} any=${says.anyMethod} values=${[...methods].sort()} value=${method} />
        <${Choice} label=${says.stream} any=${says.anyStream} values=${[...streams]} value=${stream} brief=${brief} />
        <p class="count" data-paused=${held.value !== undefined}>
          ${says.shown(shown.length, all.length)}${held.value && html`, ${says.paused(more)}`}
        </p>
        <span class="buttons">
          <button type="button" class="quiet icon-only" aria-pressed=${held.value !== undefined} aria-label=${says.pause}
            title=${held.value ? says.go : says.pause} onClick=${pause}><${Icon} name=${held.value ? "play" : "pause"} /></button>
          <button type="button" class="quiet icon-only" aria-label=${says.clear} title=${says.clear} onClick=${clear}><${Icon} name="clear" /></button>
        </span>
      </div>
      ${shown.length === 0
        ? html`<p class="empty">${all.length === 0 ? says.none : says.noneFit}</p>`
        : html`<${VirtualList} items=${shown} label=${says.list} chosen=${chosen.value?.n} row=${row}
            onChoose=${(/** @type {Frame} */ frame) => (chosen.value = frame)} />`}
      ${chosen.value && html`<${Detail} frame=${chosen.value} count=${chosen.value.count} onClose=${() => (chosen.value = undefined)} />`}
    </div>
  `;
}

/** @param {Frame} frame */
function row(frame) {
  const says = strings.frames;
  const { method, streamId, isResponse, error } = factsOf(frame);
  const { from, seq } = seqsOf(frame);
  return html`
    <span class="way" data-out=${frame.isOut}>${frame.isOut ? "↑" : "↓"}<span class="unseen"> ${frame.isOut ? says.out : says.in}</span></span>
    <time>${strings.clock(frame.at)}</time>
    <span class="what"><b>${method || says.response}</b>${isResponse && method && html` ${says.response}`}${error && html` <em>${error}</em>`}
      ${frame.count > 1 && html` ${says.times(frame.count)}`}${seq !== undefined && html` <small>${strings.log.seq(from ?? seq, seq)}</small>`}</span>
    <span class="stream" title=${streamId}>${brief(streamId)}</span>
    <span class="size">${strings.size(frame.chars)}</span>
  `;
}

/** @param {string} streamId */
function brief(streamId) {
  return streamId.length <= STREAM_CHARS + 1 ? streamId : `${streamId.slice(0, STREAM_CHARS)}…`;
}

/**
 * @param {{ label: string, any: string, values: string[], value: import("../vendor/signals.js").Signal<string>,
 *   brief?: (value: string) => string }} props
 */
function Choice({ label, any, values, value, brief = (text) => text }) {
  return html`<select aria-label=${label} value=${value.value}
    onChange=${(/** @type {any} */ { target }) => (value.value = target.value)}>
    <option value="">${any}</option>
    ${values.map((each) => html`<option key=${each} value=${each}>${brief(each)}</option>`)}
  </select>`;
}

/** `count`: redraws the detail when the entry grows. @param {{ frame: Frame, count: number, onClose: () => void }} props */
function Detail({ frame, count, onClose }) {
  const says = strings.frames;
  const text = useMemo(() => shownText(frame), [frame, count]);
  const { method, isResponse } = factsOf(frame);
  const isGathered = frame.streamId !== undefined;
  return html`
    <section class="detail" aria-label=${says.detail}>
      <header>
        <span class="way" data-out=${frame.isOut}>${frame.isOut ? "↑" : "↓"}</span>
        <b>${method || says.response}${isResponse && method && ` ${says.response}`}</b>
        <span class="soft">${frame.isOut ? says.out : says.in} ${strings.clock(frame.at)}, ${strings.size(frame.chars)}</span>
        <${CopyButton} text=${() => frame.text} label=${count > 1 ? says.copyAll : says.copy} />
        <button type="button" class="quiet icon-only" aria-label=${says.closeDetail} title=${says.closeDetail} onClick=${onClose}><${Icon} name="close" /></button>
      </header>
      ${isGathered && html`<p class="soft">${says.gathered(count, frame.lastAt - frame.at)}</p>`}
      ${frame.chars > FRAME_CHARS_MAX && html`<p class="soft">${says.cut(FRAME_CHARS_MAX, frame.chars)}</p>`}
      <pre tabindex="0" dir="ltr"><${JsonText} text=${text} /></pre>
    </section>
  `;
}

/** @param {Frame} frame */
function shownText({ text, count }) {
  return count === 1 ? pretty(text) : text.split("\n").map((line) => pretty(line, 0)).join("\n");
}
