import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { en } from "./en.ts";
import { ko } from "./ko.ts";
import { pickLanguage } from "./language.tsx";

type Leaf = [path: string, value: unknown];

function leaves(value: unknown, path = ""): Leaf[] {
  if (typeof value !== "object" || value === null) return [[path, value]];
  return Object.entries(value).flatMap(([name, inner]) => leaves(inner, path === "" ? name : `${path}.${name}`));
}

test("both languages say the same things", () => {
  expect(leaves(ko).map(([path]) => path)).toEqual(leaves(en).map(([path]) => path));
});

test("nothing is left empty", () => {
  for (const [path, value] of [...leaves(en), ...leaves(ko)]) expect(value, path).not.toBe("");
});

test("Korean is not English that was forgotten", () => {
  const english = new Map(leaves(en));
  const same = leaves(ko).filter(([path, value]) => typeof value === "string" && english.get(path) === value);
  // Names and words that are the same in both.
  const meant = /^(language\.|play\.title|explore\.modes\.sql|settings\.first\.curl|settings\.keys\.id)/;
  expect(same.filter(([path]) => !meant.test(path))).toEqual([]);
});

test("one is one, and more are many", () => {
  const { total, way, sql } = en.explore;
  expect([total(1, "1", "3"), total(0, "0", "3")]).toEqual(["1 event, found in 3 ms", "0 events, found in 3 ms"]);
  expect([way.rows(1), way.rows(2)]).toEqual(["one row", "2 rows"]);
  expect([way.batchOf(1, "1"), way.batchOf(2, "2")]).toEqual(["one event alone", "one of 2 events"]);
  expect([sql.rows(1, "1", 1, "1"), sql.rows(0, "0", 2, "2")]).toEqual(["1 row from 1 file.", "0 rows from 2 files."]);
});

test("every message is used somewhere", () => {
  const folder = fileURLToPath(new URL("..", import.meta.url));
  const code = readdirSync(folder, { recursive: true, encoding: "utf8" })
    .filter((name) => /\.tsx?$/.test(name) && !name.startsWith("language/"))
    .map((name) => readFileSync(`${folder}/${name}`, "utf8"))
    .join("\n");
  const unused = leaves(en)
    .map(([path]) => path)
    .filter((path) => {
      const parts = path.split(".");
      // Either `t.play.start`, or a group that is looked up by a value, `t.play.states[state]`.
      return !code.includes(`t.${path}`) && !code.includes(`t.${parts.slice(0, -1).join(".")}[`);
    });
  expect(unused).toEqual([]);
});

test("the language that was chosen comes first, then the browser's, then English", () => {
  expect(pickLanguage("ko", ["en-US"])).toBe("ko");
  expect(pickLanguage(null, ["fr-FR", "ko-KR", "en"])).toBe("ko");
  expect(pickLanguage("xx", ["fr"])).toBe("en");
});
