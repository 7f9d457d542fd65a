import { expect, test } from "vitest";
import type { SqlResult } from "./ask.ts";
import { chartOf } from "./chart.ts";

const result = (columns: [string, string][], rows: unknown[][]): SqlResult => ({
  columns: columns.map(([name, type]) => ({ name, type })),
  rows,
  truncated: false,
  files_read: 1,
});

test("names against numbers are bars", () => {
  const chart = chartOf(
    result(
      [
        ["type", "varchar"],
        ["n", "bigint"],
        ["price", "decimal(18,6)"],
      ],
      [
        ["a", 3, "1.50"],
        [null, 4, null],
      ],
    ),
  );
  expect(chart).toEqual({
    kind: "categories",
    shape: "bars",
    categories: ["a", "–"],
    series: [
      { name: "n", values: [3, 4] },
      { name: "price", values: [1.5, null] },
    ],
  });
});

test("times against numbers are lines, in order, in UTC", () => {
  const chart = chartOf(
    result(
      [
        ["t", "timestamp"],
        ["n", "double"],
      ],
      [
        ["2026-01-01 00:00:01", 2],
        ["2026-01-01T00:00:00Z", 1],
      ],
    ),
  );
  const at = Date.UTC(2026, 0, 1);
  expect(chart).toMatchObject({ kind: "time", from: at, to: at + 1_000 });
  expect(chart?.kind === "time" && chart.series[0]?.points).toEqual([
    [at, 1],
    [at + 1_000, 2],
  ]);
});

test.each([
  [[["n", "bigint"]], [[1], [2]]],
  [[["a", "varchar"]], [["x"], ["y"]]],
  [
    [
      ["a", "varchar"],
      ["n", "bigint"],
    ],
    [["x", 1]],
  ],
] as [[string, string][], unknown[][]][])("%j makes no chart", (columns, rows) => {
  expect(chartOf(result(columns, rows))).toBeNull();
});
