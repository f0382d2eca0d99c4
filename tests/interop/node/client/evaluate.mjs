// Runs the JavaScript that the tests write to standard input (evaluating.mjs). `kept` stays from one piece to the next.

import { WebSocket } from "ws";
import { ArcherError, connect } from "../../../../archer_ws/console/archer-client.js";
import { evaluateAll } from "./evaluating.mjs";

// Only who drives a browser waits for playwright, which takes half a second to load.
const playwright = () => import("playwright-core");
const kept = {};

await evaluateAll(process.stdin, process.stdout, { ArcherError, WebSocket, connect, kept, playwright });
await kept.browser?.close();
process.exit(0);
