// Two ways in which React's StrictMode, which mounts everything twice, tempts to make two sockets and lose a stream:
// a chat by the README's hook, and a component that asks as soon as it is mounted.

import { StrictMode, useEffect, useState } from "react";
import { createRoot } from "react-dom/client";
import { connect } from "./archer-client.js";
import { useArcher } from "./use-archer.js";

const url = new URLSearchParams(location.search).get("archer")!;

function Chat() {
  const { state, messages, error, ask, stop } = useArcher(url);
  return (
    <>
      <output id="state">{state}</output>
      <output id="answer">{messages.at(-1)?.role === "assistant" && messages.at(-1)?.content}</output>
      <output id="error">{error?.message}</output>
      <button id="ask" onClick={() => ask("Why?")} />
      <button id="never" onClick={() => ask("never")} />
      <button id="stop" onClick={stop} />
    </>
  );
}

function AsksAtOnce() {
  const [streamId] = useState(() => `at-once-${crypto.randomUUID()}`);
  const [text, setText] = useState("");
  const [status, setStatus] = useState("");
  useEffect(() => {
    const archer = connect({ url });
    const stream = archer.send({ stream_id: streamId, messages: [{ role: "user", content: "hold" }] });
    let isMounted = true;
    (async () => {
      for await (const _ of stream) if (isMounted) setText(stream.text);
      if (isMounted) setStatus((await stream.ended).status);
    })().catch(() => {}); // the first mount's is lost when it closes
    return () => {
      isMounted = false;
      archer.close();
    };
  }, [streamId]);
  return (
    <>
      <output id="at-once">{text}</output>
      <output id="at-once-status">{status}</output>
    </>
  );
}

createRoot(document.getElementById("root")!).render(
  <StrictMode>
    <Chat />
    <AsksAtOnce />
  </StrictMode>,
);
