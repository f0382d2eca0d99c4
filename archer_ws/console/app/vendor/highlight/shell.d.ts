export { default } from "highlight.js/lib/languages/shell";
