import { expect, test } from "vitest";
import { brief, leaves, webAddress } from "./json.ts";

test("data in short", () => {
  expect(brief({ status: 404, path: "/a b", ok: true, none: null, list: [1, 2], empty: "" })).toBe(
    'status=404 path="/a b" ok=true list=[1,2] empty=""',
  );
  expect(brief("x".repeat(400), 10)).toBe(`${"x".repeat(10)}…`);
  expect([brief(null), brief(7), brief([1])]).toEqual(["", "7", "[1]"]);
});

test("leaves by their paths", () => {
  expect(leaves({ id: "a", data: { n: { x: 1 }, list: [1] } })).toEqual([
    ["id", "a"],
    ["data.n.x", 1],
    ["data.list", [1]],
  ]);
});

test.each([
  "javascript:alert(1)",
  "JaVaScRiPt:alert(1)",
  " https://a.example",
  "data:text/html,x",
  "//a.example",
  "https://",
  "vbscript:x",
  7,
  null,
])("%j is no link", (value) => expect(webAddress(value)).toBeNull());

test("http and https are links", () => {
  expect(webAddress("https://a.example/x?y=<b>")).toBe("https://a.example/x?y=%3Cb%3E");
  expect(webAddress("HTTP://a.example")).toBe("http://a.example/");
});
