import { QueryClient } from "@tanstack/react-query";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { storeKey } from "./key.ts";
import { type Member, mayAct, type Role, sessionQuery } from "./session.ts";

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

test.each([
  ["write", "viewer", false],
  ["read", "viewer", true],
  ["read", "editor", false],
  ["admin", "admin", true],
  [null, "admin", true],
] as const)("a key of scope %s is offered what takes %s: %s", (scope, needed, offered) => {
  expect(mayAct({ kind: "key", scope }, needed)).toBe(offered);
});

test("nobody is offered nothing", () => expect(mayAct(null, "viewer")).toBe(false));

describe("who is signed in", () => {
  const fetched = vi.fn<typeof fetch>();
  const ask = () => new QueryClient().fetchQuery(sessionQuery);
  beforeEach(() => vi.stubGlobal("fetch", fetched));
  afterEach(() => {
    vi.unstubAllGlobals();
    fetched.mockReset();
    storeKey(null);
  });

  test.each([
    [200, { member: null }, null],
    [200, { member: member("editor") }, { kind: "member", member: member("editor") }],
    [401, {}, null],
    [404, {}, null],
  ])("by a cookie, where the server answers %i %j", async (status, body, session) => {
    fetched.mockResolvedValueOnce(Response.json(body, { status }));
    expect(await ask()).toEqual(session);
    expect(fetched.mock.lastCall?.[0]).toBe("/v1/sessions/current");
  });

  test.each([
    [200, { id: "k", scope: "read" }, { kind: "key", scope: "read" }],
    [401, {}, null],
    [404, {}, { kind: "key", scope: null }],
  ])("by a key, where the server answers %i %j", async (status, body, session) => {
    storeKey("sk_1");
    fetched.mockResolvedValueOnce(Response.json(body, { status }));
    expect(await ask()).toEqual(session);
    expect(fetched.mock.lastCall?.[0]).toBe("/v1/keys/current");
  });

  test("a server that is away is no answer", async () => {
    fetched.mockResolvedValueOnce(new Response("", { status: 503 }));
    await expect(ask()).rejects.toThrow();
  });
});
