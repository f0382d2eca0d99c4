// A component that asks as soon as it is mounted, by the client alone. React's StrictMode, which mounts everything
// twice, tempts it to make two sockets and lose a stream.

import { StrictMode, useEffect, useState } from "react";
import { createRoot } from "react-dom/client";
import { connect, type State } from "./archer-client.js";

const url = new URLSearchParams(location.search).get("archer")!;

function AsksAtOnce() {
  const [streamId] = useState(() => `at-once-${crypto.randomUUID()}`);
  const [state, setState] = useState<State>("connecting");
  const [text, setText] = useState("");
  const [status, setStatus] = useState("");
  useEffect(() => {
    const archer = connect({ url });
    const stream = archer.send({ stream_id: streamId, messages: [{ role: "user", content: "hold" }] });
    let isMounted = true;
    archer.on("state", (now) => isMounted && setState(now));
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
      <output id="state">{state}</output>
      <output id="at-once">{text}</output>
      <output id="at-once-status">{status}</output>
    </>
  );
}

createRoot(document.getElementById("root")!).render(
  <StrictMode>
    <AsksAtOnce />
  </StrictMode>,
);
