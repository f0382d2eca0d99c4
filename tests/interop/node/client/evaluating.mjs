// Runs the JavaScript that comes in JSON lines, each {id, code, args}. What the code returns, or throws, is answered by a
// line of the same id; several may run at once. What is in `scope` has its name there.

import { createInterface } from "node:readline";

const AsyncFunction = (async () => {}).constructor;

export async function evaluateAll(input, output, scope) {
  async function evaluate({ id, code, args }) {
    const names = { ...scope, ...args };
    try {
      const value = await new AsyncFunction(...Object.keys(names), code)(...Object.values(names));
      return { id, value };
    } catch (error) {
      return { id, error: error instanceof Error ? { ...error, name: error.name, message: error.message } : String(error) };
    }
  }

  for await (const line of createInterface({ input })) {
    evaluate(JSON.parse(line)).then((answer) => output.write(`${JSON.stringify(answer)}\n`));
  }
}
