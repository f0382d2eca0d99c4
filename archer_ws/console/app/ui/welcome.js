// The first visit: demonstrations of what sets this server apart, each with one click.

import { cutConnection, isOpen } from "../state/connection.js";
import { begin, conversation, isSideBySide } from "../state/conversations.js";
import { base, clientUrl, facts, openaiUrl, socketUrl } from "../state/server.js";
import { settingsOf } from "../state/settings.js";
import { canCall } from "../state/tools.js";
import { strings } from "../strings.js";
import { html } from "./html.js";

// The connection is cut once the completion has this many characters.
const CUT_AT_CHARS = 120;

/** @param {{ id: string }} props */
export function Welcome({ id }) {
  const { welcome } = strings;
  const here = conversation(id);
  const say = (/** @type {string} */ text) => here.ask({ text, parts: [] });
  const cutInMidSentence = () => {
    const completion = say(welcome.cut.prompt);
    const stop = completion?.beat.subscribe(() => {
      if (completion.text.length < CUT_AT_CHARS) return;
      queueMicrotask(() => stop?.());
      cutConnection();
    });
  };
  const threeAtOnce = () => {
    const [first, ...others] = welcome.three.prompts;
    const more = others.map((text) => ({ text, made: begin({ beside: true }) }));
    isSideBySide.value = true;
    say(first);
    for (const { text, made } of more) made.ask({ text, parts: [] });
  };
  // A model that is not known to call tools is made to call this one.
  const rollDice = () => {
    const parts = { text: welcome.tools.prompt, parts: [] };
    here.ask(parts, canCall(settingsOf(id)) ? {} : { mustCall: "roll_dice" });
  };
  const shows = [
    [welcome.cut, cutInMidSentence],
    [welcome.three, threeAtOnce],
    [welcome.stop, () => say(welcome.stop.prompt)],
    [welcome.tools, rollDice],
  ];
  return html`
    <div class="welcome">
      <h2 class="headline">${welcome.title}</h2>
      <p class="lead">${welcome.lead}</p>
      <ul>
        ${shows.map(
          ([show, run]) => html`
            <li>
              <h3>${/** @type {any} */ (show).title}</h3>
              <p>${/** @type {any} */ (show).text}</p>
              <button type="button" disabled=${!isOpen.value} onClick=${run}>${welcome.try}</button>
            </li>
          `,
        )}
      </ul>
      ${facts.value && html`<${Programs} />`}
    </div>
  `;
}

/** The addresses for programs. */
function Programs() {
  const { welcome } = strings;
  const link = (/** @type {string | URL} */ href, /** @type {string} */ text) =>
    html`<a href=${href} target="_blank" rel="noopener">${text}</a>`;
  const places = [
    link(new URL("docs", base), welcome.docs),
    link(clientUrl, welcome.client),
    html`${welcome.socket} <code>${socketUrl}</code>`,
    html`${welcome.openai} <code>${openaiUrl}</code>`,
  ];
  return html`<p class="programs">${welcome.programs} ${places.map((place) => html`<span>${place}</span> `)}</p>`;
}
