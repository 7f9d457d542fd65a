// Fails the build when what a visitor waits for grows beyond its budget: what index.html loads before play, and the module for pages of
// others.
import { readFileSync, rmSync } from "node:fs";
import { gzipSync } from "node:zlib";

const LIMIT_BYTES = 250 * 1024;
const SDK_LIMIT_BYTES = 3 * 1024;
const DIST = new URL("../dist/", import.meta.url);
const manifest = JSON.parse(readFileSync(new URL(".vite/manifest.json", DIST), "utf8"));

// It is for this script, and not to be served.
rmSync(new URL(".vite/", DIST), { recursive: true });

const seen = new Set();
const scripts = new Set();
function visit(key) {
  if (seen.has(key)) return;
  seen.add(key);
  const chunk = manifest[key];
  if (chunk.file.endsWith(".js")) scripts.add(chunk.file);
  for (const imported of chunk.imports ?? []) visit(imported);
}
visit("index.html");

const sizeOf = (file) => gzipSync(readFileSync(new URL(file, DIST))).length;
const show = (bytes, what) => console.log(`${(bytes / 1024).toFixed(1).padStart(8)} KB gzip  ${what}`);

let total = 0;
for (const file of scripts) {
  const bytes = sizeOf(file);
  total += bytes;
  show(bytes, file);
}
const sdk = sizeOf("sdk/sluice.js");
show(total, `first scripts of the game page, of ${LIMIT_BYTES / 1024} KB`);
show(sdk, `sdk/sluice.js, of ${SDK_LIMIT_BYTES / 1024} KB`);
if (total > LIMIT_BYTES || sdk > SDK_LIMIT_BYTES) {
  console.error("these first scripts are beyond their budget");
  process.exit(1);
}
