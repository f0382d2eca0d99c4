// The tools that this page offers, so that one sees tools run where the client is. Harmless, and asked for before they run.

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

/** Those that a request offers: where they are wanted, and the model is known to call. @param {ChatSettings} settings */
export function offered(settings) {
  return settings.tools && canCall(settings) ? tools : {};
}

/** @param {ChatSettings} settings */
export function canCall({ model }) {
  return infoOf(model)?.capabilities?.includes("tools") === true;
}

function roll() {
  // Without the bias of a remainder: what lies beyond the last multiple of six is thrown again.
  for (;;) {
    const [byte] = crypto.getRandomValues(new Uint8Array(1));
    if (byte < 252) return (byte % 6) + 1;
  }
}
