export interface FirstEvent {
  origin: string;
  key: string;
  source: string;
}

export const TYPE = "first.event";

/** A command for a shell: single quotes keep everything as it is. */
export function curlSnippet({ origin, key, source }: FirstEvent): string {
  const body = JSON.stringify({ source, type: TYPE, data: { hello: "world" } });
  return [
    `curl ${quoted(`${origin}/v1/events`)} \\`,
    `  -H ${quoted(`Authorization: Bearer ${key}`)} \\`,
    "  -H 'Content-Type: application/json' \\",
    `  -d ${quoted(body)}`,
  ].join("\n");
}

/** For a page of one's own: a write key may be public. */
export function fetchSnippet({ origin, key, source }: FirstEvent): string {
  return [
    `await fetch(${word(`${origin}/v1/events`)}, {`,
    '  method: "POST",',
    "  headers: {",
    `    authorization: ${word(`Bearer ${key}`)},`,
    '    "content-type": "application/json",',
    "  },",
    `  body: JSON.stringify({ source: ${word(source)}, type: ${word(TYPE)}, data: { hello: "world" } }),`,
    "});",
  ].join("\n");
}

/** For what is told while a page is left: nobody waits for the answer. */
export function beaconSnippet({ origin, key, source }: FirstEvent): string {
  return [
    "navigator.sendBeacon(",
    `  ${word(`${origin}/v1/events?key=${encodeURIComponent(key)}`)},`,
    `  JSON.stringify({ source: ${word(source)}, type: ${word(TYPE)}, data: { hello: "world" } }),`,
    ");",
  ].join("\n");
}

/** A part of a page: events go together, and again until the server has them. */
export function sdkSnippet({ origin, key, source }: FirstEvent): string {
  return [
    '<script type="module">',
    `  import { Sluice } from ${word(`${origin}/sdk/sluice.js`)};`,
    `  const sluice = new Sluice({ url: ${word(origin)}, key: ${word(key)}, source: ${word(source)} });`,
    `  sluice.send(${word(TYPE)}, { hello: "world" });`,
    "</script>",
  ].join("\n");
}

/** As a word of a script, which may stand in a page. */
function word(text: string): string {
  return JSON.stringify(text).replaceAll("<", "\\u003c");
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
