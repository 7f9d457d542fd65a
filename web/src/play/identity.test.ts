import { expect, test } from "vitest";
import { cleanNickname, NICKNAME_LENGTH, randomId } from "./identity.ts";

test("ids are UUIDs of version 4, each another", () => {
  const ids = Array.from({ length: 100 }, randomId);
  for (const id of ids) expect(id).toMatch(/^[\da-f]{8}-[\da-f]{4}-4[\da-f]{3}-[89ab][\da-f]{3}-[\da-f]{12}$/);
  expect(new Set(ids).size).toBe(100);
});

test.each([
  ["  a \n b  ", "a b"],
  ["a\u202eb\u200b\u0000", "ab"],
  ["김 서방", "김 서방"],
  ["", ""],
])("nickname %j becomes %j", (given, clean) => expect(cleanNickname(given)).toBe(clean));

test("a long nickname is cut between characters, not through them", () => {
  expect(cleanNickname("😀".repeat(30))).toBe("😀".repeat(NICKNAME_LENGTH));
});
