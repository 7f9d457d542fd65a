import { expect, test } from "vitest";
import type { Role, Session } from "../session/session.ts";
import { roomsFor } from "./rooms.ts";

const member = (role: Role): Session => ({
  kind: "member",
  member: { id: "m", email: "", name: "", role, created_at: "" },
});
const names = (session: Session | null) => roomsFor(session).map((room) => room.name);

test("who may do nothing else has an account, and sees how long things are kept", () => {
  expect(names(member("viewer"))).toEqual(["retention", "account"]);
});

test("an editor repairs and brings back", () => {
  expect(names(member("editor"))).toEqual(["channels", "quarantine", "deadLetters", "retention", "account"]);
});

test("an admin has all rooms, a key all but the account, nobody none", () => {
  expect(names(member("admin"))).toHaveLength(9);
  expect(names({ kind: "key", scope: "admin" })).not.toContain("account");
  expect(names({ kind: "key", scope: "read" })).toEqual(["retention"]);
  expect(names(null)).toEqual([]);
});
