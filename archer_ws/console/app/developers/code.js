// A request as code to run elsewhere: curl, the JavaScript client, Python. It never contains a token.

/**
 * `url`: the server's; `clientUrl`: its JavaScript client.
 * @typedef {{ url: string, clientUrl: string, needsToken: boolean }} Place
 */

const STREAM_PATH = "api/v1/chat/completions/stream";

/** @type {Record<string, (request: object, place: Place) => string>} */
export const codes = { curl, javascript, python };

/**
 * sh, bash and zsh interpret nothing inside single quotes. fish reads two backslashes as one, so a pair is written as
 * \u005c.
 * @param {object} request @param {Place} place
 */
function curl(request, { url, needsToken }) {
  const body = JSON.stringify(request, null, 2).replace(/\\(.)/g, (pair) => (pair === "\\\\" ? "\\u005c" : pair));
  return [
    `curl -N ${quoted(url + STREAM_PATH)}`,
    "-H 'Content-Type: application/json'",
    ...(needsToken ? ['-H "Authorization: Bearer $ARCHER_TOKEN"'] : []),
    `--data-binary ${quoted(body)}`,
  ].join(" \\\n  ");
}

/** @param {string} text */
function quoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

/** @param {object} request @param {Place} place */
function javascript(request, { url, clientUrl, needsToken }) {
  const options = { url, ...(needsToken && { token: "YOUR_TOKEN" }) };
  const hasTools = "tools" in request;
  return `import { connect } from ${JSON.stringify(clientUrl)};

const client = connect(${literal(options, 0)});
const stream = client.send(${literal(request, 2)});
for await (const { content = "" } of stream) console.log(content);
${hasTools ? 'for (const { name, arguments: given } of stream.toolCalls) console.log("to be run:", name, given);\n' : ""}console.log((await stream.ended).status);
client.close();
`;
}

/** JSON as JavaScript: names are unquoted where possible. @param {unknown} value @param {number} spaces */
function literal(value, spaces) {
  const text = JSON.stringify(value, null, spaces);
  if (spaces === 0) return text.replace(/([{,])"(\w+)":/g, "$1 $2: ").replace(/}$/, " }");
  return text.replace(/^(\s*)"([a-z_]\w*)":/gim, "$1$2:");
}

/** @param {object} request @param {Place} place */
function python(request, { url, needsToken }) {
  const headers = needsToken ? `\nheaders = {"Authorization": f"Bearer {os.environ['ARCHER_TOKEN']}"}` : "";
  return `import json
${needsToken ? "import os\n" : ""}
import httpx

url = ${JSON.stringify(url + STREAM_PATH)}${headers}
request = ${pythonic(request, "")}
with httpx.stream("POST", url, json=request, ${needsToken ? "headers=headers, " : ""}timeout=None) as response:
    if response.is_error:
        raise SystemExit(response.read().decode())
    for line in response.iter_lines():
        if line.startswith("data: {"):
            event = json.loads(line[6:])
            print(event.get("content", ""), end="", flush=True)
            if event.get("error"):
                raise SystemExit(json.dumps(event["error"], indent=2))
print()
`;
}

/** JSON as Python. The escapes in JSON strings are valid in Python, too. @param {unknown} value @param {string} indent @returns {string} */
function pythonic(value, indent) {
  if (value === null || value === undefined) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (typeof value !== "object") return JSON.stringify(value);
  const inner = `${indent}    `;
  const isList = Array.isArray(value);
  const items = isList
    ? value.map((each) => pythonic(each, inner))
    : Object.entries(value).flatMap(([key, each]) => (each === undefined ? [] : [`${JSON.stringify(key)}: ${pythonic(each, inner)}`]));
  const [open, close] = isList ? "[]" : "{}";
  if (items.length === 0) return open + close;
  return `${open}\n${items.map((item) => `${inner}${item},\n`).join("")}${indent}${close}`;
}
