// Runs the JavaScript that the tests write to standard input, a JSON line each: {id, code, args}. What the code
// returns, or throws, is answered by a line of the same id; several may run at once. `kept` stays from one to the next.

import { createInterface } from "node:readline";
import { WebSocket } from "ws";
import { ArcherError, connect } from "../../../../archer_ws/console/archer-client.js";

const AsyncFunction = (async () => {}).constructor;
// Only who drives a browser waits for playwright, which takes half a second to load.
const playwright = () => import("playwright-core");
const scope = { ArcherError, WebSocket, connect, kept: {}, playwright };

async function evaluate({ id, code, args }) {
  const names = { ...scope, ...args };
  try {
    const value = await new AsyncFunction(...Object.keys(names), code)(...Object.values(names));
    return { id, value };
  } catch (error) {
    return { id, error: error instanceof Error ? { ...error, name: error.name, message: error.message } : String(error) };
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  evaluate(JSON.parse(line)).then((answer) => process.stdout.write(`${JSON.stringify(answer)}\n`));
}
await scope.kept.browser?.close();
process.exit(0);
