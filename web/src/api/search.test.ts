import { expect, test } from "vitest";
import { buckets, metric, tableOf } from "./search.ts";

test("an index belongs to a table", () => {
  expect(tableOf("sluice-game_result-2026.11")).toBe("game_result");
  expect(tableOf("sluice-event-2026.01")).toBe("event");
});

test("aggregations are read where they are, and missed where they are not", () => {
  const aggregations = { by: { buckets: [{ key: "a", doc_count: 2, m: { value: 3 } }] }, n: { value: null } };
  expect(buckets(aggregations, "by")).toHaveLength(1);
  expect(metric(buckets(aggregations, "by")[0], "m")).toBe(3);
  expect(metric(aggregations, "n")).toBeNull();
  expect(buckets(undefined, "by")).toEqual([]);
});
