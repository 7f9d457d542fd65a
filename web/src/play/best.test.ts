import { expect, test } from "vitest";
import { isBetter, parseBest } from "./best.ts";

const best = { clicked: 40, rate: 80, at: "2026-01-01T00:00:00Z" };

test("what was kept is read back", () => expect(parseBest(JSON.stringify(best))).toEqual(best));

test.each([null, "", "{", "null", "7", '{"rate":80}', '{"clicked":1,"rate":500,"at":"x"}'])("%j is no best", (text) =>
  expect(parseBest(text)).toBeNull(),
);

test("only a higher rate is better", () => {
  expect([isBetter(0, null), isBetter(80, best), isBetter(82, best)]).toEqual([true, false, true]);
});
