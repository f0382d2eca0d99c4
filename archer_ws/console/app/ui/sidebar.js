// The list of conversations: search, open, rename, export, delete.

import { useState } from "../vendor/preact-hooks.js";
import { begin, found, foundUnlisted, fork, hasMore, hasMoreFound, query, readMore, remove, rename, search, searchFailure, searchMore, sessions, show, shownId, showMessage, openIds, isSideBySide } from "../state/conversations.js";
import { facts } from "../state/server.js";
import { strings } from "../strings.js";
import { areKeysShown, ask } from "./dialogs.js";
import { html } from "./html.js";
import { Icon, Mark } from "./icons.js";
import { Live } from "./live.js";
import { Menu, Popover } from "./menu.js";
import { complain } from "./notice.js";
import { Places } from "./places.js";

/** @typedef {import("../../archer.js").Session} Session */

const SEARCH_DELAY_MS = 150;
const DAY_MS = 86_400_000;

/** @param {{ name: string, onDone: () => void }} props */
export function Sidebar({ name, onDone }) {
  const start = () => (begin(), onDone());
  return html`
    <nav class="sidebar" aria-label=${strings.list.title}>
      <header>
        <p class="brand"><${Mark} /> <span>${name}</span></p>
        <button type="button" class="quiet icon-only only-narrow" aria-label=${strings.app.closeMenu} onClick=${onDone}>
          <${Icon} name="close" />
        </button>
      </header>
      <button type="button" class="new" onClick=${start}><${Icon} name="plus" /> ${strings.list.new}</button>
      <${Search} />
      ${found.value || searchFailure.value ? html`<${Found} onDone=${onDone} />` : html`<${List} onDone=${onDone} />`}
      <footer>
        <${Popover} label=${strings.app.about} kind="quiet" panel="about"
          face=${html`<${Icon} name="info" /> ${strings.app.about}`}>
          ${() => html`<h2>${strings.welcome.places}</h2><${Places} />
            ${facts.value && html`<p class="soft">${name}. ${strings.places.version(facts.value.version)}</p>`}`}
        <//>
        <button type="button" class="quiet icon-only" aria-label=${strings.app.shortcuts} title=${strings.app.shortcuts}
          onClick=${() => (areKeysShown.value = true)}><${Icon} name="keyboard" /></button>
      </footer>
    </nav>
  `;
}

let timer = 0;

function Search() {
  const typed = (/** @type {Event} */ { target }) => {
    const { value } = /** @type {HTMLInputElement} */ (target);
    query.value = value;
    clearTimeout(timer);
    timer = window.setTimeout(() => search(value), value ? SEARCH_DELAY_MS : 0);
  };
  return html`
    <label class="search">
      <${Icon} name="search" />
      <input id="search" type="search" placeholder=${strings.list.search} aria-label=${strings.list.search}
        value=${query.value} onInput=${typed} />
    </label>
  `;
}

/** @param {{ onDone: () => void }} props */
function Found({ onDone }) {
  if (searchFailure.value) return html`<p class="empty" role="status">${strings.list.searchFailed(searchFailure.value.message)}</p>`;
  const hits = found.value ?? [];
  const open = (/** @type {import("../../archer.js").FoundMessage} */ hit) => {
    showMessage(hit).catch(complain);
    onDone();
  };
  const listed = new Map(foundUnlisted.value);
  for (const session of sessions.value ?? []) listed.set(session.session_id, session);
  if (hits.length === 0 && !hasMoreFound.value) return html`<p class="empty" role="status">${strings.list.nothingFound(query.value)}</p>`;
  return html`
    <h2 role="status">${strings.list.found(hits.length, hasMoreFound.value)}</h2>
    <ul class="list">
      ${hits.map(
        (hit) => html`
          <li key=${`${hit.session_id} ${hit.message_id}`}>
            <button type="button" class="entry" onClick=${() => open(hit)}>
              <span class="title" dir="auto">${nameOf(listed.get(hit.session_id))}</span>
              <span class="preview" dir="auto">${hit.snippet}</span>
            </button>
          </li>
        `,
      )}
      ${hasMoreFound.value && html`<li><${More} label=${strings.list.moreFound} readMore=${searchMore} /></li>`}
    </ul>
  `;
}

