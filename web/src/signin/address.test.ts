import { expect, test } from "vitest";
import { isOwnPath, readSignInSearch, tokenOf } from "./address.ts";

test.each(["/monitor", "/explore?q=a&b=//c", "/"])("%s is ours", (path) => expect(isOwnPath(path)).toBe(true));

test.each(["//evil.example", "/\\evil.example", "https://evil.example", "javascript:alert(1)", "", "/\t/evil.example"])(
  "%s is not",
  (path) => expect(isOwnPath(path)).toBe(false),
);

test("a foreign next is forgotten", () => {
  expect(readSignInSearch({ next: "//evil.example" })).toEqual({});
  expect(readSignInSearch({ next: "/explore" })).toEqual({ next: "/explore" });
});

test("the link's token is read from behind the #", () => {
  expect(tokenOf("#link=abc-_1")).toBe("abc-_1");
  expect(tokenOf("#link=")).toBeNull();
  expect(tokenOf("")).toBeNull();
});
