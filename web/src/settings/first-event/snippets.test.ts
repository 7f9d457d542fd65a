import { execFileSync } from "node:child_process";
import { expect, test } from "vitest";
import { browserSnippet, curlSnippet } from "./snippets.ts";

const hostile = { origin: "http://127.0.0.1:7070", key: "sk_1", source: `it's "$(id)" \`x\` \\` };

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
  const run = new Function("fetch", `return (async () => { ${browserSnippet(hostile)} })()`) as (
    f: typeof fetch,
  ) => Promise<void>;
  await run(fetch);
  const [url, init] = sent[0] ?? ["", {}];
  expect(url).toBe("http://127.0.0.1:7070/v1/events");
  expect((init.headers as Record<string, string>).authorization).toBe("Bearer sk_1");
  expect(JSON.parse(String(init.body)).source).toBe(hostile.source);
});