/** @param {{ onDone: () => void }} props */
function List({ onDone }) {
  const listed = sessions.value;
  if (!listed) return html`<p class="empty">${strings.list.reading}</p>`;
  if (listed.length === 0) return html`<p class="empty">${strings.list.none}</p>`;
  return html`
    <div class="list-scroller">
      ${groups(listed).map(
        ([label, members]) => html`
          <h2 key=${label}>${label}</h2>
          <ul class="list" key=${`${label}:list`}>
            ${members.map((session) => html`<${Entry} key=${session.session_id} session=${session} onDone=${onDone} />`)}
          </ul>
        `,
      )}
      ${hasMore.value && html`<${More} label=${strings.list.more} readMore=${readMore} />`}
    </div>
  `;
}

/** @param {{ label: string, readMore: () => Promise<void> }} props */
function More({ label, readMore }) {
  const [isReading, setReading] = useState(false);
  const read = () => {
    setReading(true);
    readMore().catch(complain).finally(() => setReading(false));
  };
  return html`<button type="button" class="quiet" disabled=${isReading} onClick=${read}>${label}</button>`;
}

/** Save a conversation as a file. @param {"exportJson" | "exportMarkdown"} form @param {string} id */
async function save(form, id) {
  try {
    const exports = await import("../state/exports.js");
    exports.download(await exports[form](id));
  } catch (error) {
    complain(error);
  }
}

/** By its title, else by the beginning of its last message. @param {Session | undefined} session */
function nameOf(session) {
  return session?.title || session?.preview || strings.list.untitled;
}

/** @param {{ session: Session, onDone: () => void }} props */
function Entry({ session, onDone }) {
  const id = session.session_id;
  const title = nameOf(session);
  const active = session.active ?? [];
  const items = [
    {
      label: strings.list.openBeside, icon: /** @type {const} */ ("columns"),
      run: () => {
        if (!openIds.peek().includes(id)) openIds.value = [...openIds.peek(), id];
        isSideBySide.value = true;
        shownId.value = id;
      },
    },
    {
      label: strings.list.rename, icon: /** @type {const} */ ("edit"),
      run: () =>
        ask({
          ...{ title: strings.list.rename, confirm: strings.list.rename },
          field: { label: strings.list.renameLabel, value: session.title ?? "" },
          run: (value) => void rename(id, value).catch(complain),
        }),
    },
    { label: strings.chat.branch, icon: /** @type {const} */ ("branch"), run: () => void fork(id).then(onDone, complain) },
    {
      label: strings.list.exportMarkdown, icon: /** @type {const} */ ("down"),
      run: () => void save("exportMarkdown", id),
    },
    { label: strings.list.exportJson, icon: /** @type {const} */ ("down"), run: () => void save("exportJson", id) },
    {
      label: strings.list.delete, icon: /** @type {const} */ ("close"), isDangerous: true,
      run: () =>
        ask({
          ...{ title: strings.list.deleteQuestion(title), text: strings.list.deleteText, confirm: strings.list.delete },
          ...{ isDangerous: true, run: () => void remove(id).catch(complain) },
        }),
    },
  ];
  return html`
    <li class="row" data-shown=${id === shownId.value}>
      <button type="button" class="entry" aria-current=${id === shownId.value ? "true" : undefined}
        onClick=${() => (show(id), onDone())}>
        <span class="title" dir="auto">${title}</span>
        ${active.length > 0 && html`<${Live} isWaiting=${active.some(({ status }) => status === "waiting")} />`}
      </button>
      <${Menu} label=${strings.list.menu(title)} items=${items} />
    </li>
  `;
}

/** Group conversations by how long ago they changed. @param {Session[]} listed @returns {[string, Session[]][]} */
function groups(listed) {
  const midnight = new Date().setHours(0, 0, 0, 0);
  const { today, yesterday, week, earlier } = strings.list;
  /** @type {Map<string, Session[]>} */
  const made = new Map();
  for (const session of listed) {
    const at = Date.parse(session.updated_at);
    const label =
      at >= midnight ? today : at >= midnight - DAY_MS ? yesterday : at >= midnight - 6 * DAY_MS ? week : earlier;
    made.set(label, [...(made.get(label) ?? []), session]);
  }
  return [...made];
}
