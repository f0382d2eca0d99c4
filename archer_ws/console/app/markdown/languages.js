// The languages that can be highlighted, and their names after a fence.

/** Each language with its aliases. @type {Record<string, string>} */
const NAMES = {
  bash: "sh zsh console shellscript",
  c: "h",
  cpp: "c++ cc hpp",
  csharp: "cs c#",
  css: "scss less",
  diff: "patch",
  dockerfile: "docker",
  go: "golang",
  ini: "toml cfg conf properties",
  java: "",
  javascript: "js jsx mjs cjs",
  json: "json5 jsonc jsonl",
  kotlin: "kt",
  markdown: "md",
  php: "",
  python: "py python3",
  ruby: "rb",
  rust: "rs",
  shell: "shellsession",
  sql: "sqlite postgresql mysql",
  swift: "",
  typescript: "ts tsx",
  xml: "html svg vue",
  yaml: "yml",
};

/** The languages that may be embedded in each. @type {Record<string, string[]>} */
export const WITHIN = {
  javascript: ["xml", "css"],
  markdown: ["xml"],
  php: ["xml"],
  shell: ["bash"],
  typescript: ["xml", "css"],
  xml: ["css", "javascript"],
};

const BY_NAME = new Map(
  Object.entries(NAMES).flatMap(([language, others]) => [language, ...others.split(" ")].map((name) => [name, language])),
);

/**
 * The language that has this name, if it can be coloured.
 * @param {string} name
 */
export function languageOf(name) {
  return name ? BY_NAME.get(name.toLowerCase()) : undefined;
}
