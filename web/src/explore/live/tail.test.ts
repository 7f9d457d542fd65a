import { expect, test } from "vitest";
import type { Hit } from "../../api/search.ts";
import { Tail } from "./tail.ts";

const hit = (id: string, second: number): Hit => {
  const at = new Date(second * 1_000).toISOString();
  return { _index: "i", _id: id, _source: { id, source: "s", type: "t", time: at, receivedtime: at } };
};
const ids = (hits: Hit[]) => hits.map((h) => h._id);

test("each event is shown once, however often it is found", () => {
  const tail = new Tail(undefined, []);
  expect(ids(tail.take([hit("b", 102), hit("a", 100)]))).toEqual(["b", "a"]);
  expect(ids(tail.take([hit("c", 103), hit("b", 102), hit("a", 100)]))).toEqual(["c"]);
});

test("an event that becomes findable late is shown", () => {
  const tail = new Tail(undefined, []);
  tail.take([hit("b", 102)]);
  expect(ids(tail.take([hit("b", 102), hit("late", 99)]))).toEqual(["late"]);
});

test("the first question has no lower bound, the next looks a little back", () => {
  const tail = new Tail("a", []);
  expect(JSON.stringify(tail.question())).not.toContain("range");
  tail.take([hit("b", 102)]);
  expect(JSON.stringify(tail.question())).toContain('"gte":"1970-01-01T00:01:37.000Z"');
});

test("an empty store is followed too", () => {
  const tail = new Tail(undefined, []);
  expect(tail.take([])).toEqual([]);
  expect(JSON.stringify(tail.question())).toContain("range");
  expect(ids(tail.take([hit("a", 100)]))).toEqual(["a"]);
});
