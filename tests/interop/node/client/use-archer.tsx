import { useEffect, useRef, useState } from "react";
import { connect, type ArcherClient, type ChatMessage, type ChatStream, type State } from "./archer-client.js";

type Said = ChatMessage & { content: string }; // of text alone

export function useArcher(url: string) {
  const client = useRef<ArcherClient>(null);
  const stream = useRef<ChatStream>(null);
  const [state, setState] = useState<State>("connecting");
  const [messages, setMessages] = useState<Said[]>([]);
  const [error, setError] = useState<Error>();

  useEffect(() => {
    const archer = connect({ url }); // StrictMode's second mount gets the socket of the first
    client.current = archer;
    setState(archer.state);
    archer.on("state", (now, why) => (setState(now), setError(why)));
    return () => {
      stream.current?.cancel(); // leave this out to let the answer run on, for archer.resume(streamId)
      archer.close();
    };
  }, [url]);

  async function ask(content: string) {
    const asked: Said[] = [...messages, { role: "user", content }];
    setMessages(asked);
    setError(undefined);
    const answer = (stream.current = client.current!.send({ messages: asked }));
    try {
      for await (const _ of answer) setMessages([...asked, { role: "assistant", content: answer.text }]);
    } catch (problem) {
      setError(problem as Error); // an ArcherError: its `hint` says what to do
    }
  }

  return { state, messages, error, ask, stop: () => stream.current?.cancel() };
}
