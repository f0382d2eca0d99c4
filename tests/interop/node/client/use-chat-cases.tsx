// Components that use the hook in less usual ways; `?case=` says which. `chat` is the hook's result at the last render.

import { Activity, useEffect, useState } from "react";
import { createRoot } from "react-dom/client";
import { useChat, type Chat, type UseChatOptions } from "archer-ws/react";

const query = new URLSearchParams(location.search);
const url = query.get("archer")!;

function useShown(options: UseChatOptions): Chat {
  const chat = useChat(options);
  Object.assign(window, { chat });
  return chat;
}

function Shown({ chat: { connection, status, text, error, messages } }: { chat: Chat }) {
  return (
    <>
      <output id="connection">{connection}</output>
      <output id="status">{status}</output>
      <output id="text">{text}</output>
      <output id="error">{error?.kind}</output>
      <ol id="messages">
        {messages.map(({ role, content }, index) => <li key={index}>{`${role}: ${String(content)}`}</li>)}
      </ol>
    </>
  );
}

function Conversation(options: UseChatOptions) {
  return <Shown chat={useShown({ url, ...options })} />;
}

/** Its handlers use a state that changes after the request was sent. */
function Counts() {
  const [count, setCount] = useState(0);
  const chat = useShown({
    url,
    tools: { report: { parameters: { type: "object" }, needsApproval: true, run: () => `counted ${count}` } },
    approve: () => count === 1,
  });
  const ask = () => {
    chat.send("call");
    setCount(count + 1);
  };
  return (
    <>
      <Shown chat={chat} />
      <button id="ask" onClick={ask} />
    </>
  );
}

/** Its first address is not one. */
function Readdressed() {
  const [address, setAddress] = useState("localhost");
  return (
    <>
      <Conversation url={address} />
      <button id="mend" onClick={() => setAddress(url)} />
    </>
  );
}

function Asks({ send }: Pick<Chat, "send">) {
  useEffect(() => void send("Why?"), [send]);
  return null;
}

/** Its child asks as soon as it is mounted. */
function Parent() {
  const chat = useShown({ url });
  return (
    <>
      <Shown chat={chat} />
      <Asks send={chat.send} />
    </>
  );
}

/** It can be hidden, and shows another conversation then. */
function Hidden() {
  const [isHidden, setHidden] = useState(false);
  const [storageKey, setStorageKey] = useState("first");
  const show = (key: string) => {
    setStorageKey(key);
    setHidden(false);
  };
  return (
    <>
      <Activity mode={isHidden ? "hidden" : "visible"}>
        <Conversation storageKey={storageKey} />
      </Activity>
      <button id="hide" onClick={() => setHidden(true)} />
      <button id="first" onClick={() => show("first")} />
      <button id="second" onClick={() => show("second")} />
    </>
  );
}

/** Another component takes its place and continues its conversation. */
function Replaced() {
  const [key, setKey] = useState(0);
  return (
    <>
      <Conversation key={key} storageKey="chat" />
      <button id="replace" onClick={() => setKey(key + 1)} />
    </>
  );
}

const cases: Record<string, () => React.ReactNode> = { Counts, Readdressed, Parent, Hidden, Replaced };
const Case = cases[query.get("case")!]!;
createRoot(document.getElementById("root")!).render(<Case />);
