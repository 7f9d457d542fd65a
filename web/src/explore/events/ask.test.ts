import { expect, test } from "vitest";
import type { Found } from "../../api/search.ts";
import { histogramOf } from "./ask.ts";

const type = (key: string, doc_count: number) => ({ key, doc_count });

test("the histogram names the most frequent types and counts the others together", () => {
  const names = ["a", "b", "c", "d", "e", "f", "g"];
  const found: Found = {
    took: 1,
    hits: { total: { value: 0, relation: "eq" }, hits: [] },
    aggregations: {
      types: { buckets: names.map((name, i) => type(name, 10 - i)) },
      times: {
        buckets: [
          { key: 1_000, doc_count: 9, types: { buckets: [type("a", 3), type("f", 2), type("g", 4)] } },
          { key: 2_000, doc_count: 2, types: { buckets: [type("b", 2)] } },
        ],
      },
    },
  };
  const chart = histogramOf(found, { from: null, to: 3_000 }, "others");
  expect(chart.series).toEqual([
    { name: "a", points: [[1_000, 3]] },
    { name: "b", points: [[2_000, 2]] },
    { name: "c", points: [] },
    { name: "d", points: [] },
    { name: "e", points: [] },
    { name: "others", points: [[1_000, 6]] },
  ]);
  expect([chart.from, chart.to, chart.step]).toEqual([0, 31_536_000_000, 31_536_000_000]);
});
