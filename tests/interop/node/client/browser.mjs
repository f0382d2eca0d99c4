// A Chromium for many tests: prints where it is, and ends with its standard input.

import { chromium } from "playwright-core";

const [, , executablePath, ...args] = process.argv;
const server = await chromium.launchServer({ executablePath, args });
console.log(server.wsEndpoint());
process.stdin.resume().on("end", async () => {
  await server.close();
  process.exit(0);
});
