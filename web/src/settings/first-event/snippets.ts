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
export function browserSnippet({ origin, key, source }: FirstEvent): string {
  return [
    `await fetch(${JSON.stringify(`${origin}/v1/events`)}, {`,
    '  method: "POST",',
    "  headers: {",
    `    authorization: ${JSON.stringify(`Bearer ${key}`)},`,
    '    "content-type": "application/json",',
    "  },",
    `  body: JSON.stringify({ source: ${JSON.stringify(source)}, type: ${JSON.stringify(TYPE)}, data: { hello: "world" } }),`,
    "});",
  ].join("\n");
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
