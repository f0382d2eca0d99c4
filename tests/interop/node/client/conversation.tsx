import { useChat } from "archer-ws/react";

export function Conversation() {
  const { messages, status, error, send, cancel } = useChat({ url: "http://127.0.0.1:8000", storageKey: "chat" });
  return (
    <>
      {messages.map(({ role, content }, index) => <p key={index}>{role}: {String(content)}</p>)}
      {error && <p>{error.message}. {error.hint}</p>}
      <button disabled={status !== "ready"} onClick={() => send("Why is the sky blue?")}>Ask</button>
      <button disabled={status === "ready"} onClick={cancel}>Stop</button>
    </>
  );
}
