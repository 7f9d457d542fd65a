import { expect, test } from "vitest";
import { freshnessOf } from "./live.ts";

const good = (dataUpdatedAt: number) => ({ dataUpdatedAt, error: null, isPending: dataUpdatedAt === 0 });

test("a page is as fresh as the stalest of its values", () => {
  expect(freshnessOf([good(30), good(20)])).toEqual({ state: "live", at: 20 });
});

test("a page that still waits for something says so", () => {
  expect(freshnessOf([good(30), good(0)])).toEqual({ state: "waiting" });
});

test("one question without an answer makes the page stale since its oldest value", () => {
  const error = new Error("away");
  expect(freshnessOf([good(30), { ...good(20), error }])).toEqual({ state: "stale", since: 20, error });
  expect(freshnessOf([{ ...good(0), error }])).toEqual({ state: "stale", since: null, error });
});
