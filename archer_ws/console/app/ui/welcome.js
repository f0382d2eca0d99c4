// The first visit: what this server can that others can't, each to be tried with one click.

import { cutConnection, isOpen } from "../state/connection.js";
import { begin, conversation, isSideBySide } from "../state/conversations.js";
import { base, facts } from "../state/server.js";
import { settingsOf } from "../state/settings.js";
import { canCall } from "../state/tools.js";
import { strings } from "../strings.js";
import { html } from "./html.js";

// So much of the answer is there when the connection is cut.
const CUT_AT_CHARS = 120;

/** @param {{ id: string }} props */
export function Welcome({ id }) {
  const { welcome } = strings;
  const here = conversation(id);
  const say = (/** @type {string} */ text) => here.ask({ text, parts: [] });
  const cutInMidSentence = () => {
    const answer = say(welcome.cut.prompt);
    const stop = answer?.beat.subscribe(() => {
      if (answer.text.length < CUT_AT_CHARS) return;
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
  // A model that knows no tools is made to call this one.
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
      <h1>${welcome.title}</h1>
      <p class="lead">${welcome.lead}</p>
      <ul>
        ${shows.map(
          ([show, run]) => html`
            <li>
              <h2>${/** @type {any} */ (show).title}</h2>
              <p>${/** @type {any} */ (show).text}</p>
              <button type="button" disabled=${!isOpen.value} onClick=${run}>${welcome.try}</button>
            </li>
          `,
        )}
      </ul>
      ${facts.value &&
      html`<p class="programs">${welcome.programs} <a href=${new URL("docs", base)} target="_blank" rel="noopener">${welcome.docs}</a>,
        <a href=${facts.value.javascript_client} target="_blank" rel="noopener">${welcome.client}</a>,
        ${welcome.socket} <code>${facts.value.socket.url}</code>, ${welcome.openai} <code>${facts.value.openai_base_url}</code></p>`}
    </div>
  `;
}
