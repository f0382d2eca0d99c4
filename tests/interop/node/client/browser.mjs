// A Chromium for many tests: prints the port where it is, and ends with its standard input. Each connection has a context
// of its own, as `kept.context`, and writes JavaScript (evaluating.mjs); what that prints comes back as {told}. When the
// connection ends, all contexts are closed: so one test after the other uses it.

import { createServer } from "node:net";
import { chromium } from "playwright-core";
import { evaluateAll } from "./evaluating.mjs";

const [, , executablePath, ...args] = process.argv;
const browser = await chromium.launch({ executablePath, args });

const server = createServer({ allowHalfOpen: true }, async (connection) => {
  connection.on("error", () => connection.destroy());
  const tell = (...words) => connection.write(`${JSON.stringify({ told: words.join(" ") })}\n`);
  const kept = { browser, context: await browser.newContext(), pages: {} };
  await evaluateAll(connection, connection, { kept, console: { ...console, error: tell, log: tell } });
  await Promise.all(browser.contexts().map((context) => context.close()));
  connection.end();
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));

process.stdin.resume().on("end", async () => {
  await browser.close();
  process.exit(0);
});
