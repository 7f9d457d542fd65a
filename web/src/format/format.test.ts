import { expect, test } from "vitest";
import { formatsFor } from "./format.ts";

const en = formatsFor("en");

test("durations take the unit that fits", () => {
  expect([0, 850, 4_200, 60_000, 5_400_000, 172_800_000].map(en.duration)).toEqual([
    "0 ms",
    "850 ms",
    "4.2 sec",
    "1 min",
    "1.5 hr",
    "2 days",
  ]);
});

test("sizes take the unit that fits and never run out of units", () => {
  expect([0, 999, 1_000, 1_550_000, 3e12, 5e15].map(en.bytes)).toEqual([
    "0 byte",
    "999 byte",
    "1 kB",
    "1.6 MB",
    "3 TB",
    "5,000 TB",
  ]);
});

test("a time that is none is shown as nothing", () => {
  expect(en.moment(new Date("never"))).toBe("");
});

test("hours go from 0 to 23 in every language", () => {
  const midnight = new Date(2026, 0, 1, 0, 5, 9, 42);
  expect(en.exact(midnight)).toContain("00:05:09.042");
  expect(formatsFor("ko").clock(midnight)).toBe("00:05:09");
});
