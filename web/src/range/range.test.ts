import { expect, test } from "vitest";
import { LASTS, rangeAddress, rangeFilter, readRange, spanOf, stepFor, wholeSteps } from "./range.ts";

const NOW = Date.parse("2026-11-21T12:00:00Z");

test("a length until now moves with the clock", () => {
  expect(spanOf({ last: "1h" }, NOW)).toEqual({ from: NOW - 3_600_000, to: NOW });
  expect(spanOf({ last: "all" }, NOW)).toEqual({ from: null, to: NOW });
});

test("two moments stay", () => {
  const range = { from: "2026-01-01T00:00:00Z", to: "2026-01-02T00:00:00Z" };
  expect(spanOf(range, NOW)).toEqual({ from: Date.parse(range.from), to: Date.parse(range.to) });
});

test.each(LASTS.map((last) => ({ last })))("%j comes back from an address", (range) => {
  expect(readRange(rangeAddress(range), "24h")).toEqual(range);
});

test.each([
  {},
  { last: "3y" },
  { from: "x", to: "y" },
  { from: "2026-01-02", to: "2026-01-01" },
  { from: "2026-01-01" },
])("%j is none, so the usual one holds", (search) => expect(readRange(search, "24h")).toEqual({ last: "24h" }));

test.each([
  ["15m", "10s"],
  ["1h", "1m"],
  ["24h", "30m"],
  ["7d", "3h"],
  ["30d", "12h"],
  ["all", "365d"],
] as const)("%s is shown in steps of %s", (last, step) => {
  expect(stepFor(spanOf({ last }, NOW), 90).name).toBe(step);
});

test("the condition has no lower bound where there is none", () => {
  expect(rangeFilter(spanOf({ last: "all" }, NOW))).toEqual([{ range: { time: { lt: "2026-11-21T12:00:00.000Z" } } }]);
  expect(rangeFilter(spanOf({ last: "15m" }, NOW), "receivedtime")).toEqual([
    { range: { receivedtime: { gte: "2026-11-21T11:45:00.000Z", lt: "2026-11-21T12:00:00.000Z" } } },
  ]);
});

test("a chart has room for its first and last bar", () => {
  const step = { ms: 10, name: "10ms" };
  expect(wholeSteps({ from: 17, to: 41 }, step, undefined)).toEqual({ from: 10, to: 50, step: 10 });
  expect(wholeSteps({ from: null, to: 40 }, step, 23)).toEqual({ from: 20, to: 40, step: 10 });
  expect(wholeSteps({ from: null, to: 40 }, step, undefined)).toEqual({ from: 30, to: 40, step: 10 });
});
