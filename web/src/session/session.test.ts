import { expect, test } from "vitest";
import { type Member, mayAct, type Role } from "./session.ts";

const member = (role: Role): Member => ({ id: "m", email: "", name: "", role, created_at: "" });

test.each([
  ["viewer", "viewer", true],
  ["viewer", "editor", false],
  ["editor", "editor", true],
  ["editor", "admin", false],
  ["admin", "admin", true],
] as const)("a member who is %s is offered what takes %s: %s", (role, needed, offered) => {
  expect(mayAct({ kind: "member", member: member(role) }, needed)).toBe(offered);
});

test("a key is offered everything, nobody nothing", () => {
  expect(mayAct({ kind: "key" }, "admin")).toBe(true);
  expect(mayAct(null, "viewer")).toBe(false);
});
