import { expect, test } from "vitest";
import { filled, isEmpty, rowsOf } from "./data.ts";

test("series over time become rows, with gaps where a series has nothing", () => {
  const rows = rowsOf(
    {
      kind: "time",
      shape: "bars",
      from: 0,
      to: 3,
      series: [
        { name: "a", points: [[2, 5]] },
        {
          name: "b",
          points: [
            [1, 7],
            [2, 0],
          ],
        },
      ],
    },
    (at) => `t${at.getTime()}`,
  );
  expect(rows).toEqual({
    columns: ["a", "b"],
    rows: [
      { head: "t1", values: [null, 7] },
      { head: "t2", values: [5, 0] },
    ],
  });
});

test("a chart of zeros is empty, one with a value is not", () => {
  const of = (value: number | null) =>
    isEmpty({ kind: "categories", shape: "bars", categories: ["x"], series: [{ name: "a", values: [value] }] });
  expect([of(0), of(null), of(1)]).toEqual([true, true, false]);
});

test("series that are stacked have a value at each moment", () => {
  const series = [
    { name: "a", points: [[2, 5]] as [number, number][] },
    { name: "b", points: [[1, 7]] as [number, number][] },
  ];
  expect(filled({ kind: "time", shape: "bars", from: 0, to: 3, series }).map((s) => s.points)).toEqual([
    [
      [1, 0],
      [2, 5],
    ],
    [
      [1, 7],
      [2, 0],
    ],
  ]);
});
