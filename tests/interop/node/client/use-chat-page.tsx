// A chat by the package's hook, under StrictMode; `?ask=1` asks as soon as it is mounted, and `?tools=1` offers a tool with
// a long result.

import { StrictMode, useEffect, useState } from "react";
import { createRoot } from "react-dom/client";
import { useChat } from "archer-ws/react";

const query = new URLSearchParams(location.search);
const url = query.get("archer")!;
const storageKey = query.get("storage") ?? undefined;
const report = { description: "A long report.", parameters: { type: "object" }, run: () => "Regen in Tromsø. ".repeat(10_000) };

function Conversation() {
  const { messages, status, connection, text, error, ended, stream, send, cancel, setMessages } = useChat({
    ...{ url, storageKey, ...(query.has("tools") && { tools: { report } }) },
    request: { max_tokens: 50 },
  });
  useEffect(() => {
    if (query.has("ask")) send("hold");
  }, [send]);
  return (
    <>
      <output id="connection">{connection}</output>
      <output id="status">{status}</output>
      <output id="text">{text}</output>
      <output id="ended">{ended?.status}</output>
      <output id="error">{error?.kind}</output>
      <output id="stream">{stream?.streamId}</output>
      <ol id="messages">
        {messages.map(({ role, content }, index) => <li key={index}>{`${role}: ${String(content)}`}</li>)}
      </ol>
      <button id="ask" onClick={() => send("Why?")} />
      <button id="hold" onClick={() => send("hold")} />
      <button id="never" onClick={() => send("never")} />
      <button id="call" onClick={() => send("call")} />
      <button id="cancel" onClick={cancel} />
      <button id="clear" onClick={() => setMessages([])} />
    </>
  );
}

function Page() {
  const [isShown, setShown] = useState(true);
  return (
    <>
      {isShown && <Conversation />}
      <button id="toggle" onClick={() => setShown(!isShown)} />
    </>
  );
}

createRoot(document.getElementById("root")!).render(
  <StrictMode>
    <Page />
  </StrictMode>,
);
