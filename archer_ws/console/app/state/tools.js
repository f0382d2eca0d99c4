// The tools that this page offers, to show tools that run in the client. They are harmless.

import { infoOf } from "./models.js";

/** @typedef {import("./settings.js").ChatSettings} ChatSettings */

const DICE_MAX = 20;

/** @type {import("../../archer-client.d.ts").Tools} */
export const tools = {
  current_time: {
    description: "The current date and time, with the time zone of the person who asks.",
    parameters: { type: "object", properties: {}, additionalProperties: false },
    needsApproval: false,
    idempotent: true,
    run: () => ({
      local: new Date().toLocaleString("en-GB", { dateStyle: "full", timeStyle: "long" }),
      time_zone: Intl.DateTimeFormat().resolvedOptions().timeZone,
    }),
  },
  roll_dice: {
    description: "Roll dice with six sides, and tell what each shows.",
    parameters: {
      type: "object",
      properties: { count: { type: "integer", minimum: 1, maximum: DICE_MAX, description: "how many dice" } },
      required: ["count"],
      additionalProperties: false,
    },
    needsApproval: true,
    idempotent: false,
    run: ({ count }) => {
      const dice = Array.from({ length: Math.min(DICE_MAX, Math.max(1, count)) }, roll);
      return { dice, sum: dice.reduce((sum, die) => sum + die, 0) };
    },
  },
};

/** The tools for a request: all if the settings allow them and the model is known to call tools, else none. @param {ChatSettings} settings */
export function offered(settings) {
  return settings.tools && canCall(settings) ? tools : {};
}

/** @param {ChatSettings} settings */
export function canCall({ model }) {
  return infoOf(model)?.capabilities?.includes("tools") === true;
}

function roll() {
  // Rejection sampling: 252 is the last multiple of six in a byte; above it the remainder would be biased.
  for (;;) {
    const [byte] = crypto.getRandomValues(new Uint8Array(1));
    if (byte < 252) return (byte % 6) + 1;
  }
}
