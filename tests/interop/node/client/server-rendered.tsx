// What a server sends of a page before any of it runs in the browser.

import { renderToString } from "react-dom/server";
import { useChat } from "archer-ws/react";

function Conversation() {
  const { messages, connection } = useChat({ initialMessages: [{ role: "assistant", content: "Ask me." }] });
  return <p>{`${connection} ${messages.map(({ content }) => content)}`}</p>;
}

console.log(renderToString(<Conversation />));
