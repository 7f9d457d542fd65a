import { expect, test } from "vitest";
import { exactField, type Filter, queryOf, readFilters, withFilter } from "./filters.ts";

const filter = (field: string, is: Filter["is"], value = ""): Filter => ({ field, is, value });

test("words and conditions become one query", () => {
  const filters = [
    filter("type", "=", "http.access"),
    filter("data.status", ">=", "500"),
    filter("data.status", "<", "600"),
    filter("source", "!=", "shop"),
    filter("userid", "there"),
    filter("subject", "missing"),
  ];
  expect(queryOf(" a b ", filters, [{ range: { time: {} } }])).toEqual({
    bool: {
      must: [{ query_string: { query: "a b", default_operator: "and" } }],
      filter: [
        { range: { time: {} } },
        { term: { type: "http.access" } },
        { range: { "data.status": { gte: "500" } } },
        { range: { "data.status": { lt: "600" } } },
        { exists: { field: "userid" } },
      ],
      must_not: [{ term: { source: "shop" } }, { exists: { field: "subject" } }],
    },
  });
});

test.each(["", " ", "*"])("%j finds everything", (text) => {
  expect(queryOf(text, [])).toEqual({ bool: { must: [{ match_all: {} }], filter: [], must_not: [] } });
});

test("conditions are read from an address, and nonsense is not", () => {
  const read = readFilters([
    { field: "type", is: "=", value: "a" },
    { field: "data.status", is: ">=", value: 500 },
    { field: "", is: "=", value: "a" },
    { field: "x", is: "drop table", value: "a" },
    null,
    "type=a",
  ]);
  expect(read).toEqual([filter("type", "=", "a"), filter("data.status", ">=", "500")]);
  expect(readFilters("type")).toEqual([]);
});

test("a condition is there once", () => {
  const filters = [filter("type", "=", "a")];
  expect(withFilter(filters, filter("type", "=", "a"))).toEqual(filters);
  expect(withFilter(filters, filter("type", "!=", "a"))).toHaveLength(2);
});

test("text that is found by words has its exact value beside", () => {
  const worded = new Set(["data.nickname"]);
  expect([exactField("data.nickname", worded), exactField("data.status", worded)]).toEqual([
    "data.nickname.keyword",
    "data.status",
  ]);
});
