import { expect, test } from "vitest";
import { csvOf } from "./csv.ts";

const one = (value: unknown) => csvOf(["a"], [[value]]).split("\r\n")[1];

test("rows become lines that Excel reads as UTF-8", () => {
  expect(
    csvOf(
      ["a", "b"],
      [
        [1, "김"],
        [null, true],
      ],
    ),
  ).toBe("\ufeffa,b\r\n1,김\r\n,true\r\n");
});

test.each([
  ["a,b", '"a,b"'],
  ['say "hi"', '"say ""hi"""'],
  ["two\nlines", '"two\nlines"'],
  [{ x: 1 }, '"{""x"":1}"'],
])("%j is quoted", (value, text) => expect(csvOf(["a"], [[value]])).toBe(`\ufeffa\r\n${text}\r\n`));

test.each(["=1+1", "+1", "-1+cmd", "@SUM(A1)", "＝1", " =1", "\t=1"])("%j cannot become a formula", (value) => {
  expect(one(value)?.replace(/^"/, "")).toMatch(/^'/);
});

test("a formula behind quotation marks cannot become one either", () => {
  expect(one('"=1')).toBe(`"'""=1"`);
});

test("the name of a column can be hostile too", () => {
  expect(csvOf(["=cmd"], [])).toBe("\ufeff'=cmd\r\n");
});

test("a negative number stays a number", () => expect(one(-5)).toBe("-5"));
