import { expect, test } from "vitest";
import type { Role, Session } from "../session/session.ts";
import { roomsFor } from "./rooms.ts";

const member = (role: Role): Session => ({
  kind: "member",
  member: { id: "m", email: "", name: "", role, created_at: "" },
});
const names = (session: Session | null) => roomsFor(session).map((room) => room.name);

test("who may do nothing else has an account", () => {
  expect(names(member("viewer"))).toEqual(["account"]);
});

test("an editor repairs and brings back", () => {
  expect(names(member("editor"))).toEqual(["quarantine", "deadLetters", "account"]);
});

test("an admin has all rooms, a key all but the account, nobody none", () => {
  expect(names(member("admin"))).toHaveLength(7);
  expect(names({ kind: "key" })).not.toContain("account");
  expect(names(null)).toEqual([]);
});
