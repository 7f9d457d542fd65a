import { execFileSync } from "node:child_process";
import { expect, test } from "vitest";
import { beaconSnippet, curlSnippet, fetchSnippet, sdkSnippet } from "./snippets.ts";

const hostile = { origin: "http://127.0.0.1:7070", key: "sk_1", source: `it's "$(id)" \`x\` \\ </script>` };

test("the command's body is what was meant, whatever the source is called", () => {
  const printing = curlSnippet(hostile).replace(/^curl /, "printf '%s\\n' ");
  const words = execFileSync("sh", ["-c", printing], { encoding: "utf8" }).trimEnd().split("\n");
  expect(words[0]).toBe("http://127.0.0.1:7070/v1/events");
  expect(words[2]).toBe("Authorization: Bearer sk_1");
  expect(JSON.parse(words.at(-1) ?? "")).toEqual({
    source: hostile.source,
    type: "first.event",
    data: { hello: "world" },
  });
});

test("the script sends what was meant", async () => {
  const sent: [string, RequestInit][] = [];
  const fetch = async (url: string, init: RequestInit) => void sent.push([url, init]);
  const run = new Function("fetch", `return (async () => { ${fetchSnippet(hostile)} })()`) as (
    f: typeof fetch,
  ) => Promise<void>;
  await run(fetch);
  const [url, init] = sent[0] ?? ["", {}];
  expect(url).toBe("http://127.0.0.1:7070/v1/events");
  expect((init.headers as Record<string, string>).authorization).toBe("Bearer sk_1");
  expect(JSON.parse(String(init.body)).source).toBe(hostile.source);
});

test("the beacon carries its key in the address", () => {
  const sent: string[][] = [];
  const navigator = { sendBeacon: (...parts: string[]) => sent.push(parts) };
  new Function("navigator", beaconSnippet(hostile))(navigator);
  const [url, body] = sent[0] ?? [];
  expect(url).toBe("http://127.0.0.1:7070/v1/events?key=sk_1");
  expect(JSON.parse(body ?? "")).toEqual({ source: hostile.source, type: "first.event", data: { hello: "world" } });
});

test("the part of a page ends where it should, and says what was meant", () => {
  const text = sdkSnippet(hostile);
  expect(text.match(/<\/script>/g)).toHaveLength(1);
  const script = text.replace(/<.*?>/g, "").replace(/import .*;/, "");
  const made: unknown[] = [];
  class Sluice {
    constructor(options: unknown) {
      made.push(options);
    }
    send = (...parts: unknown[]) => made.push(parts);
  }
  new Function("Sluice", script)(Sluice);
  expect(made).toEqual([
    { url: hostile.origin, key: hostile.key, source: hostile.source },
    ["first.event", { hello: "world" }],
  ]);
});
