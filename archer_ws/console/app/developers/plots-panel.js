// Small plots: token rate, time to first token, gaps between pieces.

import { conversation, openIds, shownId } from "../state/conversations.js";
import { html } from "../ui/html.js";
import { useChanges } from "./changes.js";
import { firsts, gaps, quantile, rates } from "./series.js";
import { strings } from "./strings.js";

/** @typedef {import("../state/completion.js").Completion} Completion */

const GATHER_MS = 250;
// With reduced motion the plots are redrawn less often.
const CALM_MS = 2000;
const RATE = { bins: 120, binMs: 500 };
const FIRSTS_MAX = 40;
const GAPS_MAX = 200;
// In units of the drawing, which is scaled to its container.
const HEIGHT = 100;

export function PlotsPanel() {
  const says = strings.plots;
  const isCalm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const completions = openIds.value.flatMap(completionsOf);
  useChanges(isCalm ? CALM_MS : GATHER_MS, () => openIds.peek().flatMap(completionsOf).some(isRecent));
  const perSecond = rates(completions, performance.now(), RATE);
  const firstMs = firsts(completions).slice(-FIRSTS_MAX);
  const newest = completionsOf(shownId.value).findLast((completion) => gaps(completion, 1).length > 0);
  const between = newest ? gaps(newest, GAPS_MAX) : [];
  const gapMs = between.map(({ ms }) => ms);
  const { duration } = strings;
  const most = Math.max(...perSecond);
  // The last bin is not complete yet.
  const now = perSecond.at(-2) ?? 0;
  const seconds = (RATE.bins * RATE.binMs) / 1000;
  return html`
    <div class="plots">
      <${Plot} title=${says.rate} note=${says.rateNote} axis=${[says.ago(seconds), says.nowAxis]}
        figures=${most > 0 ? [says.now(now), says.most(strings.number(most))] : []}>
        <path class="area" d=${area(perSecond, most)} /><path class="line" d=${line(perSecond, most)} />
      <//>
      <${Plot} title=${says.first} note=${says.firstNote} axis=${[says.older, says.newer]}
        figures=${firstMs.length > 0 ? [says.last(duration(firstMs.at(-1) ?? 0)), says.median(duration(quantile(firstMs, 0.5))), says.most(duration(Math.max(...firstMs)))] : []}>
        <path class="bars" d=${bars(firstMs, Math.max(...firstMs), FIRSTS_MAX)} />
      <//>
      <${Plot} title=${says.gaps} note=${says.gapsNote(between.length)} axis=${[says.older, says.newer]}
        figures=${gapMs.length > 0 ? [says.median(duration(quantile(gapMs, 0.5))), says.p95(duration(quantile(gapMs, 0.95))), says.most(duration(Math.max(...gapMs)))] : []}>
        <path class="bars" d=${bars(between.map(({ ms, cut }) => (cut ? 0 : ms)), Math.max(...gapMs), GAPS_MAX)} />
        <path class="bars cut" d=${bars(between.map(({ ms, cut }) => (cut ? ms : 0)), Math.max(...gapMs), GAPS_MAX)} />
      <//>
    </div>
  `;
}

/** @param {{ title: string, note: string, axis: string[], figures: string[], children: unknown }} props */
function Plot({ title, note, axis, figures, children }) {
  const told = figures.length > 0 ? figures.join(", ") : strings.plots.none;
  return html`
    <figure class="plot">
      <figcaption><b>${title}</b> <span class="figures-of">${told}</span></figcaption>
      <svg viewBox="0 0 ${HEIGHT} ${HEIGHT}" preserveAspectRatio="none" role="img" aria-label=${`${title}: ${told}`}>${children}</svg>
      <p class="axis" aria-hidden="true"><span>${axis[0]}</span><span>${axis[1]}</span></p>
      <small>${note}</small>
    </figure>
  `;
}

/** @param {string} id */
function completionsOf(id) {
  return conversation(id).items.value.flatMap((item) => (item.kind === "completion" ? [item.completion] : []));
}

/** Whether its text is still within the time range of the rate plot. @param {Completion} completion */
function isRecent({ times }) {
  return times.lastMs > performance.now() - (RATE.bins + 2) * RATE.binMs;
}

/** @param {number} value @param {number} most */
const y = (value, most) => (HEIGHT - (most > 0 ? (HEIGHT * value) / most : 0)).toFixed(1);

/** @param {number[]} values @param {number} most */
function line(values, most) {
  const step = HEIGHT / (values.length - 1);
  return values.map((value, index) => `${index === 0 ? "M" : "L"}${(index * step).toFixed(2)} ${y(value, most)}`).join("");
}

/** @param {number[]} values @param {number} most */
function area(values, most) {
  return `${line(values, most)}V${HEIGHT}H0Z`;
}

/** Bars aligned to the right of `places`; every bar has a visible minimum height. @param {number[]} values @param {number} most @param {number} places */
function bars(values, most, places) {
  const width = HEIGHT / places;
  return values
    .map((value, index) => {
      if (value <= 0) return "";
      const x = HEIGHT - (values.length - index) * width;
      return `M${x.toFixed(2)} ${HEIGHT}V${Math.min(Number(y(value, most)), HEIGHT - 1.5)}h${(width * 0.7).toFixed(2)}V${HEIGHT}Z`;
    })
    .join("");
}
