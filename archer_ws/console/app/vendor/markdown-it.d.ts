export * from "markdown-it";
export { default } from "markdown-it";
